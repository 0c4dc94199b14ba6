"""Softmax, sums, powers and quotients that keep their digits where plain ones lose them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxce.losses.numerics import label_softmax, power, quotient, softmax, sum_except, sums_of_others


def test_label_softmax_holds_the_parts_of_the_loss(rng):
    z, y = jnp.asarray(rng.normal(size=(2, 3, 5)), jnp.float32), jnp.asarray(rng.integers(0, 5, (2, 3)))
    found, p = label_softmax(z, y), jax.nn.softmax(z)
    of_label = jnp.take_along_axis(p, y[..., None], -1)[..., 0]
    assert_allclose(found.probs, p, rtol=1e-5)
    assert_allclose(found.others, 1 - of_label, rtol=1e-5)
    assert_allclose(found.nll, -jnp.log(of_label), rtol=1e-5)
    assert_allclose(found.grad, p - jax.nn.one_hot(y, 5), rtol=1e-5, atol=1e-7)
    assert_allclose(found.shift + found.log_total, jax.nn.logsumexp(z, axis=-1), rtol=1e-5)
    assert not found.left_out.any()


def test_label_softmax_keeps_one_minus_a_probability():
    found = label_softmax(jnp.array([[0.0, -20.0]]), jnp.array([0]))
    assert_allclose(found.others, np.exp(-20), rtol=1e-6)
    assert_allclose(found.grad, [[-np.exp(-20), np.exp(-20)]], rtol=1e-6)


def test_softmax_holds_what_every_class_sees(rng):
    z = jnp.asarray(rng.normal(size=(3, 5)), jnp.float32).at[1].set(-jnp.inf)
    found, p = softmax(z), jax.nn.softmax(z)
    rows = jnp.array([0, 2])
    assert_allclose(found.probs[rows], p[rows], rtol=1e-5)
    assert_allclose(found.others[rows], 1 - p[rows], rtol=1e-5)
    assert_allclose(found.nll[rows], -jnp.log(p[rows]), rtol=1e-5)
    assert_allclose(found.lse[rows], jax.nn.logsumexp(z[rows], axis=-1), rtol=1e-5)
    assert_array_equal(found.left_out, [False, True, False])
    for each in (found.nll, found.lse, found.probs):
        assert_array_equal(each[1], 0)
    assert_allclose(softmax(jnp.array([0.0, -20.0])).others, [np.exp(-20), 1], rtol=1e-6)


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
def test_a_power_of_zero_has_finite_derivatives(exponent):
    base = jnp.array([0.0, 1e-3, 0.5, 1.0])
    assert_allclose(power(base, exponent), np.array(base) ** exponent, rtol=1e-6)
    for argument in (0, 1):
        slopes = jax.vmap(jax.grad(power, argument), (0, None))(base, exponent)
        plain = [exponent * base[1:] ** (exponent - 1), base[1:] ** exponent * np.log(base[1:])][argument]
        assert_allclose(slopes[1:], plain, rtol=1e-6, atol=1e-7)
        assert slopes[0] == 0


def test_a_quotient_of_tiny_numbers_has_finite_derivatives():
    y = jnp.array([1e-30, 1e-19, 1e-3, 2.0])
    assert_allclose(quotient(3 * y, y), 3, rtol=1e-6)
    of_ratio = jax.vmap(jax.grad(lambda y: quotient(3 * y, y)))(y)  # constant
    assert_allclose(of_ratio * y, 0, atol=1e-5)
    assert_allclose(jax.vmap(jax.grad(quotient, 1))(y**0, y)[2:], -1 / y[2:] ** 2, rtol=1e-6)
    assert_allclose(quotient(jnp.array(5.0), jnp.array(0.0)), 5)
