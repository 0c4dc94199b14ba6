"""`jaxce conform`: anybody's implementation of a loss, held to what the losses of jaxce are held to."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxce.losses import LOSSES, Loss
from jaxce.verification import samples
from jaxce.verification.checks import Check, attempt, relative
from jaxce.verification.engine import SECOND
from jaxce.verification.implementations import Implementation, implementation_of
from jaxce.verification.misuse import label_types, misuse
from jaxce.verification.suite import against_limits, limits_at_infinity
from jaxce.verification.trial import CLASSES, CLOSE, Cases, Trial, case, same

NUM_DEVICES = 4

# Losses of inputs and labels alone, one a row or component: what others implement.
LIKE = {name: loss for name, loss in LOSSES.items() if loss.returns == "losses" and loss.labels != "none"}


@dataclass(frozen=True)
class Result:
    """What one case of an area found.

    Attributes:
        area: One of AREAS.
        check: The case by name, its largest error, the limit, and what is wrong.
    """

    area: str
    check: Check


def conform(name: str, like: str) -> tuple[Implementation, list[Result]]:
    """Try an implementation of a loss in every area.

    Args:
        name: MODULE:FUNCTION, a function of inputs and labels that gives a loss each.
        like: The loss of LIKE that it should be.

    Returns:
        What was found by the name, and the result of each case.

    Raises:
        ValueError: There is no such function, or it is of another kind.
    """
    loss = LIKE[like]
    own = Trial(Implementation("", loss.value), loss)
    x, y = own.points("tame", np.float32)
    found = implementation_of(name, x, y, own.shape_of(x))
    trial = Trial(found, loss)
    return found, [
        Result(area, check)
        for area, cases in AREAS.items()
        for check in attempt(area, partial(list, cases(trial)))
    ]


# Exactness.


def kinds_of(loss: Loss) -> tuple[str, ...]:
    """The kinds of points with finite inputs."""
    return ("tame", "hostile", "certain") if loss.inputs == "logits" else ("tame", "hostile")


def value_at(trial: Trial, kind: str, dtype: Any) -> Check:
    """Values at points of a kind."""
    x, y = trial.points(kind, dtype)
    found = trial.fast.value(x, y)
    exam = trial.examination(x, y, found.dtype, exactly=kind == "certain")
    return exam.compared("", found, 0, np.arange(found.size))


def gradient_at(trial: Trial, kind: str, dtype: Any) -> Check:
    """Gradients at points of a kind, of random cotangents."""
    x, y = trial.points(kind, dtype)
    exam = trial.examination(x, y, np.float32, exactly=kind == "certain")
    found = trial.fast.reverse(x, y, exam.cotangents)
    return exam.compared("", found, 1, np.arange(found.size))


def values(trial: Trial) -> Cases:
    """Values against the definition without rounding."""
    for kind in kinds_of(trial.loss):
        yield case(kind, value_at, trial, kind, np.float32)


def gradients(trial: Trial) -> Cases:
    """Gradients against the definition's."""
    for kind in kinds_of(trial.loss):
        yield case(kind, gradient_at, trial, kind, np.float32)


def half_precision(trial: Trial) -> Cases:
    """Both, of inputs in half precision."""
    for dtype in ("bfloat16", "float16"):
        yield case(f"values, {dtype}", value_at, trial, "tame", dtype)
        yield case(f"gradients, {dtype}", gradient_at, trial, "tame", dtype)


def infinities(trial: Trial) -> Cases:
    """Classes masked by −inf, or components at ±∞."""
    if trial.loss.inputs != "logits":
        return
    if trial.by_rows:
        yield case("values of masked classes", value_at, trial, "masked", np.float32)
        yield case("gradients of masked classes", gradient_at, trial, "masked", np.float32)
        yield case("slopes of masked classes", slopes_at, trial, "masked")
        return
    x, y = samples.infinite(CLASSES, np.float32)
    value, slope = limits_at_infinity(trial.loss, {}, x, y)

    def beside(right: np.ndarray, kind: int, run: Callable[..., np.ndarray], *args: np.ndarray) -> Check:
        return against_limits(run(*args), right, x.dtype, kind)

    yield case("values at ±∞", beside, value, 0, trial.fast.value, x, y)
    yield case("gradients at ±∞", beside, slope, 1, trial.fast.reverse, x, y, np.ones(x.shape))


# Derivatives.


def slopes_at(trial: Trial, kind: str) -> Check:
    """Slopes along directions that differ by example, beside the true gradient's."""
    x, y = trial.points(kind, np.float32)
    exam = trial.examination(x, y, np.float32)
    v = np.where(np.isfinite(x), trial.rng.choice([-1.0, -0.5, 0.5, 1.0], x.shape), 0)
    weighed = v / (exam.cotangents[:, None] if trial.by_rows else exam.cotangents)
    parts = exam.true.value_and_grad[1].nearest() * weighed
    unknown = exam.true.doubts(np.arange(len(x))).moved[1] * np.abs(weighed)
    allowed = CLOSE * np.abs(parts) + exam.limits.gradient * unknown
    if trial.by_rows:
        parts, allowed = parts.sum(-1), allowed.sum(-1)
    found = trial.fast.forward(x, y, v).astype(np.float64)
    with np.errstate(invalid="ignore"):
        errors = CLOSE * np.nan_to_num(np.abs(found - parts) / (allowed + exam.limits.smallest), nan=np.inf)
    worst = np.unravel_index(int(errors.argmax()), errors.shape)
    note = f"largest at inputs {x[worst[0]]}: {found[worst]:.9g}, not {parts[worst]:.9g}"
    return Check("", float(errors[worst]), CLOSE, note, "")


def cotangents(trial: Trial) -> Cases:
    """Gradients of weighed sums."""
    x, y = trial.points("tame", np.float32)
    shape = trial.shape_of(x)
    one = cache(lambda: trial.fast.reverse(x, y, np.ones(shape)))

    def scaled(by: np.ndarray) -> Check:
        right = one() * (by[:, None] if trial.by_rows else by)
        found = trial.fast.reverse(x, y, by)
        return Check("", relative(found, right), CLOSE, "the gradient is not that of the weighed sum", "")

    yield case("of each example", scaled, trial.rng.choice([-2.0, -0.5, 0.25, 4.0], shape))
    yield case("of their mean", scaled, np.full(shape, 1 / math.prod(shape)))
    yield case("of some examples", scaled, np.arange(math.prod(shape)).reshape(shape) % 3 * 1.0)


def forward_mode(trial: Trial) -> Cases:
    """Slopes by forward mode."""
    for kind in kinds_of(trial.loss)[:2]:
        yield case(kind, slopes_at, trial, kind)


def hessians(trial: Trial) -> Cases:
    """Second derivatives in float64, by every combination of modes."""
    x, y = trial.points("tame", np.float64)
    exam = trial.examination(x, y, np.float64)
    v = trial.rng.choice([-1.0, -0.5, 0.5, 1.0], x.shape)

    def hessian(way: str) -> Check:
        found = trial.fast.second(way, x, y, exam.cotangents, v)
        return exam.curvature(v, {way: found})

    for way in SECOND:
        yield case(way, hessian, way)


# Transformations.


def transformed(trial: Trial) -> Cases:
    """Of batches of examples and of batches."""
    x, y = trial.points("tame", np.float32)
    x, y = x[: len(x) // 2 * 2], y[: len(x) // 2 * 2]
    tried, vmap = trial.fast, trial.implementation.transforms.vmap
    value = partial(tried.value, x, y)
    ones = np.ones(trial.shape_of(x))

    def sums(x: Any, y: Any) -> Any:
        return tried.function(x, y).sum()

    def over_examples(function: Any) -> np.ndarray:
        return tried.run(vmap(function), x, tried.labelled(y))

    def over_batches() -> np.ndarray:
        pairs = (each.reshape(-1, 2, *each.shape[1:]) for each in (x, tried.labelled(y)))
        return tried.run(vmap(tried.function), *pairs).reshape(ones.shape)

    gradient = partial(tried.reverse, x, y, ones)
    yield case("over examples", same, partial(over_examples, tried.function), value)
    yield case("of gradients", same, partial(over_examples, tried.transforms.grad(sums)), gradient)
    yield case("over batches", same, over_batches, value)


def compiled(trial: Trial) -> Cases:
    """Compiled and eager alike."""
    if trial.implementation.framework != "jax":
        return
    x, y = trial.points("tame", np.float32)
    eager, compiled = trial.implementation, trial.implementation.compiled
    ones = np.ones(trial.shape_of(x))
    yield case("values", same, partial(compiled.value, x, y), partial(eager.value, x, y))
    yield case("gradients", same, partial(compiled.reverse, x, y, ones), partial(eager.reverse, x, y, ones))


def sharded(trial: Trial) -> Cases:
    """Spread over devices and on one alike."""
    if trial.implementation.framework != "jax" or jax.device_count() < NUM_DEVICES:
        return
    x, y = trial.points("tame", np.float32)
    x, y = x[: len(x) // NUM_DEVICES * NUM_DEVICES], y[: len(x) // NUM_DEVICES * NUM_DEVICES]
    function = trial.implementation.function

    def flat(value: Any, grad: Any) -> np.ndarray:
        return np.concatenate([np.ravel(value), np.ravel(grad)])

    def both(x: Any, y: Any) -> Any:
        value, back = jax.vjp(lambda x: function(x, y), x)
        return value, back(jnp.ones_like(value))[0]

    def spread(kind: AxisType, spec: PartitionSpec) -> np.ndarray:
        mesh = jax.make_mesh((NUM_DEVICES,), ("d",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            placed = [
                jax.device_put(each, NamedSharding(mesh, PartitionSpec(*spec[: each.ndim]))) for each in (x, y)
            ]
            return flat(*jax.jit(both)(*placed))

    def shards() -> np.ndarray:
        mesh = jax.make_mesh((NUM_DEVICES,), ("d",), axis_types=(AxisType.Auto,))
        spec = PartitionSpec("d")
        mapped = jax.shard_map(both, mesh=mesh, in_specs=(spec, spec), out_specs=(spec, spec))
        return flat(*jax.jit(mapped)(x, y))

    alone = cache(lambda: flat(*both(jnp.asarray(x), jnp.asarray(y))))
    examples, classes = PartitionSpec("d"), PartitionSpec(None, "d")
    for words, axes in (("automatic", AxisType.Auto), ("explicit", AxisType.Explicit)):
        yield case(f"{words} mesh, examples", same, partial(spread, axes, examples), alone)
        yield case(f"{words} mesh, classes", same, partial(spread, axes, classes), alone)
    yield case("shard_map", same, shards, alone)


AREAS: dict[str, Callable[[Trial], Cases]] = {
    "values": values,
    "gradients": gradients,
    "half precision": half_precision,
    "infinities": infinities,
    "cotangents": cotangents,
    "forward mode": forward_mode,
    "Hessians": hessians,
    "vmap": transformed,
    "jit": compiled,
    "sharding": sharded,
    "label types": label_types,
    "misuse": misuse,
}
