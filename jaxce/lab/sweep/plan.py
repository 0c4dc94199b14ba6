"""Which settings there are, checked before anything runs; and which of them one program can run."""

import itertools
import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from jaxce.lab.config import HYPERPARAMS, Config
from jaxce.lab.errors import ConfigError
from jaxce.lab.sweep.proposals import draws
from jaxce.lab.sweep.space import SHORT_LOSSES, Choices, Dimension, Interval, apply, parse_space
from jaxce.losses import LOSSES

MOST_SETTINGS = 100_000
SHORT_NAMES = {name: short for short, name in SHORT_LOSSES.items()}


@dataclass(frozen=True)
class Plan:
    """One sweep: what is common to all processes that work on it.

    Attributes:
        name: What CONFIG was called.
        base: The config that settings are changes of.
        over: FIELD=SPEC items.
        sampler: `grid`, `random` or `tpe`.
        trials: How many settings the samplers propose; None for the grid.
        prune: Whether hopeless settings end early.
        metric: What settings are compared by on valid, the more the better.
    """

    name: str
    base: Config
    over: tuple[str, ...]
    sampler: str
    trials: int | None
    prune: bool
    metric: str

    @property
    def space(self) -> tuple[Dimension, ...]:
        """What is swept."""
        return parse_space(self.over)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what is swept."""
        return tuple(dimension.field for dimension in self.space)


def plan_of(found: Mapping[str, Any]) -> Plan:
    """The plan that `dataclasses.asdict` turned into JSON."""
    return Plan(**{**found, "base": Config(**found["base"]), "over": tuple(found["over"])})


def settings_of(plan: Plan) -> list[dict[str, Any]]:
    """The values of each setting, by field; of `tpe`, which proposes later, empty ones.

    Those of a grid that have one config are one; they come group by group.

    Raises:
        ConfigError: Some values do not fit the config or each other.
    """
    if plan.sampler == "grid":
        settings = grid(plan.space)
    else:
        assert plan.trials is not None
        settings = draws(plan.space, plan.trials)
        if plan.sampler == "tpe":
            check(plan.base, [*settings, *corners(plan.space)])
            return [{} for _ in settings]
    configs = check(plan.base, settings)
    if plan.sampler == "random":
        return settings
    unique: dict[Config, dict[str, Any]] = {}
    for config, setting in zip(configs, settings, strict=True):
        unique.setdefault(config, setting)
    groups = {program_of(config): None for config in configs}
    order = {program: place for place, program in enumerate(groups)}
    ordered = sorted(unique, key=lambda config: order[program_of(config)])
    return [unique[config] for config in ordered]


def grid(space: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Every combination, the last field's values changing fastest."""
    values = []
    for dimension in space:
        if isinstance(dimension, Interval):
            if not dimension.whole:
                ends = f"{dimension.low:g}..{dimension.high:g}{':log' * dimension.log}"
                raise ConfigError(
                    f"{dimension.field}={ends} is no list for a grid: say how many values, as in {ends}:5, or "
                    f"let a sampler choose with --trials"
                )
            values.append(tuple(range(int(dimension.low), int(dimension.high) + 1)))
        else:
            values.append(dimension.values)
    count = math.prod(map(len, values))
    if count > MOST_SETTINGS:
        raise ConfigError(f"a grid of {count:,} settings: let a sampler choose some with --trials")
    fields = [dimension.field for dimension in space]
    return [dict(zip(fields, each, strict=True)) for each in itertools.product(*values)]


def check(base: Config, settings: Sequence[Mapping[str, Any]]) -> list[Config]:
    """The config of each setting; ConfigError names the setting that has none."""
    configs = []
    for setting in settings:
        try:
            configs.append(apply(base, setting))
        except ConfigError as error:
            raise ConfigError(f"setting {describe(setting)}: {error}") from error
    return configs


def corners(space: Sequence[Dimension]) -> list[dict[str, Any]]:
    """The first value of each field, and with them every other value, or other end, of one field."""
    values = {each.field: each.values if isinstance(each, Choices) else (each.low, each.high) for each in space}
    first = {field: each[0] for field, each in values.items()}
    return [first | {field: value} for field, each in values.items() for value in each]


def describe(setting: Mapping[str, Any]) -> str:
    """A setting in a few words.

    >>> describe({"learning_rate": 0.00123456, "widths": (8, 16), "seed": 1})
    'learning_rate=0.001235 widths=8x16 seed=1'
    """
    return " ".join(f"{field}={show(value)}" for field, value in setting.items())


def show(value: Any) -> str:
    """A value of a setting, short.

    >>> show("softmax_focal_loss")
    'focal'
    """
    if isinstance(value, str):
        return SHORT_NAMES.get(value, value)
    if isinstance(value, tuple | list):
        return "x".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def program_of(config: Config) -> Config:
    """What of a config shapes its compiled program: two configs with one such value run in one program.

    Numbers that enter the program as arguments are all alike here; whether they are None is not.

    >>> program_of(Config(learning_rate=0.1, seed=3)) == program_of(Config(label_smoothing=None))
    True
    >>> program_of(Config(label_smoothing=0.0)) == program_of(Config(label_smoothing=None))
    False
    """
    given = [name for name in HYPERPARAMS if getattr(config, name) is not None and not is_shape(config, name)]
    like = copy(config)
    # Not through replace: 0.5, the same for all, need not be in the range of each.
    for name, value in {**dict.fromkeys(given, 0.5), "seed": 0}.items():
        object.__setattr__(like, name, value)
    return like


def is_shape(config: Config, name: str) -> bool:
    """Whether a number cannot be traced: a margin that multiplies an angle a whole number of times."""
    return (
        name == "margin" and config.head is not None and isinstance(LOSSES[config.head].options["margin"], int)
    )
