"""What verification finds: the largest error of each comparison, against its limit."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp


@dataclass(frozen=True)
class Finding:
    """The largest error that one comparison found, and where.

    Attributes:
        loss: The loss's name.
        setting: Its options, where they differ from the defaults.
        dtype: The dtype of the inputs.
        comparison: What was held against what.
        error: The largest error; infinite where a number was not one.
        limit: The largest that is right.
        where: The example with that error, what was found and what is true.
    """

    loss: str
    setting: str
    dtype: str
    comparison: str
    error: float
    limit: float
    where: str = ""

    @property
    def ok(self) -> bool:
        """Whether the error is within its limit."""
        return self.error <= self.limit


@dataclass
class Tally:
    """Keeps the largest error of each comparison, for one loss at one setting in one dtype."""

    loss: str
    setting: str
    dtype: str
    worst: dict[str, Finding] = field(default_factory=dict)

    def add(self, comparison: str, error: float | None, limit: float, where: Callable[[], str]) -> None:
        """Take one error into account; None is no error at all, because there was nothing to hold against."""
        if error is None:
            return
        error = math.inf if math.isnan(error) else error
        known = self.worst.get(comparison)
        if known is None or error / limit > known.error / known.limit:
            self.worst[comparison] = Finding(
                self.loss, self.setting, self.dtype, comparison, error, limit, where()
            )


def value_limit(dtype: Any) -> float:
    """The largest relative error of a loss: half precision is computed in float32, so its limit is the same."""
    return 1e-13 if jnp.dtype(dtype) == jnp.float64 else 1e-5


def gradient_limit(dtype: Any) -> float:
    """The same for entries of a gradient, whose dtype is the inputs': half precision rounds once more."""
    rounding = float(jnp.finfo(dtype).eps) / 2 if jnp.finfo(dtype).bits == 16 else 0.0
    return value_limit(dtype) + rounding


def smallest_value(dtype: Any) -> float:
    """Below this a value counts as underflowed: 32 times the smallest normal number of the computation.

    A number so small is a product of which one factor may have underflowed, and XLA has no subnormal numbers.
    """
    return 32 * float(jnp.finfo(jnp.promote_types(dtype, jnp.float32)).tiny)


def smallest_entry(dtype: Any) -> float:
    """The same for an entry of a gradient, which the dtype of the inputs has to hold."""
    return max(smallest_value(dtype), float(jnp.finfo(dtype).tiny))
