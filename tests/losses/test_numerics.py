"""Sums and powers that keep their accuracy where plain ones lose it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxce.losses.numerics import power, sum_except, sums_of_others


def test_the_sum_without_one_entry_keeps_what_a_difference_loses():
    x = jnp.array([[1e8, 1e-8, 3e-8], [2e-8, 1e-8, 1e8]])
    assert_allclose(sum_except(x, jnp.array([0, 2])), [4e-8, 3e-8], rtol=1e-6)
    assert_allclose(sum_except(x, jnp.array([1, 0])), 1e8, rtol=1e-6)
    assert_array_equal(sum_except(x[:, :1], jnp.array([0, 0])), [0, 0])


def test_the_sums_of_all_other_entries_are_those_of_each_alone(rng):
    x = rng.exponential(size=(2, 3, 5)).astype(np.float32)
    x[0, 0, 2] = 1e9
    alone = np.stack([np.delete(x.astype(float), j, -1).sum(-1) for j in range(5)], -1)
    assert_allclose(sums_of_others(jnp.array(x)), alone, rtol=1e-6)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_a_power_of_zero_is_that_of_numpy_and_has_finite_derivatives(exponent):
    base = jnp.array([0.0, 1e-3, 0.5, 1.0])
    assert_allclose(power(base, exponent), np.array(base) ** exponent, rtol=1e-6)
    for argument in (0, 1):
        slopes = jax.vmap(jax.grad(power, argument), (0, None))(base, exponent)
        plain = [exponent * base[1:] ** (exponent - 1), base[1:] ** exponent * np.log(base[1:])][argument]
        assert_allclose(slopes[1:], plain, rtol=1e-6, atol=1e-7)
        assert slopes[0] == 0
