"""What to sweep: FIELD=SPEC, read into Optuna's distribution of the values of a field."""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args, get_type_hints

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from jaxce.lab.config import HEAD_OPTIONS, LOSS_OPTIONS, TRAINABLE_LOSSES, Config, has_type
from jaxce.lab.errors import ConfigError, choose, did_you_mean, in_words
from jaxce.losses import LOSSES

GRAMMAR = """\
  a,b,c           these values; None among them where the field may be None; widths as 16x32x64,32x64x128
  lo..hi          whole numbers from lo to hi, or numbers in between, for a sampler to choose from
  lo..hi:log      the same, evenly by their logarithm
  lo..hi:5        5 values, evenly spaced, both ends among them; lo..hi:log:5 by their logarithm
  range:lo:hi:by  lo, lo + by, lo + 2 by, ... up to hi
  seeds:4         0, 1, 2, 3"""

# Names that are short enough to type, beside those of jaxce.LOSSES.
SHORT_LOSSES = {
    "softmax": "softmax_cross_entropy_with_integer_labels",
    "sigmoid": "sigmoid_binary_cross_entropy",
    "focal": "softmax_focal_loss",
    "poly": "poly_loss_cross_entropy",
    "asymmetric": "asymmetric_loss",
}

SHORT_NAMES: Mapping[Any, str] = {name: short for short, name in SHORT_LOSSES.items()}

TYPES: Mapping[str, Any] = get_type_hints(Config)


Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
Space = dict[str, Distribution]


def parse_space(items: Sequence[str]) -> Space:
    """Read FIELD=SPEC items, in the grammar of `GRAMMAR`; widths stay text, which an Optuna storage can hold.

    Raises:
        ConfigError: A field that the config does not have or that comes twice, or a SPEC that does not fit it.

    >>> parse_space(["learning_rate=1e-3,1e-2"])
    {'learning_rate': CategoricalDistribution(choices=(0.001, 0.01))}
    """
    space: Space = {}
    for item in items:
        field, equals, spec = item.partition("=")
        field = field.removeprefix("--").replace("-", "_")
        if not equals:
            raise ConfigError(f"--over takes FIELD=SPEC, as in learning_rate=1e-3,1e-2, not {item!r}")
        if field not in TYPES:
            raise ConfigError(f"--over: the config has no field {field!r}{did_you_mean(field, TYPES)}")
        if field in space:
            raise ConfigError(f"--over has {field} twice: give all its values in one SPEC")
        space[field] = parse_spec(field, spec)
    return space


def parse_spec(field: str, spec: str) -> Distribution:
    """Read one SPEC for a field of the config.

    >>> parse_spec("learning_rate", "1e-4..1e-2:log:3").choices
    (0.0001, 0.001, 0.01)
    >>> parse_spec("epochs", "range:10:30:10").choices
    (10, 20, 30)
    """
    if spec.startswith("seeds:"):
        if "seed" not in field:
            raise ConfigError(f"seeds: is for seed and split_seed, not for {field}")
        if not re.fullmatch(r"[1-9]\d*", count := spec.removeprefix("seeds:")):
            raise ConfigError(f"{field}={spec}: how many seeds? as in seeds:4")
        return CategoricalDistribution(range(int(count)))
    if spec.startswith("range:"):
        return CategoricalDistribution(arithmetic(field, spec))
    if ".." in spec:
        return interval(field, spec)
    values = dict.fromkeys(parse_value(field, text) for text in spec.split(","))
    return CategoricalDistribution([show(each) if isinstance(each, tuple) else each for each in values])


def parse_value(field: str, text: str) -> Any:
    """One value of a field."""
    if field == "loss":
        choose("loss", name := SHORT_LOSSES.get(text, text), [*TRAINABLE_LOSSES, *SHORT_LOSSES])
        return name
    if field == "widths" and re.fullmatch(r"\d+(x\d+)*", text):
        return tuple(map(int, text.split("x")))
    kind = TYPES[field]
    readings: list[Any] = [text] if text else []
    with suppress(ValueError, SyntaxError, TypeError):
        value = ast.literal_eval(text)
        readings.insert(0, float(value) if type(value) is int and not is_number(field, whole=True) else value)
    for value in readings:
        if has_type(value, kind):
            return value
    as_in = " with x between them, as in 16x32" if field == "widths" else ""
    raise ConfigError(f"--over: {field} takes {in_words(kind)}{as_in}, not {text!r}")


def show(value: Any) -> str:
    """A value of a setting, short.

    >>> show("softmax_focal_loss")
    'focal'
    """
    if isinstance(value, tuple | list):
        return "x".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else SHORT_NAMES.get(value, str(value))


def is_number(field: str, *, whole: bool = False) -> bool:
    """Whether a field holds numbers; with `whole`, only whole ones."""
    kinds = get_args(TYPES[field]) or (TYPES[field],)
    return int in kinds or (float in kinds and not whole)


def end_of(field: str, text: str) -> float:
    """One end of an interval or range, which None cannot be."""
    value = parse_value(field, text)
    if not is_number(field) or value is None or not math.isfinite(value):
        raise ConfigError(
            f"--over: {field} has no range: it takes {in_words(TYPES[field])}, so list its values"
        )
    return value


def arithmetic(field: str, spec: str) -> tuple[float, ...]:
    """The values of range:lo:hi:by, as exact as they are written."""
    parts = spec.split(":")[1:]
    if len(parts) != 3:
        raise ConfigError(f"{field}={spec}: a range is range:lo:hi:by, as in range:0:1:0.1")
    low, high, by = (Decimal(str(end_of(field, text))) for text in parts)
    if by <= 0 or low > high:
        raise ConfigError(f"{field}={spec}: a range goes up, by a step above 0")
    kind = int if is_number(field, whole=True) else float
    return tuple(kind(low + i * by) for i in range(int((high - low) / by) + 1))


def interval(field: str, spec: str) -> Distribution:
    """An interval, or the points of it that `:N` asks for."""
    ends, *options = spec.split(":")
    low, high = (end_of(field, text) for text in ends.split("..", 1))
    log = options[:1] == ["log"]
    count = options[log:]
    if len(count) > 1 or not all(re.fullmatch(r"[1-9]\d*", text) for text in count):
        raise ConfigError(f"{field}={spec}: behind lo..hi goes :log, a number of values as in :5, or :log:5")
    if low >= high or (log and low <= 0):
        raise ConfigError(f"{field}={spec}: the lower end comes first{', and a log needs it above 0' * log}")
    whole = is_number(field, whole=True)
    if not count:
        return IntDistribution(int(low), int(high), log) if whole else FloatDistribution(low, high, log)
    points = (np.geomspace if log else np.linspace)(low, high, int(count[0])).tolist()
    # geomspace gives 0.0010000000000000002 where 0.001 is meant.
    points = [round(point) if whole else float(f"{point:.12g}") for point in points]
    return CategoricalDistribution(tuple(dict.fromkeys(points)))


def apply(base: Config, values: Mapping[str, Any]) -> Config:
    """`base` with the values of one setting.

    Where the loss, or the head, is swept too, options that it does not take are left out with it.

    Raises:
        ConfigError: The values do not fit the config or each other.

    >>> apply(Config(label_smoothing=0.1), {"loss": "softmax_focal_loss"}).label_smoothing is None
    True
    """
    values = dict(values)
    if isinstance(widths := values.get("widths"), str):
        values["widths"] = parse_value("widths", widths)
    for field, options in (("loss", LOSS_OPTIONS), ("head", HEAD_OPTIONS)):
        if field in values:
            takes = LOSSES[values[field]].options if values[field] is not None else ()
            values |= {name: None for name in options if name not in takes}
    return replace(base, **values)
