"""`jaxce conform`: anybody's implementation of a loss, held to what the losses of jaxce are held to."""

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxce.losses import LOSSES, Loss
from jaxce.verification import samples
from jaxce.verification.checks import Check, attempt, relative
from jaxce.verification.engine import SECOND, Examination
from jaxce.verification.implementations import Implementation, implementation_of
from jaxce.verification.suite import against_limits, examination, limits_at_infinity, sizes_of

CLASSES = samples.FEW
MANY_CLASSES = 300  # more than a byte can count
NUM_DEVICES = 4
CLOSE = 1e-5  # relative, of numbers that are the same but for rounding in float32

# Losses of inputs and labels alone, one a row or component: what others implement.
LIKE = {name: loss for name, loss in LOSSES.items() if loss.returns == "losses" and loss.labels != "none"}


Cases = Iterator[Check]


@dataclass(frozen=True)
class Result:
    """What one case of an area found.

    Attributes:
        area: One of AREAS.
        check: The case by name, its largest error, the limit, and what is wrong.
    """

    area: str
    check: Check


@dataclass(frozen=True)
class Trial:
    """An implementation and the loss of jaxce whose definition it should follow."""

    implementation: Implementation
    loss: Loss

    @property
    def rng(self) -> np.random.Generator:
        """A new one each time, seeded by the loss: every implementation of it is tried at the same points."""
        return np.random.default_rng(zlib.crc32(self.loss.name.encode()))

    @cached_property
    def fast(self) -> Implementation:
        """Under jit, unless it cannot be compiled."""
        try:
            self.implementation.compiled.value(*self.points("tame", np.float32))
        except Exception:  # the area "jit" says which
            return self.implementation
        return self.implementation.compiled

    @property
    def by_rows(self) -> bool:
        """Whether there is a loss for each row."""
        return samples.by_rows(self.loss)

    def points(self, kind: str, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of a kind: tame, hostile, certain or masked."""
        dtype = jnp.dtype(dtype)
        if kind == "certain":
            return samples.hard(self.loss, CLASSES, dtype)
        if kind == "masked":
            return samples.masked(self.loss, self.rng, CLASSES, dtype)
        rows = getattr(samples, kind)(self.loss.inputs, self.rng, 4, CLASSES)
        return samples.with_labels(self.loss, rows, self.rng, dtype)

    def examination(self, x: np.ndarray, y: np.ndarray, dtype: Any, *, exactly: bool = False) -> Examination:
        """The truth at points, and how far from it results of this dtype may be."""

        def of_dtype(x: Any, y: Any) -> Any:
            return jnp.zeros(x.shape[:1] if self.by_rows else x.shape, dtype)

        sizes = np.zeros(x.shape) if exactly else sizes_of(self.loss, x)
        return examination(self.loss, {}, of_dtype, x, y, self.rng, sizes=sizes, grads={})


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
    x, y = Trial(Implementation("", loss.value), loss).points("tame", np.float32)
    found = implementation_of(name, x, y, x.shape[:1] if samples.by_rows(loss) else x.shape)
    trial = Trial(found, loss)
    return found, [
        Result(area, check)
        for area, cases in AREAS.items()
        for check in attempt(area, partial(list, cases(trial)))
    ]


def case(name: str, find: Callable[..., Check], *args: Any) -> Check:
    """A check under the name of its case; what the implementation raises is what is wrong with it."""
    check = attempt(name, lambda: [find(*args)])[0]
    return Check(name, check.error, check.limit, check.note, check.unit)


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


# Masks and infinities.


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
    shape = x.shape[:1] if trial.by_rows else x.shape
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


def same(found: Callable[[], np.ndarray], right: Callable[[], np.ndarray]) -> Check:
    """Numbers that differ in nothing but how they were come by."""
    theirs, ours = found(), right()
    if theirs.shape != ours.shape:
        return Check("", math.inf, 0.0, f"the shape is {theirs.shape}, not {ours.shape}", "")
    return Check("", relative(theirs.astype(np.float64), ours.astype(np.float64)), CLOSE, "not the same", "")


def transformed(trial: Trial) -> Cases:
    """Of batches of examples and of batches."""
    x, y = trial.points("tame", np.float32)
    x, y = x[: len(x) // 2 * 2], y[: len(x) // 2 * 2]
    tried, vmap = trial.fast, trial.implementation.transforms.vmap
    value = partial(tried.value, x, y)
    ones = np.ones(x.shape[:1] if trial.by_rows else x.shape)

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
    if trial.implementation.library != "jax":
        return
    x, y = trial.points("tame", np.float32)
    eager, compiled = trial.implementation, trial.implementation.compiled
    ones = np.ones(x.shape[:1] if trial.by_rows else x.shape)
    yield case("values", same, partial(compiled.value, x, y), partial(eager.value, x, y))
    yield case("gradients", same, partial(compiled.reverse, x, y, ones), partial(eager.reverse, x, y, ones))


def sharded(trial: Trial) -> Cases:
    """Spread over devices and on one alike."""
    if trial.implementation.library != "jax" or jax.device_count() < NUM_DEVICES:
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


# Misuse.


RIGHT = Check("", 0.0, 0.0, "", "")


def refused(run: Callable[[], np.ndarray]) -> Check:
    """An error, and nothing else."""
    try:
        found = run()
    except Exception:
        return RIGHT
    return Check("", math.inf, 0.0, f"gives losses of shape {found.shape}, no error", "")


def no_number(run: Callable[[], np.ndarray]) -> Check:
    """An error, or NaN: what a mistake should give."""
    try:
        found = run().astype(np.float64)
    except Exception:
        return RIGHT
    if found.size and np.isnan(found).all():
        return RIGHT
    shown = np.array2string(found, precision=4, threshold=8)
    return Check("", math.inf, 0.0, f"gives {shown}, neither an error nor NaN", "")


def error_or(right: np.ndarray, run: Callable[[], np.ndarray]) -> Check:
    """An error, or what is meant."""
    try:
        found = run()
    except Exception:
        return RIGHT
    return same(lambda: found, lambda: right)


def misuse(trial: Trial) -> Cases:
    """Mistakes that should not give a number."""
    kinds = {"": trial.implementation}
    if trial.implementation.library == "jax":
        kinds[", jit"] = trial.implementation.compiled
    x, y = trial.points("tame", np.float32)
    right = trial.fast.value(x, y)
    for how, tried in kinds.items():
        for words, labels in wrong_labels(trial.loss, y):
            some, ones = x[: len(labels)], np.ones((len(labels), *right.shape[1:]))
            yield case(f"{words}{how}", no_number, partial(tried.value, some, labels))
            yield case(f"{words}, gradient{how}", no_number, partial(tried.reverse, some, labels, ones))
    tried = trial.implementation
    for words, inputs, labels in wrong_shapes(trial.loss, x, y):
        yield case(words, refused, partial(tried.value, inputs, labels))
    if trial.loss.labels == "integer":
        yield case("labels (N, 1)", error_or, right, lambda: tried.value(x, y[:, None]).reshape(-1))
        yield case("labels as floats", error_or, right, partial(tried.value, x, y.astype(np.float32)))
    if trial.loss.inputs == "logits":
        whole = np.round(3 * x).astype(np.int32)
        of_whole = trial.fast.value(whole.astype(np.float32), y)
        yield case("inputs as integers", error_or, of_whole, partial(tried.value, whole, y))
    yield case("inputs that are NaN", no_number, partial(tried.value, x[:2] * np.nan, y[:2]))


def wrong_labels(loss: Loss, y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Labels that mean nothing."""
    if loss.labels == "integer":
        yield "label C", np.full_like(y[:2], CLASSES)
        yield "label −1", np.full_like(y[:2], -1)
    elif loss.labels == "binary":
        yield "label 255", np.full_like(y[:2], 255)
        yield "label −1", np.full_like(y[:2], -1)
    elif loss.labels != "log_distribution":
        yield "labels that are NaN", np.full_like(y[:2], np.nan)


def wrong_shapes(loss: Loss, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Inputs and labels of which one does not fit the other."""
    yield "one label for N inputs", x, y[:1]
    yield "N + 1 inputs for N labels", np.concatenate([x, x[:1]]), y
    if y.ndim == 1:
        return
    yield "labels (N,) for inputs (N, C)", x, y[:, 0]
    if samples.by_rows(loss):
        yield "labels (N, 1) for inputs (N, C)", x, y[:, :1]
    else:
        yield "labels (N,) for inputs (N, 1)", x[:, :1], y[:, 0]


def label_types(trial: Trial) -> Cases:
    """Every dtype of whole numbers, with more classes than a byte can count."""
    tried = trial.fast
    if trial.loss.labels == "integer":
        x = trial.rng.normal(0, 2, (2, MANY_CLASSES)).astype(np.float32)
        y = np.array([3, 100])
        dtypes = ["int8", "uint8", "int16", "uint16", "int32", "uint32"]
    elif trial.loss.labels == "binary":
        x = trial.rng.normal(0, 2, (2, CLASSES)).astype(np.float32)
        y = np.array([[0, 1, 0, 0], [1, 0, 0, 1]])
        dtypes = ["bool", "int8", "uint8", "int32"]
    else:
        return
    floats = y if trial.loss.labels == "integer" else y.astype(np.float32)
    ones = np.ones(x.shape[:1] if trial.by_rows else x.shape, np.float32)
    right = np.concatenate([tried.value(x, floats).ravel(), tried.reverse(x, floats, ones).ravel()])

    def both(x: Any, y: Any, ones: Any) -> Any:
        value, back = tried.transforms.vjp(lambda x: tried.function(x, y), x)[:2]
        return {"value": value, "gradient": back(ones)[0]}

    def run(dtype: str) -> np.ndarray:
        found = tried.run(both, x, y.astype(dtype), ones)
        return np.concatenate([found["value"].ravel(), found["gradient"].ravel()])

    for dtype in dtypes:
        yield case(dtype, error_or, right, partial(run, dtype))


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
