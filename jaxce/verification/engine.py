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

from jaxce.ball_arithmetic.enclosures import ulp_at
from jaxce.verification.checks import Check, attempt, relative
from jaxce.verification.tolerances import CURVATURE, DIFFERENCES, Limits, limits_of
from jaxce.verification.truth import BatchLoss, Truth, per_example, weighed, widened

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
        modes: The modes of automatic differentiation to check.
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
    modes: Sequence[str] = ("reverse", "forward")
    grads: dict[str, BatchLoss] = field(default_factory=dict)

    @cached_property
    def struct(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of the values."""
        with jax.enable_x64(self.x.dtype == np.float64):
            return jax.eval_shape(self.loss, self.x, self.y)

    @cached_property
    def cotangents(self) -> np.ndarray:
        """Random, different for each example, and powers of two: they shift no error."""
        signs = self.rng.choice([-1.0, 1.0], self.struct.shape)
        return signs * 2.0 ** self.rng.integers(-2, 3, self.struct.shape)

    @cached_property
    def programs(self) -> dict[str, BatchLoss]:
        """What is run: the loss, its derivatives by each mode, and closed forms."""
        modes = {mode: partial(MODES[mode], self) for mode in self.modes}
        return {"value": self.loss, **modes, **self.grads}

    @cached_property
    def results(self) -> dict[str, np.ndarray]:
        """Of all programs in one, which compiles faster; of the loss alone if one of them raises."""
        try:
            return self.in_own_dtype(lambda x, y: {name: f(x, y) for name, f in self.programs.items()})
        except Exception:  # whatever it is: run alone, the program raises it again
            return {"value": self.in_own_dtype(self.loss)}

    def result(self, name: str) -> np.ndarray:
        """What a program gives."""
        return self.results[name] if name in self.results else self.in_own_dtype(self.programs[name])

    @property
    def value(self) -> np.ndarray:
        """The values of the loss."""
        return self.result("value")

    @cached_property
    def limits(self) -> Limits:
        """The largest errors that are right."""
        return limits_of(self.x.dtype, self.struct.dtype, self.definition is None)

    @cached_property
    def true(self) -> Truth:
        """The truth."""
        in_half = self.struct.dtype.itemsize == 2
        computed_in = self.x.dtype if in_half else jnp.promote_types(self.x.dtype, jnp.float32)
        return Truth(
            self.definition or self.loss,
            self.x,
            self.x if self.stand_in is None else self.stand_in,
            self.y,
            self.cotangents,
            self.by_example,
            self.definition is None,
            np.abs(self.x.astype(np.float64)) if self.sizes is None else self.sizes,
            float(jnp.finfo(computed_in).eps),
            self.limits.smallest,
            self.rng,
        )

    @property
    def by_example(self) -> bool:
        """Whether there is a loss for each example alone."""
        return self.independent and bool(self.struct.shape)

    def examples_of(self, size: int) -> np.ndarray:
        """The number of the example that each entry of a flat array of this size belongs to."""
        return np.arange(size) // (size // (len(self.x) if self.by_example else 1))

    def in_own_dtype(self, function: Callable[[Any, Any], Any]) -> Any:
        """The results of a function, compiled, at the examples, as NumPy arrays."""
        with jax.enable_x64(self.x.dtype == np.float64):
            return jax.tree.map(np.asarray, jax.jit(function)(self.x, self.y))

    # What is run.

    def reverse(self, x: Any, y: Any) -> Array:
        """The cotangents pulled back to the inputs."""
        value, back = jax.vjp(lambda x: self.loss(x, y), x)
        return back(self.cotangents.astype(value.dtype))[0]

    def forward(self, x: Any, y: Any) -> Array:
        """Derivatives along one entry after the other, of the weighed loss of its example."""

        def along(direction: tuple[Array, Array, Array]) -> Array:
            entry, size, example = direction
            tangents = jnp.zeros(x.size, x.dtype).at[entry].set(size).reshape(x.shape)
            slopes = jax.jvp(lambda x: self.loss(x, y), (x,), (tangents,))[1]
            weighed = slopes * self.cotangents.astype(slopes.dtype)
            return per_example(weighed, self.by_example)[example] / size.astype(slopes.dtype)

        # one after the other: XLA of 0.10.2 miscompiles jit(vmap(jvp)) of log_softmax at some sizes
        entries, sizes = self.directions
        return jax.lax.map(along, (entries, sizes.astype(x.dtype), self.examples_of(x.size)[entries]))

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Flat positions of inputs, and how far to go along each: powers of two, which shift no error."""
        chosen = np.flatnonzero(np.isfinite(self.x.astype(np.float64)))
        most = min(MOST_ENTRIES, max(64, MOST_NUMBERS // self.x.size))
        if len(chosen) > most:
            chosen = np.sort(self.rng.choice(chosen, most, replace=False))
        return chosen, self.rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], len(chosen))

    # What is checked.

    def checks(self) -> list[Check]:
        """Every check, each with its largest error."""
        found = self.checks_of_rounding()
        broken = {check.name for check in found if not math.isfinite(check.error)}
        found += attempt("differences", self.differences)
        forward = "forward" in self.modes and "forward" not in broken
        found += attempt("second derivative", lambda: self.second_derivatives(forward))
        if self.independent and (self.value.ndim or self.x.ndim > 1):
            found += attempt("batch", self.batch)
        return found

    def checks_of_rounding(self) -> list[Check]:
        """Those of values and gradients in the inputs' dtype."""
        found = [self.value_check()]
        for mode in self.modes:
            found += attempt(mode, partial(self.gradient_checks, mode))
        for name in self.grads:
            found += attempt(name, partial(self.gradient_checks, name))
        return found

    def value_check(self) -> Check:
        """The values."""
        if np.isnan(self.true.value_and_grad[0].nearest()).all():
            return Check("value", math.inf, self.limits.value, "what should be true is a number nowhere")
        return self.compared("value", self.value, 0, np.arange(self.value.size))

    def gradient_checks(self, name: str) -> list[Check]:
        """A gradient of the weighed sum, and of masked inputs, where it is 0."""
        found, floor = self.result(name), np.zeros(self.x.size)
        if name in self.grads:
            found, floor = self.weighed_gradient(found)
        found = found.ravel()
        entries = self.directions[0] if name == "forward" else np.arange(self.x.size)
        true = self.true.value_and_grad[1].nearest().ravel()
        if self.whole:
            floor = np.maximum(floor, self.largest_of_example(np.abs(true)))
        checks = [self.compared(name, found, 1, entries, floor[entries])]
        masked = (self.x.ravel()[entries] == -np.inf) & (true[entries] == 0)
        if masked.any():
            off = np.nan_to_num(np.abs(found[masked].astype(np.float64)), nan=np.inf)
            checks.append(self.largest(f"{name}, masked", off, 0.0, entries[masked], self.x.shape))
        return checks

    def weighed_gradient(self, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A closed form, which is of each example's loss, times the cotangents; and the sizes it rounds at."""
        wide, c = found.astype(np.float64), self.cotangents
        with np.errstate(over="ignore", invalid="ignore"):
            if found.ndim > self.x.ndim:  # Jacobians [batch, values, inputs]
                parts = np.einsum("nk,nki->ni", np.abs(c), np.abs(wide))
                # each part is rounded, and their sum: together no more than an eps of the parts is right
                return np.einsum("nk,nki->ni", c, wide).astype(
                    found.dtype
                ), parts.ravel() / self.limits.gradient
            if found.shape != self.x.shape:
                raise ValueError(f"the gradient has shape {found.shape}, but the inputs {self.x.shape}")
            c = c.reshape(c.shape + (1,) * (found.ndim - c.ndim))
            return (wide * c).astype(found.dtype), np.zeros(found.size)

    def differences(self) -> list[Check]:
        """The gradient, without rounding, against differences of the value without rounding."""
        _, error, worst = self.true.slopes
        return [Check("differences", error, DIFFERENCES, f"largest at example {worst}", "")]

    def second_derivatives(self, forward: bool) -> list[Check]:
        """The Hessian along a direction, by every combination of modes, against differences of the gradient."""
        v = self.rng.choice([-1.0, -0.5, 0.5, 1.0], self.x.shape)
        x, y = widened(self.x), jax.tree.map(widened, self.y)

        def total(x: Any) -> Array:
            return weighed(self.loss, self.cotangents, x, y)

        ways = SECOND if forward else {"reverse over reverse": SECOND["reverse over reverse"]}
        with jax.enable_x64(True):
            found = jax.jit(lambda x: {name: way(jax, total, x, v) for name, way in ways.items()})(x)
        return [self.curvature(v, jax.tree.map(np.asarray, found))]

    def curvature(self, v: np.ndarray, found: dict[str, np.ndarray]) -> Check:
        """Hessians along a direction, as the ways of SECOND give them, against differences of the gradient."""
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
                size = (sizes * np.abs(v)).sum() + 1e-30
                errors = np.abs(hessian - (right * v).sum()) / size if smooth.all() else np.zeros(())
            else:
                errors = np.where(smooth, np.abs(hessian - right) / scale, 0)
            worst[name] = float(np.nan_to_num(errors, nan=np.inf).max(initial=0))
        name = max(worst, key=worst.__getitem__)
        return Check("second derivative", worst[name], CURVATURE, f"largest {name}", "")

    def batch(self) -> list[Check]:
        """The loss of a batch is the losses of its examples; reduced, their mean or their sum."""
        few = min(len(self.x), MOST_EXAMPLES)

        run = jax.jit(self.loss)

        def part(start: int, stop: int) -> np.ndarray:
            x, y = jax.tree.map(lambda leaf: leaf[start:stop], (self.x, self.y))
            with jax.enable_x64(self.x.dtype == np.float64):
                return np.asarray(run(x, y)).astype(np.float64)

        together, alone = part(0, few), np.stack([part(i, i + 1) for i in range(few)])
        limit = self.limits.value * float(jnp.finfo(self.value.dtype).eps)
        if not together.ndim:
            error = min(relative(together, alone.mean()), relative(together, alone.sum()))
        else:
            alone = alone.reshape(-1, *together.shape[1:])
            error = relative(together, alone) if alone.shape == together.shape else math.inf
        return [Check("batch", error, limit, "the loss of an example depends on the others", "")]

    # How errors are counted.

    def largest_of_example(self, sizes: np.ndarray) -> np.ndarray:
        """For each entry of the flat inputs, the largest finite size in its example."""
        examples = self.examples_of(sizes.size)
        largest = np.zeros(examples[-1] + 1)
        np.maximum.at(largest, examples, np.nan_to_num(sizes, nan=0, posinf=0, neginf=0).ravel())
        return largest[examples]

    def compared(self, name: str, found: np.ndarray, kind: int, entries: np.ndarray, floor: Any = 0.0) -> Check:
        """The largest relative error in eps, which are ulp of a number just above a power of two.

        Of what is smaller than `floor`, or than rounding the arguments moves it, they are relative to that.

        Args:
            name: Of the check.
            found: Values or entries of a gradient, flat.
            kind: 0, values, or 1, gradients.
            entries: Their positions among all.
            floor: Sizes, of each.
        """
        true = self.true.value_and_grad[kind]
        shape, examples = true.shape, self.examples_of(math.prod(true.shape))[entries]
        found, true = found.ravel(), true.at(entries)
        near, eps = true.nearest(), float(jnp.finfo(found.dtype).eps)
        limit = self.limits.gradient if kind and found.dtype == self.x.dtype else self.limits.value
        # outside the domain of a definition nothing is known, and a loss of one's own has to give numbers
        errors = np.where(np.isnan(near), 0 if self.definition else np.inf, true.errors_in_ulp(found))
        errors = errors * ulp_at(near, found.dtype)
        floor = np.maximum(eps * floor, np.abs(self.cotangents).max(initial=1) * self.limits.smallest / limit)
        unit = np.maximum(np.where(np.isfinite(near), eps * np.abs(near), 1), floor)
        wrong = errors > limit * unit
        if wrong.any():
            doubts = self.true.doubts(np.unique(examples[wrong]))
            # what half precision is computed in rounds as finely as that
            unit = np.maximum(unit, self.limits.computed / limit * doubts.moved[kind].ravel()[entries])
            errors = np.where(doubts.slopes_exist[examples] | (kind == 0), errors, 0)
        return self.largest(name, errors / unit, limit, entries, shape)

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


def _slope(transforms: Any, f: Callable[[Any], Any], x: Any, v: Any) -> Any:
    return transforms.jvp(f, (x,), (v,))[1]


# The ways to the Hessian of f along v, by the transformations of jax or torch.func; the last gives v·H·v alone.
SECOND: dict[str, Callable[[Any, Callable[[Any], Any], Any, Any], Any]] = {
    "reverse over reverse": lambda t, f, x, v: t.grad(lambda x: (t.grad(f)(x) * v).sum())(x),
    "forward over reverse": lambda t, f, x, v: _slope(t, t.grad(f), x, v),
    "reverse over forward": lambda t, f, x, v: t.grad(lambda x: _slope(t, f, x, v))(x),
    "forward over forward": lambda t, f, x, v: _slope(t, lambda x: _slope(t, f, x, v), x, v),
}
MODES: dict[str, Callable[[Examination, Any, Any], Array]] = {
    "reverse": Examination.reverse,
    "forward": Examination.forward,
}
