"""Every loss of LOSSES at every setting, held against its definition by the one engine."""

import inspect
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxce.losses import Loss
from jaxce.verification import samples
from jaxce.verification.convexity import convexity
from jaxce.verification.engine import Check, Examination, attempt

WIDE = ("float32", "float64")
FAR_BELOW = -4e4  # below every logit of the samples, by more than any dtype's range
DTYPES = (*WIDE, "bfloat16", "float16")


class Labelled(NamedTuple):
    """Labels, and options of a definition, which rounding reaches as it does labels."""

    labels: np.ndarray
    options: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Finding:
    """What one check of a loss found.

    Attributes:
        loss: The loss's name.
        setting: Its options, where they differ from the defaults.
        dtype: The dtype of the inputs.
        check: The largest error of one comparison, its limit, and where it is.
    """

    loss: str
    setting: str
    dtype: str
    check: Check


def verify_loss(loss: Loss, dtype: str, *, thorough: bool = True) -> list[Finding]:
    """The largest errors of a loss in one dtype, at its default options and at each of its cases.

    Args:
        loss: What to verify; everything about it is read from this record.
        dtype: Of the inputs: float32, float64, bfloat16 or float16.
        thorough: More points of each kind, and few and many classes too.

    Returns:
        One finding for each setting and check.
    """
    # half precision is converted to float32, and what follows knows nothing of it: two settings show that
    settings = ({}, *loss.cases) if dtype in WIDE else ({}, *loss.cases[-1:])
    return [each for case in settings for each in verify_setting(loss, case, dtype, thorough=thorough)]


def verify_setting(loss: Loss, case: Mapping[str, Any], dtype: str, *, thorough: bool = True) -> list[Finding]:
    """The same at one setting of the options."""
    rng = np.random.default_rng(zlib.crc32(loss.name.encode()))
    worst: dict[str, Check] = {}
    for num_classes in samples.class_counts(case, few_and_many=thorough and not case and dtype == "float32"):
        checks = partial(_checks, loss, case, num_classes, jnp.dtype(dtype), rng, thorough)
        for check in attempt("runs", checks):
            keep_worst(worst, check)
    setting = ", ".join(f"{name}={value}" for name, value in case.items())
    return [Finding(loss.name, setting, dtype, check) for check in worst.values()]


def keep_worst(worst: dict[str, Check], check: Check) -> None:
    """Enter a check if it is worse than the one of its name."""
    known = worst.get(check.name)
    if known is None or (check.ok, -check.error / (check.limit or 1)) < (
        known.ok,
        -known.error / (known.limit or 1),
    ):
        worst[check.name] = check


def _checks(
    loss: Loss, case: Mapping[str, Any], num_classes: int, dtype: Any, rng: np.random.Generator, thorough: bool
) -> list[Check]:
    per_kind = 2 if thorough and num_classes <= samples.FEW else 1
    tame = samples.tame(loss.inputs, rng, 2 * per_kind, num_classes)
    hostile = samples.hostile(loss.inputs, rng, per_kind, num_classes)
    x, y = samples.with_labels(loss, np.concatenate([tame, hostile]), rng, dtype)
    points = [(x, y, sizes_of(loss, x))]
    if loss.inputs == "logits" and loss.returns == "losses":
        rows, labels = samples.hard(loss, num_classes, dtype)
        # of these tiny losses nothing counts as unknown: the specification names them
        sizes = sizes_of(loss, rows) if case else np.zeros(rows.shape)
        if samples.by_rows(loss) and not case.get("label_smoothing"):
            more, of_more = samples.masked(loss, rng, num_classes, dtype)
            rows, labels = np.concatenate([rows, more]), np.concatenate([labels, of_more])
            sizes = np.concatenate([sizes, sizes_of(loss, more)])
        if num_classes <= samples.FEW:
            points.append((rows, labels, sizes))
    value, grad = (lambda x, y, f=f: f(x, y.labels) for f in samples.functions(loss, case))
    options, truth = options_of(loss, case, dtype), definition_of(loss, case, dtype)
    checks = []
    for rows, labels, sizes in points:
        examination = Examination(
            value,
            rows,
            Labelled(labels, options),
            truth,
            rng,
            is_own=False,
            whole=loss.inputs == "features",
            sizes=sizes,
            # the definition has 0·log 0 at −∞; far enough below, its sums are the same to many digits
            stand_in=np.maximum(rows.astype(np.float64), FAR_BELOW),
            grads={"closed form": grad},
        )
        checks += examination.checks_of_rounding(["reverse", "forward"])
    if dtype == np.float64 and num_classes <= samples.FEW:
        few, labels = samples.with_labels(loss, tame[:2], rng, dtype)
        smooth = Examination(value, few, Labelled(labels, options), truth, rng, is_own=False)
        checks += smooth.differences() + smooth.second_derivatives(["reverse", "forward"])
        if not case and loss.convex is not None:
            checks.append(convexity(loss, rng))
    return checks


def sizes_of(loss: Loss, x: np.ndarray) -> np.ndarray:
    """Of which size inputs count as unknown by an ulp: a twentieth of their own.

    A row of logits means the same when they are all shifted. So a logit is as large as its distance from the
    largest. It and a log-probability are no smaller than 1, which is what rounding an exponential amounts to.
    """
    sizes = np.abs(x.astype(np.float64))
    if loss.inputs == "log_probs":
        sizes = np.maximum(sizes, 1)
    if loss.inputs == "logits" and samples.by_rows(loss):
        with np.errstate(invalid="ignore"):
            sizes = np.maximum(x.max(-1, keepdims=True).astype(np.float64) - x.astype(np.float64), 1)
    return sizes / 20


def options_of(loss: Loss, case: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """The options of the definition at a setting, as a loss that computes in float32 at least rounds them."""
    takes = inspect.signature(loss.definition).parameters
    wide = jnp.promote_types(dtype, jnp.float32)
    return {
        name: np.asarray(value, wide)
        for name, value in {**loss.options, **case}.items()
        if name in takes and value is not None and name not in loss.static
    }


def definition_of(loss: Loss, case: Mapping[str, Any], dtype: Any) -> Callable[[Any, Any], Any]:
    """The definition at a setting, for batches: `truth(inputs, Labelled(labels, options))`."""
    static = {name: value for name, value in {**loss.options, **case}.items() if name in loss.static}

    def of_example(x: Any, label: Any, options: Mapping[str, Any]) -> Any:
        kernel = [jnp.asarray(samples.kernel_for(x, dtype))] if loss.inputs == "features" else []
        labels = () if loss.labels == "none" else (label,)
        return loss.definition(x, *kernel, *labels, **options, **static)

    def of_batch(x: Any, y: Labelled) -> Any:
        if samples.by_rows(loss):
            return jax.vmap(of_example, (0, 0, None))(x, y.labels, y.options)
        # an option with one number for each class has one for a component
        axes = {name: 0 if np.ndim(value) else None for name, value in y.options.items()}
        of_row = jax.vmap(of_example, (0, 0, axes))
        return jax.vmap(of_row, (0, 0, None))(x, y.labels, y.options)

    return of_batch
