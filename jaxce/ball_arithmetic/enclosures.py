"""Arrays of enclosures: what ball arithmetic proves of numbers, and how far floats are from them."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flint import ctx
from jaxtyping import Float

from jaxce.ball_arithmetic.arrays import array_of
from jaxce.ball_arithmetic.balls import Ball

BITS = 2**18  # more than any ball has


class Enclosures:
    """An array of true values, each in a ball that is proven to hold it.

    >>> import jaxce
    >>> third = jaxce.exact(lambda x: x / 3)(1.0)
    >>> third
    Enclosures(0.333333333333333)
    >>> print(third.lower.item() <= third.mid.item() <= third.upper.item())
    True
    """

    def __init__(self, balls: np.ndarray) -> None:
        """`balls`: an array of flint.arb: finite, infinite or NaN."""
        self.balls = balls

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.balls.shape

    @property
    def lower(self) -> np.ndarray:
        """The lower ends, of the array's shape: exact numbers of type flint.arb, which have .str(digits)."""
        return self._exactly(Ball.lower)

    @property
    def upper(self) -> np.ndarray:
        """The upper ends, likewise."""
        return self._exactly(Ball.upper)

    @property
    def mid(self) -> np.ndarray:
        """The midpoints, likewise."""
        return self._exactly(Ball.mid)

    def _exactly(self, part: Callable[[Ball], Ball]) -> np.ndarray:
        with ctx.workprec(BITS):
            return array_of(map(part, self.balls.flat), self.shape)

    def at(self, positions: np.ndarray) -> "Enclosures":
        """The entries at these positions of the flat array."""
        return Enclosures(self.balls.ravel()[positions])

    def __sub__(self, other: "Enclosures") -> "Enclosures":
        """The differences, entry by entry."""
        with ctx.workprec(BITS):
            return Enclosures(self.balls - other.balls)

    def nearest(self, dtype: Any = np.float64) -> np.ndarray:
        """The floats of a dtype nearest to the midpoints, the even one of two; infinite beyond the largest.

        >>> import jaxce
        >>> print(jaxce.exact(jnp.exp)(jnp.array([0.0, 1.0, 1e3])).nearest(np.float32))
        [1.        2.7182817       inf]
        """
        return array_of(
            (_nearest(each, jnp.finfo(dtype)) for each in self.balls.flat), self.shape, float
        ).astype(dtype)

    def errors_in_ulp(self, result: Any) -> Float[np.ndarray, "..."]:
        """How far floats are from the true values, at most, in units in the last place of their own dtype.

        The unit at x is the distance of neighbouring floats at x; below the smallest normal number it is that
        of subnormal ones. Infinite where one is NaN or infinite and the other is not, unless rounding the
        true value gives that infinity.

        Args:
            result: Floats of any dtype, of the same shape.

        Raises:
            ValueError: The shapes differ.
            TypeError: `result` is not floating-point.

        >>> import jaxce
        >>> x = jnp.array([0.1, 1.0, 20.0])
        >>> print((jaxce.exact(jnp.exp)(x).errors_in_ulp(jnp.exp(x)) < 2).all())
        True
        """
        array = np.asarray(result)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"result must be floating-point, but has dtype {array.dtype}")
        if array.shape != self.shape:
            raise ValueError(f"result has shape {array.shape}, but the true values have {self.shape}")
        finfo, numbers = jnp.finfo(array.dtype), array.astype(np.float64).ravel().tolist()
        errors = (_error_in_ulp(x, true, finfo) for x, true in zip(numbers, self.balls.flat, strict=True))
        return array_of(errors, self.shape, float)

    def __repr__(self) -> str:
        """As many digits as are proven, at most 15."""
        shown = array_of((each.str(15, radius=False) for each in self.balls.flat), self.shape)
        return f"Enclosures({np.array2string(shown, separator=', ', formatter={'all': str})})"


def ulp_at(numbers: Any, dtype: Any) -> Float[np.ndarray, "..."]:
    """The unit in the last place of a dtype at numbers, as float64: the distance to the next float."""
    finfo = jnp.finfo(dtype)
    sizes = np.abs(np.asarray(numbers, np.float64))
    _, exponents = np.frexp(np.where(np.isfinite(sizes), sizes, float(finfo.max)))
    exponents = np.where(sizes == 0, finfo.minexp, exponents - 1)
    return np.ldexp(1.0, np.maximum(exponents, finfo.minexp) - finfo.nmant)


def _exponent_of_ulp(size: Ball, finfo: Any) -> int:
    """The exponent of two of the distance between floats at an exact number that is not 0."""
    mantissa, exponent = map(int, size.man_exp())
    return max(exponent + mantissa.bit_length() - 1, int(finfo.minexp)) - int(finfo.nmant)


def _nearest(ball: Ball, finfo: Any) -> float:
    if not ball.is_finite():
        return float(ball.mid())
    mantissa, exponent = map(int, ball.mid().man_exp())
    if not mantissa:
        return 0.0
    unit = _exponent_of_ulp(ball.mid(), finfo)
    below = unit - exponent  # bits to round off
    count = abs(mantissa)
    if below > count.bit_length() + 1:
        return 0.0
    if below > 0:
        count, rest = divmod(count, 1 << below)
        count += rest > 1 << (below - 1) or (rest == 1 << (below - 1) and count % 2)
    else:
        count <<= -below
    if count.bit_length() + unit > int(finfo.maxexp):
        return math.inf if mantissa > 0 else -math.inf
    return math.ldexp(count if mantissa > 0 else -count, unit)


def _error_in_ulp(found: float, true: Ball, finfo: Any) -> float:
    if not true.is_finite() or not math.isfinite(found):
        same = math.isnan(found) if true.is_nan() else found == _nearest(true, finfo)
        return 0.0 if same else math.inf
    off = (Ball(found) - true).abs_upper()
    if off == 0:
        return 0.0
    size = true.abs_lower()
    unit = _exponent_of_ulp(size, finfo) if size > 0 else int(finfo.minexp) - int(finfo.nmant)
    return math.nextafter(float(off * Ball(2) ** -unit), math.inf)
