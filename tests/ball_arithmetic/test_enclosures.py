"""Arrays of true values: ends, nearest floats, errors in units in the last place."""

import math
from fractions import Fraction

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxce import assert_close_in_ulp, exact

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
IDENTITY = exact(lambda x: x)
THIRD = exact(lambda x: x / 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_nearest_float_is_what_a_cast_gives(rng, dtype):
    x = np.concatenate([rng.normal(size=200) * 10.0 ** rng.integers(-46, 42, 200), [0, 1e-320, 1e300, -1e300]])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(IDENTITY(x).nearest(dtype), x.astype(np.float64).astype(dtype))


def test_ties_go_to_the_even_float():
    x = np.float64([1 + 2**-24, 1 + 3 * 2**-24, 2.0**-150, 3 * 2.0**-150, -(2.0**128) + 2.0**103])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(IDENTITY(x).nearest(np.float32), x.astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_ulp_is_the_distance_to_the_next_float(rng, dtype):
    x = (rng.uniform(1, 2, 50) * 2.0 ** rng.integers(-12, 12, 50)).astype(dtype)
    x = x[np.frexp(x.astype(float))[0] != 0.5]  # below a power of two the next float is half as far
    finfo, true = jnp.finfo(dtype), IDENTITY(x)
    step = 2.0 ** np.floor(np.log2(x.astype(float))) * float(finfo.eps)
    for count in (0, 1, 3):
        moved = (x.astype(float) + count * step).astype(dtype)
        np.testing.assert_allclose(true.errors_in_ulp(moved), count, rtol=1e-12)


def test_errors_are_upper_bounds():
    result = np.float32(1) / np.float32(3)
    error = Fraction(float(result)) - Fraction(1, 3)
    found = float(THIRD(np.float32(1)).errors_in_ulp(result))
    assert 0 <= Fraction(found) - abs(error) * 2**25 < Fraction(1, 10**9)


def test_errors_below_the_smallest_normal_number():
    tiny = np.float32(2.0**-130)
    assert IDENTITY(tiny).errors_in_ulp(np.float32(0)) == pytest.approx(2.0**19)


@pytest.mark.parametrize(
    ("true", "found", "error"),
    [
        (math.nan, math.nan, 0),
        (math.nan, 1, math.inf),
        (1, math.nan, math.inf),
        (math.inf, math.inf, 0),
        (math.inf, -math.inf, math.inf),
        (math.inf, 3e38, math.inf),
        (1e300, math.inf, 0),
        (-1e300, math.inf, math.inf),
        (3e38, math.inf, math.inf),
        (0, 0, 0),
        (0, 2.0**-149, 1),
    ],
)
def test_infinities_nan_and_zero(true, found, error):
    assert IDENTITY(np.float64(true)).errors_in_ulp(np.float32(found)) == pytest.approx(error)


def test_shapes_and_dtypes_have_to_fit():
    with pytest.raises(ValueError, match=r"result has shape \(2,\), but the true values have \(\)"):
        IDENTITY(1.0).errors_in_ulp(np.ones(2))
    with pytest.raises(TypeError, match="must be floating-point, but has dtype int"):
        IDENTITY(1.0).errors_in_ulp(1)


def test_assert_close_shows_the_worst_number():
    x = np.float32([1, 2, 3])
    assert_close_in_ulp({"a": x / 3, "b": x}, {"a": THIRD(x), "b": IDENTITY(x)}, 0.5)
    with pytest.raises(AssertionError, match=r"1 of 3 numbers .* 4 ulp.*\n?.*at \[1\] 2.0000\d+, not 2"):
        assert_close_in_ulp(x + np.float32([0, 2**-20, 0]), IDENTITY(x), 2)


def test_it_prints_digits():
    assert repr(THIRD(np.float32([1, 6]))) == "Enclosures([0.333333333333333, 2.00000000000000])"
