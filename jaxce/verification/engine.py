"""The engine: a loss and all its derivatives, held against what they are without rounding."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxce.ball_arithmetic.enclosures import Enclosures, ulp_at
from jaxce.ball_arithmetic.program import Program
from jaxce.verification.tolerances import CURVATURE, DIFFERENCES, Limits, limits_of

BatchLoss = Callable[[Any, Any], Array]

STEP = 2.0**-200  # of differences, in arithmetic without rounding
DIGITS = 20
MOST_ENTRIES = 1024  # of a gradient, in forward mode
MOST_NUMBERS = 2**22  # of all directions together
MOST_EXAMPLES = 16  # that are also tried one by one
DRAWS = 4  # of rounding errors of the arguments


@dataclass(frozen=True)
class Check:
    """One property of a loss.

    Attributes:
        name: Which.
        error: The largest error, in `unit`; infinite where a number was not one, or something was raised.
        limit: The largest that is right.
        note: Where the error is, or what went wrong.
        unit: "ulp", or "" for a relative error.
    """

    name: str
    error: float
    limit: float
    note: str = ""
    unit: str = "ulp"

    @property
    def ok(self) -> bool:
        """Whether the error is within its limit."""
        return self.error <= self.limit


@dataclass(frozen=True)
class Examination:
    """One loss at a batch of points.

    Attributes:
        loss: `loss(x, y)`, in whatever dtype x has.
        x: Inputs: examples along the first axis.
        y: Labels, any tree of arrays.
        truth: The same without mistakes, in plain JAX: the definition, or the loss itself.
        rng: Of cotangents, directions and rounding errors.
        is_own: Whether `truth` is the loss: then it has to give numbers.
        independent: Whether each example has its own loss.
        whole: Errors of an entry are relative to the largest of its example.
        sizes: Of the inputs: an ulp of that size counts as unknown, where what is true is what is left of parts
            that cancel. None: their absolute values.
        stand_in: Numbers to take in place of the inputs where the truth is computed, in any dtype.
    """

    loss: BatchLoss
    x: np.ndarray
    y: Any
    truth: BatchLoss
    rng: np.random.Generator
    is_own: bool = True
    independent: bool = True
    whole: bool = True
    sizes: np.ndarray | None = None
    stand_in: np.ndarray | None = None
    grads: dict[str, BatchLoss] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Compute what the others are traced with."""
        self.cotangents, self.value  # noqa: B018

    # What is found, in the dtype of the inputs.

    @cached_property
    def value(self) -> np.ndarray:
        """The values of the loss."""
        return self.value_and_pulled[0]

    @cached_property
    def value_and_pulled(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The values, and the cotangents pulled back to the inputs; None where that raises."""
        try:
            value, pulled = self.in_own_dtype(jax.jit(self.pull), self.x, self.y)
        except Exception:  # whatever a loss raises: reverse mode says it
            return self.in_own_dtype(jax.jit(self.loss), self.x, self.y), None
        return value, pulled

    @cached_property
    def limits(self) -> Limits:
        """The largest errors that are right."""
        return limits_of(self.x.dtype, self.value.dtype)

    @cached_property
    def cotangents(self) -> np.ndarray:
        """Random, different for each example, and powers of two: they shift no error."""
        with jax.enable_x64(self.x.dtype == np.float64):
            shape = jax.eval_shape(self.loss, self.x, self.y).shape
        return self.rng.choice([-1.0, 1.0], shape) * 2.0 ** self.rng.integers(-2, 3, shape)

    @property
    def apart(self) -> bool:
        """Whether every example has a number of its own."""
        return self.independent and self.value.ndim > 0

    def in_own_dtype(self, function: Callable[..., Any], x: Any, *rest: Any) -> Any:
        """The results of a function of arrays of the inputs' dtype, as NumPy arrays."""
        with jax.enable_x64(self.x.dtype == np.float64):
            return jax.tree.map(np.asarray, function(jnp.asarray(x), *jax.tree.map(jnp.asarray, rest)))

    def weighed(self, loss: BatchLoss, x: Any, y: Any) -> Array:
        """Σ c·loss for the cotangents c."""
        found = loss(x, y)
        return (found * self.cotangents.astype(found.dtype)).sum()

    # What is true.

    @cached_property
    def program(self) -> Program:
        """Values, and the gradient of their weighed sum."""

        def value_and_grad(x: Any, y: Any) -> Any:
            return self.truth(x, y), jax.grad(lambda x: self.weighed(self.truth, x, y))(x)

        return self.traced(value_and_grad, self.x, self.y)

    def traced(self, function: Callable[..., Any], x: Any, y: Any, *rest: Any) -> Program:
        """A program with constants of the inputs' dtype where it is the loss itself; else of float64."""
        if not self.is_own:
            x, y = widened(x), jax.tree.map(widened, y)
        with jax.enable_x64(x.dtype == np.float64):
            return Program(function, x, y, *(np.asarray(each, x.dtype) for each in rest))

    @property
    def x_true(self) -> np.ndarray:
        """The inputs where the truth is computed."""
        return self.x if self.stand_in is None else self.stand_in

    @cached_property
    def true(self) -> tuple[Enclosures, Enclosures]:
        """The values, and the gradient."""
        return self.at(self.x_true, self.y)

    def at(self, x: np.ndarray, y: Any) -> tuple[Enclosures, Enclosures]:
        """The same at other numbers."""
        return self.program(x, y, digits=DIGITS, smallest=self.limits.smallest)

    @cached_property
    def smooth(self) -> tuple[np.ndarray, float, int]:
        """Whether the loss of an example has a slope there, by differences; how far the gradient is from it."""
        v = self.rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], self.x.shape).astype(self.x.dtype)

        def slopes(x: Any, y: Any, e: Any) -> Any:
            ahead, here, behind = (self.truth(x + k * e * v, y) for k in (1, 0, -1))
            grad = jax.grad(lambda x: self.weighed(self.truth, x, y))(x)
            c = self.cotangents.astype(here.dtype)
            to_right, to_left = (
                self.per_example(c * (ahead - here) / e),
                self.per_example(c * (here - behind) / e),
            )
            along, size = self.per_example(grad * v), self.per_example(jnp.abs(grad * v))
            return to_right - to_left, (to_right + to_left) / 2 - along, size

        e, program = np.float64(STEP), self.traced(slopes, self.x, self.y, 1)
        jump, off, size = (
            each.nearest()
            for each in program(self.x_true, self.y, e, digits=5, smallest=self.limits.smallest * 1e-10)
        )
        scale = np.abs(size) + self.limits.smallest
        with np.errstate(invalid="ignore", over="ignore"):
            smooth = ~(np.abs(jump) > DIFFERENCES * scale)
            errors = np.where(smooth & np.isfinite(off), np.abs(off) / scale, 0)
            smooth &= np.isfinite(self.true[0].nearest().reshape(len(smooth), -1)).all(
                1
            )  # else there is no slope
        worst = int(np.argmax(errors)) if errors.size else 0
        return smooth, float(errors.max(initial=0)), worst

    def per_example(self, array: Any) -> Any:
        """Sums over all that belongs to an example; of the whole batch where examples depend on each other."""
        if not self.apart or not array.ndim:
            return array.sum()[None]
        return array.reshape(len(array), -1).sum(1)

    @cached_property
    def example_of(self) -> np.ndarray:
        """The number of the example that each entry of the inputs belongs to."""
        count = len(self.smooth[0])
        return (np.arange(self.x.size) // max(self.x.size // count, 1)).reshape(self.x.shape)

    # Errors.

    @cached_property
    def moved(self) -> tuple[np.ndarray, np.ndarray]:
        """How far values and gradient move when the arguments do by an ulp: no error is smaller than that."""
        by = np.zeros(self.true[0].shape), np.zeros(self.true[1].shape)
        for _ in range(DRAWS):
            x = self.nudged(self.x_true, self.sizes)
            y = jax.tree.map(self.nudged_labels, self.y)
            for most, here, there in zip(by, self.true, self.at(x, y), strict=True):
                distance = (there - here).nearest()
                np.maximum(most, np.where(np.isfinite(distance), np.abs(distance), 0), out=most)
        return by

    def nudged(self, array: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
        """Finite floats, each moved up or down by an ulp of its size; not rounded again."""
        if not jnp.issubdtype(array.dtype, jnp.floating):
            return array
        in_half = self.value.dtype.itemsize == 2
        eps = float(jnp.finfo(self.x.dtype if in_half else jnp.promote_types(self.x.dtype, jnp.float32)).eps)
        numbers = array.astype(np.float64)
        by = np.abs(numbers) if sizes is None else sizes
        return numbers + eps * np.where(np.isfinite(by), by, 0) * self.rng.choice([-1.0, 1.0], array.shape)

    def nudged_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels, likewise. Of an array of them, whole numbers (of one-hot labels) are known exactly."""
        if not jnp.issubdtype(labels.dtype, jnp.floating):
            return labels
        numbers = labels.astype(np.float64)
        exact = (numbers == np.round(numbers)) & (labels.ndim > 0)
        return self.nudged(labels, np.where(exact, 0, np.abs(numbers)))

    def value_check(self) -> Check:
        """The values."""
        if np.isnan(self.true[0].nearest()).all():
            return Check("value", math.inf, self.limits.value, "what should be true is a number nowhere")
        errors = self.errors(self.value, self.true[0], self.limits.value, lambda: self.moved[0])
        return self.largest("value", errors, self.limits.value)

    def gradient_check(self, name: str, found: np.ndarray, where: np.ndarray | None = None) -> Check:
        """A gradient of the weighed sum, in the inputs' dtype, or its entries at flat positions `where`."""
        everywhere = np.arange(self.x.size) if where is None else where
        true = self.true[1].at(everywhere)
        smooth = self.smooth[0][self.example_of.ravel()[everywhere]]
        floor = np.zeros(len(everywhere))
        if self.whole:
            sizes = np.abs(np.nan_to_num(self.true[1].nearest(), nan=0, posinf=0, neginf=0)).ravel()
            largest = np.zeros(len(self.smooth[0]))
            np.maximum.at(largest, self.example_of.ravel(), sizes)
            floor = ulp_at(largest, self.x.dtype)[self.example_of.ravel()[everywhere]]
        limit = limits_of(self.x.dtype, found.dtype).value  # tangents have the dtype of the value
        errors = self.errors(found.ravel(), true, limit, lambda: self.moved[1].ravel()[everywhere], floor)
        return self.largest(name, np.where(smooth, errors, 0), limit, everywhere)

    def errors(
        self,
        found: np.ndarray,
        true: Enclosures,
        limit: float,
        moved: Callable[[], np.ndarray],
        floor: Any = 0.0,
    ) -> np.ndarray:
        """Errors in ulp; of what is smaller than `floor`, or than rounding the arguments moves it, in these."""
        errors, unit = true.errors_in_ulp(found), ulp_at(true.nearest(), found.dtype)
        if not self.is_own:
            errors = np.where(np.isnan(true.nearest()), 0, errors)  # outside the domain of the definition
        elif found.size:
            errors = np.where(np.isnan(true.nearest()), np.inf, errors)
        floor = np.maximum(floor, np.abs(self.cotangents).max(initial=1) * self.limits.smallest / limit)
        scaled = errors * (unit / np.maximum(unit, floor))
        if (scaled[np.isfinite(scaled)] > limit).any():
            # what half precision is computed in rounds as finely as that
            finely = self.limits.computed / limit
            scaled = errors * (unit / np.maximum(np.maximum(unit, floor), finely * moved()))
        return np.where(np.isnan(scaled), np.inf, scaled)

    def largest(self, name: str, errors: np.ndarray, limit: float, where: np.ndarray | None = None) -> Check:
        """The largest of the errors, and where it is."""
        if not errors.size:
            return Check(name, 0.0, limit)
        worst = int(np.argmax(errors))
        if where is None:
            entry, shape = worst, self.value.shape
        else:
            entry, shape = int(where[worst]), self.x.shape
        at = ", ".join(map(str, np.unravel_index(entry, shape)))
        example = self.x[np.unravel_index(entry, shape)[0]] if shape and len(self.x) else self.x
        shown = np.array2string(np.asarray(example, np.float64), precision=9, threshold=8).replace("\n", "")
        return Check(name, float(errors.ravel()[worst]), limit, f"largest at [{at}], of inputs {shown}")

    # All that is checked.

    def checks(self, modes: Sequence[str]) -> list[Check]:
        """Every check, each with its largest error."""
        found = self.checks_of_rounding(modes)
        broken = {check.name for check in found if not math.isfinite(check.error)}
        working = [mode for mode in modes if mode not in broken]
        found += attempt("differences", self.differences)
        found += attempt("second derivative", lambda: self.second_derivatives(working))
        if self.independent and (self.value.ndim or self.x.ndim > 1):
            found += attempt("batch", self.batch)
        return found

    def checks_of_rounding(self, modes: Sequence[str]) -> list[Check]:
        """Those of values and gradients in the inputs' dtype."""
        found = [self.value_check()]
        for mode in modes:
            found += attempt(mode, partial(MODES[mode], self, mode))
        for name, grad in self.grads.items():
            found += attempt(name, partial(self.closed_form, name, grad))
        masked = np.flatnonzero(self.x.ravel() == -np.inf)
        if masked.size and "reverse" in modes:
            found += attempt("masked", lambda: [self.masked(masked)])
        return found

    def reverse(self, name: str) -> list[Check]:
        """Reverse mode, with its cotangents."""
        pulled = self.value_and_pulled[1]
        if pulled is None:
            _, pulled = self.in_own_dtype(jax.jit(self.pull), self.x, self.y)
        return [self.gradient_check(name, pulled)]

    def pull(self, x: Any, y: Any) -> tuple[Array, Array]:
        """The values, and the cotangents pulled back."""
        value, back = jax.vjp(lambda x: self.loss(x, y), x)
        return value, back(self.cotangents.astype(value.dtype))[0]

    def closed_form(self, name: str, grad: BatchLoss) -> list[Check]:
        """A gradient in closed form: that of each example's loss."""
        found = self.in_own_dtype(jax.jit(grad), self.x, self.y)
        c = self.cotangents
        if found.ndim > self.x.ndim:  # Jacobians [batch, values, inputs]
            found = np.einsum("nk,nki->ni", c, found.astype(np.float64)).astype(found.dtype)
        elif found.shape != self.x.shape:
            raise ValueError(f"the gradient has shape {found.shape}, but the inputs {self.x.shape}")
        else:
            c = c.reshape(c.shape + (1,) * (found.ndim - c.ndim))
            with np.errstate(over="ignore", invalid="ignore"):
                found = (found.astype(np.float64) * c).astype(found.dtype)
        return [self.gradient_check(name, found)]

    def forward(self, name: str) -> list[Check]:
        """Forward mode along one entry after the other."""
        chosen = np.flatnonzero(np.isfinite(self.x.astype(np.float64)))
        most = min(MOST_ENTRIES, max(64, MOST_NUMBERS // max(self.x.size, 1)))
        if len(chosen) > most:
            chosen = np.sort(self.rng.choice(chosen, most, replace=False))
        sizes = self.rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], len(chosen))

        def along(x: Any, y: Any, entry_and_size: Any) -> Any:
            entry, size = entry_and_size
            direction = jnp.zeros(x.size, x.dtype).at[entry].set(size).reshape(x.shape)
            tangent = jax.jvp(lambda x: self.loss(x, y), (x,), (direction,))[1]
            weighed = tangent * self.cotangents.astype(tangent.dtype)
            return self.per_example(weighed)

        # one after the other: XLA of 0.10.2 miscompiles jit(vmap(jvp)) of log_softmax at some sizes
        along_each = jax.jit(lambda x, y, chosen: jax.lax.map(partial(along, x, y), chosen))
        tangents = self.in_own_dtype(along_each, self.x, self.y, (chosen, sizes.astype(self.x.dtype)))
        own = tangents[np.arange(len(chosen)), self.example_of.ravel()[chosen]]
        found = (own.astype(np.float64) / sizes).astype(own.dtype)
        return [self.gradient_check(name, found, chosen)]

    def masked(self, where: np.ndarray) -> Check:
        """The gradient of a masked class is zero where the loss is a number."""
        counts = np.isfinite(self.value.astype(np.float64)).all()
        found = {"reverse": jax.grad(lambda x, y: self.loss(x, y).sum()), **self.grads}
        errors = [
            np.abs(self.in_own_dtype(g, self.x, self.y).astype(np.float64)).ravel()[where]
            for g in found.values()
        ]
        worst = np.nan_to_num(np.max(errors, 0), nan=np.inf) * counts
        return self.largest("masked", worst, 0.0, where)

    def differences(self) -> list[Check]:
        """The gradient, without rounding, against differences of the value without rounding."""
        _, error, worst = self.smooth
        return [Check("differences", error, DIFFERENCES, f"largest at example {worst}", "")]

    def second_derivatives(self, modes: Sequence[str]) -> list[Check]:
        """The Hessian along a direction, by every combination of modes, against differences of the gradient."""
        v = self.rng.choice([-1.0, -0.5, 0.5, 1.0], self.x.shape)
        x, y = self.x.astype(np.float64), jax.tree.map(widened, self.y)

        def grad(loss: BatchLoss, x: Any, y: Any) -> Any:
            return jax.grad(lambda x: self.weighed(loss, x, y))(x)

        def slopes(x: Any, y: Any, e: Any) -> Any:
            ahead, here, behind = (grad(self.truth, x + k * e * v, y) for k in (1, 0, -1))
            return (ahead - here) / e, (here - behind) / e

        with jax.enable_x64(True):
            program = Program(slopes, x, y, np.float64(1))
            right, left = (
                each.nearest() for each in program(x, y, np.float64(STEP), digits=12, smallest=1e-30)
            )
            ways = {
                "reverse over reverse": lambda x, y: jax.grad(lambda x: (grad(self.loss, x, y) * v).sum())(x),
            }
            if "forward" in modes:
                ways |= {
                    "forward over reverse": lambda x, y: jax.jvp(lambda x: grad(self.loss, x, y), (x,), (v,))[
                        1
                    ],
                    "reverse over forward": lambda x, y: jax.grad(
                        lambda x: jax.jvp(lambda x: self.weighed(self.loss, x, y), (x,), (v,))[1]
                    )(x),
                    "forward over forward": lambda x, y: jax.jvp(
                        lambda x: jax.jvp(lambda x: self.weighed(self.loss, x, y), (x,), (v,))[1], (x,), (v,)
                    )[1],
                }
            found_by = jax.jit(lambda x, y: {name: way(x, y) for name, way in ways.items()})(x, y)
            with np.errstate(invalid="ignore"):
                smooth = np.abs(right - left) <= 1e-9 * (np.abs(right) + np.abs(left)) + 1e-25
            largest = np.zeros(len(self.smooth[0]))
            sizes = np.abs(right) + np.abs(self.true[1].nearest())  # of equal logits H·1 is 0, and no size of H
            np.maximum.at(largest, self.example_of.ravel(), np.where(smooth, np.nan_to_num(sizes), 0).ravel())
            scale = largest[self.example_of] + 1e-9 * largest.max(initial=0) + 1e-30
            found = []
            for name in ways:
                hessian = np.asarray(found_by[name])
                if name == "forward over forward":
                    total = np.where(smooth, right * v, 0).sum()
                    size = np.where(smooth, np.abs(right * v), 0).sum() + 1e-30
                    errors = np.atleast_1d(np.abs(hessian - total) / size) * smooth.all()
                else:
                    errors = np.where(smooth, np.abs(hessian - right) / scale, 0)
                worst = np.nan_to_num(errors, nan=np.inf)
                found.append((float(worst.max(initial=0)), name))
        error, name = max(found)
        return [Check("second derivative", error, CURVATURE, f"largest {name}", "")]

    def batch(self) -> list[Check]:
        """The loss of a batch is the losses of its examples; reduced, their mean or their sum."""
        few = min(len(self.x), MOST_EXAMPLES)

        def part(start: int, stop: int) -> np.ndarray:
            rest = jax.tree.map(lambda leaf: leaf[start:stop], self.y)
            return self.in_own_dtype(self.loss, self.x[start:stop], rest).astype(np.float64)

        together, alone = part(0, few), np.stack([part(i, i + 1) for i in range(few)])
        limit = self.limits.value * float(jnp.finfo(self.value.dtype).eps)
        if not together.ndim:
            error = min(relative(together, alone.mean()), relative(together, alone.sum()))
        else:
            alone = alone.reshape(-1, *together.shape[1:])
            error = relative(together, alone) if alone.shape == together.shape else math.inf
        return [Check("batch", error, limit, "the loss of an example depends on the others", "")]


MODES: dict[str, Callable[[Examination, str], list[Check]]] = {
    "reverse": Examination.reverse,
    "forward": Examination.forward,
}


def attempt(name: str, checks: Callable[[], list[Check]]) -> list[Check]:
    """The checks, or one that says what was raised: whatever a loss raises is what is wrong with it."""
    try:
        return checks()
    except Exception as problem:
        first_line = (str(problem).splitlines() or [""])[0]
        return [Check(name, math.inf, 0.0, f"{type(problem).__name__}: {first_line}", "")]


def relative(found: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, relative to the largest number."""
    with np.errstate(invalid="ignore"):
        off = np.where(found == right, 0, np.abs(found - right))
        error = float((off / (np.abs(right).max() + 1e-30)).max())
    return math.inf if math.isnan(error) else error


def widened(array: np.ndarray) -> np.ndarray:
    """In float64, if it holds floating-point numbers."""
    return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array
