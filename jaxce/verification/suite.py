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

from jaxce.ball_arithmetic import exact
from jaxce.losses import Loss
from jaxce.verification import samples
from jaxce.verification.checks import Check, attempt, keep_worst
from jaxce.verification.convexity import convexity
from jaxce.verification.engine import Examination
from jaxce.verification.tolerances import limits_of

WIDE = ("float32", "float64")
FAR_OUT = 4e4  # of logits: beyond those of the samples by more than the range of any exponential
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
    settings = ({}, *loss.cases)
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


def _checks(
    loss: Loss, case: Mapping[str, Any], num_classes: int, dtype: Any, rng: np.random.Generator, thorough: bool
) -> list[Check]:
    per_kind = 2 if thorough and num_classes <= samples.FEW else 1
    tame = samples.tame(loss.inputs, rng, 2 * per_kind, num_classes)
    hostile = samples.hostile(loss.inputs, rng, per_kind, num_classes)
    x, y = samples.with_labels(loss, np.concatenate([tame, hostile]), rng, dtype)
    value, grad = (lambda x, y, f=f: f(x, y.labels) for f in samples.functions(loss, case))

    def examine(x: np.ndarray, y: np.ndarray, sizes: np.ndarray) -> Examination:
        return examination(loss, case, value, x, y, rng, sizes=sizes, grads={"closed form": grad})

    points = [(x, y, sizes_of(loss, x))]
    of_logits = loss.inputs == "logits" and loss.returns == "losses" and num_classes <= samples.FEW
    if of_logits:
        hard, labels = samples.hard(loss, num_classes, dtype)
        # of these tiny losses nothing counts as unknown: the specification names them
        points.append((hard, labels, sizes_of(loss, hard) if case else np.zeros(hard.shape)))
        if samples.by_rows(loss) and not case.get("label_smoothing"):
            masked, labels = samples.masked(loss, rng, num_classes, dtype)
            points.append((masked, labels, sizes_of(loss, masked)))
    x, y, sizes = (np.concatenate(each) for each in zip(*points, strict=True))
    checks = examine(x, y, sizes).checks_of_rounding()
    if of_logits:
        if samples.by_rows(loss):
            if dtype in WIDE:  # in which half precision is computed
                checks.append(_of_nothing(loss, case, num_classes, dtype))
        else:
            checks += _at_infinity(loss, case, num_classes, dtype)
    if dtype == np.float64 and num_classes <= samples.FEW:
        x, y = samples.with_labels(loss, tame[:2], rng, dtype)
        smooth = examine(x, y, sizes_of(loss, x))
        checks += smooth.differences() + smooth.second_derivatives(forward=True)
        if not case and loss.convex is not None:
            checks.append(convexity(loss, rng))
    return checks


def examination(
    loss: Loss,
    case: Mapping[str, Any],
    value: Callable[[Any, Labelled], Any],
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    *,
    sizes: np.ndarray,
    grads: Mapping[str, Callable[[Any, Labelled], Any]],
) -> Examination:
    """Values of a loss at points, and derivatives of them, beside its definition at a setting."""
    return Examination(
        value,
        x,
        Labelled(y, options_of(loss, case, x.dtype, len(x))),
        definition_of(loss, case, x.dtype),
        rng,
        whole=loss.inputs == "features",
        sizes=sizes,
        # the definition has 0·log 0 at ±∞; far enough out, its sums are the same to many digits
        stand_in=np.clip(x.astype(np.float64), -FAR_OUT, FAR_OUT),
        grads=dict(grads),
    )


def _of_nothing(loss: Loss, case: Mapping[str, Any], num_classes: int, dtype: Any) -> Check:
    """A row whose classes are all masked costs 0, and has a gradient of 0."""
    found = _values_and_gradients(loss, case, *samples.all_masked(loss, num_classes, dtype))
    error = max(float(np.nan_to_num(np.abs(each), nan=np.inf).max()) for each in found)
    return Check("all masked", error, 0.0, f"value {found[0]}, gradients {found[1:]}", "")


def _at_infinity(loss: Loss, case: Mapping[str, Any], num_classes: int, dtype: Any) -> list[Check]:
    """At ±∞ values and gradients are those far out, or infinite where they grow on the way there."""
    x, y = samples.infinite(num_classes, dtype)
    value, *grads = _values_and_gradients(loss, case, x, y)
    right, slope = limits_at_infinity(loss, case, x, y)
    return [against_limits(value, right, x.dtype, 0), *(against_limits(g, slope, x.dtype, 1) for g in grads)]


def limits_at_infinity(
    loss: Loss, case: Mapping[str, Any], x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What values and gradients of components tend to."""
    truth, options = definition_of(loss, case, x.dtype), options_of(loss, case, x.dtype, len(x))

    def far_out(x: Any, y: Any, options: Any) -> Any:
        value, back = jax.vjp(lambda x: truth(x, Labelled(y, options)), x)
        return value, back(jnp.ones_like(value))[0]

    sides = np.sign(x.astype(np.float64))
    far, further = (
        [each.nearest() for each in exact(far_out)(size * sides, y.astype(np.float64), options)]
        for size in (2e3, 4e3)
    )
    grows = (np.abs(further[0]) > 1.5 * np.abs(far[0])) & (np.abs(far[0]) > 1)
    return np.where(grows, np.inf, further[0]), further[1]


def against_limits(found: np.ndarray, right: np.ndarray, dtype: Any, kind: int) -> Check:
    """Values (0) or gradients (1) at ±∞ beside what they tend to."""
    wide = jnp.promote_types(dtype, jnp.float32)
    limits = limits_of(dtype, wide, False)
    eps = float(jnp.finfo(dtype if kind else wide).eps)
    found = found.astype(np.float64)
    if kind:  # where that of the definition is no number nothing is known
        right = np.where(np.isnan(right), found, right)
    with np.errstate(invalid="ignore"):
        off = np.where(found == right, 0, np.abs(found - right) / np.maximum(np.abs(right), 1e-30))
    error = float(np.nan_to_num(off, nan=np.inf).max())
    limit = limits.gradient * eps if kind else limits.value * eps / 2
    return Check("infinite", error, limit, f"{found}, not {right}", "")


def _values_and_gradients(
    loss: Loss, case: Mapping[str, Any], x: np.ndarray, y: np.ndarray
) -> list[np.ndarray]:
    """The values, the closed form and reverse mode, in the dtype of the inputs, as float64."""
    value, grad = samples.functions(loss, case)

    @jax.jit
    def everything(x: Any, y: Any) -> Any:
        return value(x, y), grad(x, y), jax.grad(lambda x: value(x, y).sum())(x)

    with jax.enable_x64(x.dtype == np.float64):
        return [np.asarray(each).astype(np.float64) for each in everything(x, y)]


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


def options_of(loss: Loss, case: Mapping[str, Any], dtype: Any, count: int) -> dict[str, Any]:
    """The options of the definition at a setting, for each of `count` examples.

    They are rounded as a loss does that computes in float32 at least.
    """
    takes = inspect.signature(loss.definition).parameters
    wide = jnp.promote_types(dtype, jnp.float32)
    return {
        name: np.tile(np.asarray(value, wide), (count,) + (1,) * np.ndim(value))
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
            return jax.vmap(of_example)(x, y.labels, y.options)
        # an option with one number for each class has one for a component
        axes = {name: 0 if value.ndim > 1 else None for name, value in y.options.items()}
        return jax.vmap(jax.vmap(of_example, (0, 0, axes)))(x, y.labels, y.options)

    return of_batch
