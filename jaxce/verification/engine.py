"""The engine: a loss, and its derivatives by every way there is, held against those without rounding."""

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
from jaxce.verification.checks import Check, attempt, relative
from jaxce.verification.tolerances import CURVATURE, DIFFERENCES, Limits, limits_of
from jaxce.verification.truth import BatchLoss, Truth, weighed, widened

MOST_ENTRIES = 1024  # of a gradient, in forward mode
MOST_NUMBERS = 2**22  # of all directions together
MOST_EXAMPLES = 16  # that are also tried one by one


@dataclass(frozen=True)
class Examination:
    """One loss at a batch of points.

    Attributes:
        loss: `loss(x, y)`, in whatever dtype x has.
        x: Inputs: examples along the first axis.
        y: Labels, any tree of arrays.
        definition: The same without mistakes, in plain JAX, of batches; None: the loss itself is the truth.
        rng: Of cotangents, directions and rounding errors.
        independent: Whether each example has its own loss.
        whole: Errors of an entry are relative to the largest of its example.
        sizes: Of the inputs: an ulp of that size counts as unknown, where what is true is what is left of parts
            that cancel. None: their absolute values.
        stand_in: Numbers to take in place of the inputs where the truth is computed. None: the inputs.
        grads: Closed forms, by name.
    """

    loss: BatchLoss
    x: np.ndarray
    y: Any
    definition: BatchLoss | None
    rng: np.random.Generator
    independent: bool = True
    whole: bool = True
    sizes: np.ndarray | None = None
    stand_in: np.ndarray | None = None
    grads: dict[str, BatchLoss] = field(default_factory=dict)

    @cached_property
    def cotangents(self) -> np.ndarray:
        """Random, different for each example, and powers of two: they shift no error."""
        with jax.enable_x64(self.x.dtype == np.float64):
            shape = jax.eval_shape(self.loss, self.x, self.y).shape
        return self.rng.choice([-1.0, 1.0], shape) * 2.0 ** self.rng.integers(-2, 3, shape)

    @cached_property
    def found(self) -> dict[str, np.ndarray]:
        """The values, the cotangents pulled back, and gradients in closed form, in one compiled program."""

        def everything(x: Any, y: Any) -> dict[str, Any]:
            value, pulled = self.pull(x, y)
            return {"value": value, "pulled": pulled, **{name: grad(x, y) for name, grad in self.grads.items()}}

        try:
            return self.in_own_dtype(jax.jit(everything), self.x, self.y)
        except Exception:  # whatever a loss raises: the checks, one by one, say it
            return {"value": self.in_own_dtype(jax.jit(self.loss), self.x, self.y)}

    @property
    def value(self) -> np.ndarray:
        """The values of the loss."""
        return self.found["value"]

    @cached_property
    def limits(self) -> Limits:
        """The largest errors that are right."""
        return limits_of(self.x.dtype, self.value.dtype, self.definition is None)

    @cached_property
    def true(self) -> Truth:
        """The truth."""
        in_half = self.value.dtype.itemsize == 2
        computed_in = self.x.dtype if in_half else jnp.promote_types(self.x.dtype, jnp.float32)
        return Truth(
            self.definition or self.loss,
            self.x,
            self.x if self.stand_in is None else self.stand_in,
            self.y,
            self.cotangents,
            self.per_example,
            self.definition is None,
            np.abs(self.x.astype(np.float64)) if self.sizes is None else self.sizes,
            float(jnp.finfo(computed_in).eps),
            self.limits.smallest,
            self.rng,
        )

    @cached_property
    def example_of(self) -> np.ndarray:
        """The number of the example that each entry of the flat inputs belongs to."""
        count = len(self.x) if self.independent and self.cotangents.ndim else 1
        return np.arange(self.x.size) // (self.x.size // count)

    def per_example(self, array: Any) -> Any:
        """Sums over all that belongs to an example; of the whole batch where examples depend on each other."""
        if self.independent and self.cotangents.ndim:
            return array.reshape(len(array), -1).sum(1)
        return array.sum()[None]

    def in_own_dtype(self, function: Callable[..., Any], x: Any, *rest: Any) -> Any:
        """The results of a function of arrays of the inputs' dtype, as NumPy arrays."""
        with jax.enable_x64(self.x.dtype == np.float64):
            return jax.tree.map(np.asarray, function(jnp.asarray(x), *jax.tree.map(jnp.asarray, rest)))

    # What is checked.

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
        return found

    def value_check(self) -> Check:
        """The values."""
        true, limit = self.true.value_and_grad[0], self.limits.value
        if np.isnan(true.nearest()).all():
            return Check("value", math.inf, limit, "what should be true is a number nowhere")
        errors = self.errors(self.value, true, limit, lambda: self.true.moved[0])
        return self.largest("value", errors.ravel(), limit, np.arange(self.value.size), self.value.shape)

    def reverse(self, name: str) -> list[Check]:
        """Reverse mode, with its cotangents."""
        if "pulled" in self.found:
            return self.gradient_checks(name, self.found["pulled"])
        return self.gradient_checks(name, self.in_own_dtype(jax.jit(self.pull), self.x, self.y)[1])

    def pull(self, x: Any, y: Any) -> tuple[Array, Array]:
        """The values, and the cotangents pulled back."""
        value, back = jax.vjp(lambda x: self.loss(x, y), x)
        return value, back(self.cotangents.astype(value.dtype))[0]

    def forward(self, name: str) -> list[Check]:
        """Forward mode along one entry after the other."""
        chosen = np.flatnonzero(np.isfinite(self.x.astype(np.float64)))
        most = min(MOST_ENTRIES, max(64, MOST_NUMBERS // self.x.size))
        if len(chosen) > most:
            chosen = np.sort(self.rng.choice(chosen, most, replace=False))
        sizes = self.rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], len(chosen))

        def along(x: Any, y: Any, entry_and_size: Any) -> Any:
            entry, size = entry_and_size
            direction = jnp.zeros(x.size, x.dtype).at[entry].set(size).reshape(x.shape)
            tangent = jax.jvp(lambda x: self.loss(x, y), (x,), (direction,))[1]
            return self.per_example(tangent * self.cotangents.astype(tangent.dtype))

        # one after the other: XLA of 0.10.2 miscompiles jit(vmap(jvp)) of log_softmax at some sizes
        along_each = jax.jit(lambda x, y, chosen: jax.lax.map(partial(along, x, y), chosen))
        tangents = self.in_own_dtype(along_each, self.x, self.y, (chosen, sizes.astype(self.x.dtype)))
        own = tangents[np.arange(len(chosen)), self.example_of[chosen]]
        return self.gradient_checks(name, (own.astype(np.float64) / sizes).astype(own.dtype), chosen)

    def closed_form(self, name: str, grad: BatchLoss) -> list[Check]:
        """A gradient in closed form: that of each example's loss."""
        found = self.found[name] if name in self.found else self.in_own_dtype(jax.jit(grad), self.x, self.y)
        wide, c = found.astype(np.float64), self.cotangents
        with np.errstate(over="ignore", invalid="ignore"):
            if found.ndim > self.x.ndim:  # Jacobians [batch, values, inputs]
                parts = np.einsum("nk,nki->ni", np.abs(c), np.abs(wide))
                pulled = np.einsum("nk,nki->ni", c, wide).astype(found.dtype)
                return self.gradient_checks(name, pulled, floor=2 * parts)  # each is rounded, and their sum
            if found.shape != self.x.shape:
                raise ValueError(f"the gradient has shape {found.shape}, but the inputs {self.x.shape}")
            c = c.reshape(c.shape + (1,) * (found.ndim - c.ndim))
            return self.gradient_checks(name, (wide * c).astype(found.dtype))

    def differences(self) -> list[Check]:
        """The gradient, without rounding, against differences of the value without rounding."""
        _, error, worst = self.true.slopes
        return [Check("differences", error, DIFFERENCES, f"largest at example {worst}", "")]

    def second_derivatives(self, modes: Sequence[str]) -> list[Check]:
        """The Hessian along a direction, by every combination of modes, against differences of the gradient."""
        v = self.rng.choice([-1.0, -0.5, 0.5, 1.0], self.x.shape)
        x, y = widened(self.x), jax.tree.map(widened, self.y)

        def total(x: Any) -> Array:
            return weighed(self.loss, self.cotangents, x, y)

        def along(x: Any) -> Array:
            return jax.jvp(total, (x,), (v,))[1]

        ways: dict[str, Callable[[Any], Array]] = {
            "reverse over reverse": jax.grad(lambda x: (jax.grad(total)(x) * v).sum())
        }
        if "forward" in modes:
            ways["forward over reverse"] = lambda x: jax.jvp(jax.grad(total), (x,), (v,))[1]
            ways["reverse over forward"] = jax.grad(along)
            ways["forward over forward"] = lambda x: jax.jvp(along, (x,), (v,))[1]
        with jax.enable_x64(True):
            found = jax.tree.map(np.asarray, jax.jit(lambda x: {name: ways[name](x) for name in ways})(x))

        right, left = self.true.grads_slopes(v)
        with np.errstate(invalid="ignore"):
            smooth = np.abs(right - left) <= 1e-9 * (np.abs(right) + np.abs(left)) + 1e-25
        # of equal logits H·1 is 0, which is no size of H: so the gradient counts too
        sizes = np.where(smooth, np.abs(right) + np.abs(self.true.value_and_grad[1].nearest()), 0)
        largest = self.largest_of_example(sizes).reshape(self.x.shape)
        scale = largest + 1e-9 * largest.max(initial=0) + 1e-30
        worst = {}
        for name, hessian in found.items():
            if hessian.ndim < v.ndim or name == "forward over forward":  # one number, v·H·v
                size = np.where(smooth, np.abs(right * v), 0).sum() + 1e-30
                errors = np.abs(hessian - (right * v).sum()) / size if smooth.all() else np.zeros(())
            else:
                errors = np.where(smooth, np.abs(hessian - right) / scale, 0)
            worst[name] = float(np.nan_to_num(errors, nan=np.inf).max(initial=0))
        name = max(worst, key=worst.__getitem__)
        return [Check("second derivative", worst[name], CURVATURE, f"largest {name}", "")]

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

    # How errors are counted.

    def gradient_checks(
        self, name: str, found: np.ndarray, where: np.ndarray | None = None, floor: np.ndarray | None = None
    ) -> list[Check]:
        """A gradient of the weighed sum, or its entries at flat positions `where`; and of masked inputs."""
        entries = np.arange(self.x.size) if where is None else where
        true, found = self.true.value_and_grad[1], found.ravel()
        floor = np.zeros(len(entries)) if floor is None else floor.ravel()
        if self.whole:
            sizes = np.abs(np.nan_to_num(true.nearest(), nan=0, posinf=0, neginf=0))
            floor = np.maximum(floor, self.largest_of_example(sizes)[entries])
        limit = self.limits.gradient if found.dtype == self.x.dtype else self.limits.value  # of tangents
        errors = self.errors(found, true.at(entries), limit, lambda: self.true.moved[1].ravel()[entries], floor)
        errors = np.where(self.true.slopes.exist[self.example_of[entries]], errors, 0)
        checks = [self.largest(name, errors, limit, entries, self.x.shape)]
        masked = (self.x.ravel()[entries] == -np.inf) & (true.nearest().ravel()[entries] == 0)
        if masked.any():
            off = np.nan_to_num(np.abs(found[masked].astype(np.float64)), nan=np.inf)
            checks.append(self.largest(f"{name}, masked", off, 0.0, entries[masked], self.x.shape))
        return checks

    def largest_of_example(self, sizes: np.ndarray) -> np.ndarray:
        """For each entry of the flat inputs, the largest size in its example."""
        largest = np.zeros(self.example_of[-1] + 1)
        np.maximum.at(largest, self.example_of, np.nan_to_num(sizes).ravel())
        return largest[self.example_of]

    def errors(
        self,
        found: np.ndarray,
        true: Enclosures,
        limit: float,
        moved: Callable[[], np.ndarray],
        floor: Any = 0.0,
    ) -> np.ndarray:
        """Relative errors in eps, which are ulp of a number just above a power of two.

        Of what is smaller than `floor`, or than rounding the arguments moves it, they are relative to that.
        """
        near, eps = true.nearest(), float(jnp.finfo(found.dtype).eps)
        # outside the domain of a definition nothing is known, and a loss of one's own has to give numbers
        errors = np.where(np.isnan(near), 0 if self.definition else np.inf, true.errors_in_ulp(found))
        errors = errors * ulp_at(near, found.dtype)
        floor = np.maximum(eps * floor, np.abs(self.cotangents).max(initial=1) * self.limits.smallest / limit)
        unit = np.maximum(np.where(np.isfinite(near), eps * np.abs(near), 1), floor)
        if ((errors > limit * unit) & np.isfinite(errors)).any():
            # what half precision is computed in rounds as finely as that
            unit = np.maximum(unit, self.limits.computed / limit * moved())
        return errors / unit

    def largest(
        self, name: str, errors: np.ndarray, limit: float, entries: np.ndarray, shape: tuple[int, ...]
    ) -> Check:
        """The largest of the errors of entries of an array of this shape, and where it is."""
        if not errors.size:
            return Check(name, 0.0, limit)
        worst = int(np.argmax(errors))
        at = np.unravel_index(int(entries[worst]), shape)
        example = self.x[at[0]] if at and self.x.ndim > 1 else self.x
        shown = np.array2string(np.asarray(example, np.float64), precision=9, threshold=8).replace("\n", "")
        note = f"largest at [{', '.join(map(str, at))}], of inputs {shown}"
        return Check(name, float(errors[worst]), limit, note)


MODES: dict[str, Callable[[Examination, str], list[Check]]] = {
    "reverse": Examination.reverse,
    "forward": Examination.forward,
}
