"""What a user's loss should have given: by the loss itself in float64, or by a definition of it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxce.verification.exact import Example, error, truth
from jaxce.verification.findings import gradient_limit, smallest_entry, smallest_value, value_limit
from jaxce.verification.measured import central

UserLoss = Callable[[Any, Any], Array]

DRAWS = 4  # of rounding errors, to see how far they move the truth
TRUSTED = 1e-7  # relative error of differences in float64
CURVATURE_LIMIT = 1e-5


class InFloat64:
    """The loss on the same numbers in float64, central differences there, and what rounding does to both."""

    def __init__(self, loss: UserLoss, x: np.ndarray, y: Any, value: Array, chosen: np.ndarray) -> None:
        """Evaluate the loss around its inputs.

        Args:
            loss: The loss.
            x: Inputs in their own dtype.
            y: Labels, any tree.
            value: What the loss gave for them.
            chosen: Indices into the flat inputs: the entries of the gradient to look at.
        """
        half_ulp = float(jnp.finfo(value.dtype).eps) / 2
        self.loss, self.gradient = jax.jit(loss), jax.jit(jax.grad(lambda x, y: loss(x, y).sum()))
        self.chosen, self.dtype = chosen, x.dtype
        self.value_limit = max(value_limit(value.dtype), 2 * half_ulp)
        # arithmetic in half precision, done well, ends within an ulp
        in_half = x.dtype.itemsize == 2
        self.gradient_limit = max(gradient_limit(x.dtype) * (2 if in_half else 1), TRUSTED)
        self.x, self.y = _widened(x), jax.tree.map(_widened, y)
        self.value = self.values_at(self.x, self.y)
        # a loss that computes in float32 whatever it is given needs larger steps
        self.step = 2.0**-9 if self.value.dtype == np.float64 else 2.0**-4
        slopes = [self._slope(int(i)) for i in chosen]
        self.slopes, self.uncertainty = (np.array([each[k] for each in slopes]) for k in (0, 1))
        self.example = chosen // (x.size // len(x)) if x.ndim > 1 else chosen * int(value.ndim > 0)
        self.value_slack, self.gradient_slack = self._moved_by_rounding(half_ulp)

    def value_errors(self, value: np.ndarray) -> np.ndarray:
        """Relative errors, less what rounding the inputs does."""
        tiny = smallest_value(self.dtype)
        with np.errstate(invalid="ignore", divide="ignore"):
            off = np.abs(value - self.value)
            none = (value == self.value) | ((np.abs(self.value) < tiny) & (off <= tiny))
            return np.where(none, 0, off / (np.abs(self.value) + self.value_slack / self.value_limit))

    def gradient_errors(self, gradient: np.ndarray) -> np.ndarray:
        """Errors of the chosen entries, relative to the largest of their example, less what rounding does."""
        largest = np.zeros(self.example.max(initial=0) + 1)
        np.maximum.at(largest, self.example, np.abs(self.slopes))
        slack = self.gradient_slack + 4 * self.uncertainty + smallest_entry(self.dtype)
        return np.abs(gradient - self.slopes) / (largest[self.example] + slack / self.gradient_limit)

    def curvature_error(self) -> float:
        """How far the second derivative along a random direction is from differences of the gradient."""
        rng = np.random.default_rng(0)
        direction = np.where(np.isfinite(self.x), rng.normal(size=self.x.shape), 0)
        with jax.enable_x64(True):
            at, along = jnp.asarray(self.x), jnp.asarray(direction)
            found = np.asarray(jax.jvp(lambda x: self.gradient(x, self.y), (at,), (along,))[1])
        right, uncertainty = central(
            lambda x: self._gradient(x, self.y), self.x, self.step * direction, self.step
        )
        size = np.abs(right).max() + 1e-3 * np.abs(self._gradient(self.x, self.y)).max()
        return float((np.abs(found - right) / (size + 4 * uncertainty / CURVATURE_LIMIT + 1e-300)).max())

    def values_at(self, x: np.ndarray, y: Any) -> np.ndarray:
        """The loss in float64."""
        with jax.enable_x64(True):
            return np.asarray(self.loss(x, y))

    def _gradient(self, x: np.ndarray, y: Any) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(self.gradient(x, y))

    def _slope(self, i: int) -> tuple[float, float]:
        """∂ Σ losses / ∂ input i, and its uncertainty; summed last, so that other examples add no rounding."""
        move = np.zeros(self.x.size)
        move[i] = self.step
        slopes, uncertainty = central(
            lambda x: self.values_at(x, self.y), self.x, move.reshape(self.x.shape), self.step
        )
        return float(slopes.sum()), float(uncertainty.sum())

    def _moved_by_rounding(self, half_ulp: float) -> tuple[np.ndarray, np.ndarray]:
        """Four times how far inputs and labels, each off by half an ulp, move the values and the entries."""
        rng = np.random.default_rng(0)

        def rounded(array: np.ndarray) -> np.ndarray:
            if array.dtype != np.float64:
                return array
            off = half_ulp * rng.choice([-1, 1], array.shape)
            return array * (1 + np.where((array == 0) | (array == 1), 0, off))  # which are never rounded

        value, gradient = np.zeros(self.value.shape), np.zeros(len(self.chosen))
        here = self._gradient(self.x, self.y).ravel()[self.chosen]
        for _ in range(DRAWS):
            x, y = rounded(self.x), jax.tree.map(rounded, self.y)
            with np.errstate(invalid="ignore"):
                moved = np.abs(self.values_at(x, y) - self.value)
            value = np.maximum(value, np.nan_to_num(moved))
            turned = np.abs(self._gradient(x, y).ravel()[self.chosen] - here)
            gradient = np.maximum(gradient, np.nan_to_num(turned))
        return 4 * value, 4 * gradient


class ByDefinition:
    """The definition in high precision at the examples that hold the chosen entries."""

    def __init__(
        self, definition: Callable[..., Any], x: np.ndarray, y: Any, value: Array, chosen: np.ndarray
    ) -> None:
        """Find the examples: components where the loss has the inputs' shape, else rows along the last axis.

        Raises:
            ValueError: The loss is not one number per example.
        """
        rows = x.reshape(-1) if value.shape == x.shape else x.reshape(-1, x.shape[-1])
        if value.size != len(rows):
            raise ValueError(
                f"the loss has shape {value.shape}, but a definition is of one of {len(rows)} examples: "
                "give the loss unreduced"
            )
        labels = np.asarray(y)
        labels = labels.reshape(len(rows), *labels.shape[value.ndim :])
        self.dtype, self.value_dtype = x.dtype, value.dtype
        self.value_limit, self.gradient_limit = value_limit(value.dtype), gradient_limit(x.dtype)
        self.chosen, self.per_example = chosen, rows[0].size
        self.examples = {
            int(n): Example(definition, np.asarray(rows[n]), (labels[n],), {})
            for n in np.unique(chosen // self.per_example)
        }
        self.truths = {n: truth(each, smallest_value(x.dtype)) for n, each in self.examples.items()}

    def value_errors(self, value: np.ndarray) -> np.ndarray:
        """Relative errors of the values of these examples; see exact.error."""
        errors = np.zeros(value.size)
        for n, true in self.truths.items():
            found, tiny = float(value.ravel()[n]), smallest_value(self.dtype)
            parts = lambda true=true: true.parts_of_value(0)  # noqa: E731
            errors[n] = error(found, true.values[0], parts, self.value_limit, tiny) or 0.0
        return errors.reshape(value.shape)

    def gradient_errors(self, gradient: np.ndarray) -> np.ndarray:
        """Relative errors of the chosen entries."""
        errors = np.zeros(len(self.chosen))
        for e, entry in enumerate(self.chosen):
            n, i = divmod(int(entry), self.per_example)
            true, tiny = self.truths[n], smallest_entry(self.dtype)
            parts = lambda true=true, i=i: true.parts_of_entry(0, i)  # noqa: E731
            errors[e] = error(float(gradient[e]), true.jacobian[0][i], parts, self.gradient_limit, tiny) or 0.0
        return errors


def _widened(array: np.ndarray) -> np.ndarray:
    """In float64, if it holds numbers with a fraction."""
    return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array
