"""Smoothed labels, capped logits and weighted means."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxce

# Smoothed labels.


def test_smoothed_labels_are_those_of_optax(rng):
    q = rng.dirichlet(np.ones(4), 3).astype(np.float32)
    for axis in (-1, 0):
        assert_allclose(
            jaxce.smooth_labels(q, 0.1, axis=axis), optax.smooth_labels(q, 0.1, axis=axis), rtol=1e-6
        )


def test_smoothing_mixes_with_the_uniform_distribution(rng):
    q = rng.dirichlet(np.ones(5), 3).astype(np.float32)
    assert_allclose(jaxce.smooth_labels(q, 0.3).sum(-1), 1, rtol=1e-6)
    assert_allclose(jaxce.smooth_labels(q, 1.0), 0.2, rtol=1e-6)
    assert_array_equal(jaxce.smooth_labels(q, 0.0), q)
    assert_allclose(jaxce.smooth_labels(np.eye(4, dtype=int), 0.4), 0.6 * np.eye(4) + 0.1, rtol=1e-6)


def test_masked_classes_get_no_mass():  # optax gives them α/C
    hot = jnp.array([[0.0, 1.0, 0.0, 0.0]])
    where = jnp.array([[True, True, False, True]])
    smooth = jaxce.smooth_labels(hot, 0.3, where=where)
    assert_allclose(smooth, [[0.1, 0.8, 0.0, 0.1]], rtol=1e-6)
    assert_allclose(jaxce.smooth_labels(hot.T, 0.3, axis=0, where=where.T), smooth.T)
    assert_array_equal(jaxce.smooth_labels(hot, 0.3, where=jnp.zeros((1, 4), bool)), jnp.zeros((1, 4)))
    assert_allclose(jaxce.smooth_labels(hot, 0.3, where=hot > 0), hot)


def test_masked_examples_have_no_targets():
    smooth = jaxce.smooth_labels(jnp.eye(2), 0.5, where=jnp.array([True, False]))
    assert_allclose(smooth, [[0.75, 0.25], [0, 0]])
    along_first = jaxce.smooth_labels(jnp.eye(2), 0.5, axis=0, where=jnp.array([True, False]))
    assert_allclose(along_first, [[0.75, 0], [0.25, 0]])


def test_smoothed_labels_give_the_loss_with_label_smoothing(rng):
    z = rng.normal(size=(3, 4)).astype(np.float32)
    y = np.array([0, 3, 2])
    hot = jax.nn.one_hot(y, 4)
    by_itself = jaxce.softmax_cross_entropy_with_integer_labels(z, y, label_smoothing=0.2)
    assert_allclose(jaxce.softmax_cross_entropy(z, jaxce.smooth_labels(hot, 0.2)), by_itself, rtol=1e-5)
    where = np.array([[True, True, False, True], [True, False, True, True], [True, True, True, False]])
    masked = jaxce.softmax_cross_entropy_with_integer_labels(z, y, where=where, label_smoothing=0.2)
    smooth = jaxce.smooth_labels(hot, 0.2, where=where)
    assert_allclose(jaxce.softmax_cross_entropy(z, smooth, where=where), masked, rtol=1e-5)


def test_smoothing_works_under_jit_and_has_a_derivative_in_alpha():
    slope = jax.jit(jax.jacobian(jaxce.smooth_labels, 1))(jnp.array([0.0, 1.0]), 0.25)
    assert_allclose(slope, [0.5, -0.5])


@pytest.mark.usefixtures("unchecked")
def test_smoothing_outside_zero_and_one_is_refused():
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"alpha is .*, but must lie in \[0, 1\]"):
            jaxce.smooth_labels(jnp.eye(2), alpha)
    with pytest.raises(ValueError, match="axis is 2, but labels has 2 axes"):
        jaxce.smooth_labels(jnp.eye(2), 0.1, axis=2)
    with pytest.raises(ValueError, match=r"where has shape \(3,\) but labels \(2, 2\)"):
        jaxce.smooth_labels(jnp.eye(2), 0.1, where=jnp.ones(3, bool))
    with pytest.raises(TypeError, match="where must be boolean"):
        jaxce.smooth_labels(jnp.eye(2), 0.1, where=jnp.ones((2, 2)))


def test_the_only_class_that_counts_keeps_all_of_the_mass():
    alone = jnp.array([False, True, False])
    assert_array_equal(jaxce.smooth_labels(jnp.array([0.0, 1.0, 0.0]), 0.5, where=alone), [0.0, 1.0, 0.0])


# The soft cap.


def soft_cap_grad(z, cap):
    return jax.grad(lambda z: jaxce.soft_cap(z, cap).sum())(jnp.asarray(z))


@pytest.mark.parametrize("cap", [1.0, 30.0])
def test_soft_cap_and_its_gradient_are_exact(cap):
    z = np.array([-400.0, -30.0, -1.0, 0.0, 1e-4, 3.0, 100.0], np.float32)
    truth = [cap * mpmath.tanh(float(v) / cap) for v in z]
    slope = [mpmath.sech(float(v) / cap) ** 2 for v in z]
    assert_allclose(jaxce.soft_cap(z, cap), np.array(truth, float), rtol=1e-6)
    # relative, even where 1 − tanh² rounds to 0
    assert_allclose(soft_cap_grad(z, cap), np.array(slope, float), rtol=2e-5, atol=1e-37)


def test_derivatives_of_soft_cap_are_the_formula_s(rng):
    with jax.enable_x64(True):
        z = rng.normal(scale=3, size=(2, 5))
        grad = soft_cap_grad(z, 2.0)
        difference = (jaxce.soft_cap(z + 1e-6, 2.0) - jaxce.soft_cap(z - 1e-6, 2.0)) / 2e-6
        assert_allclose(grad, difference, rtol=1e-6, atol=1e-9)
        second = jax.vmap(jax.hessian(lambda z: jaxce.soft_cap(z, 2.0)))(z[0])
        assert_allclose(second, -np.tanh(z[0] / 2) * (1 - np.tanh(z[0] / 2) ** 2), rtol=1e-9)
        by_cap = jax.jacobian(lambda cap: jaxce.soft_cap(z, cap))(2.0)
        assert_allclose(by_cap, np.tanh(z / 2) - z / 2 * (1 - np.tanh(z / 2) ** 2), rtol=1e-9)


def test_a_capped_loss_has_the_gradient_of_the_chain(rng):  # levanter leaves the cap's derivative out
    z, y = rng.normal(scale=3, size=(4, 5)).astype(np.float32), np.array([0, 1, 2, 3])
    by_autodiff = jax.grad(
        lambda z: jaxce.softmax_cross_entropy_with_integer_labels(jaxce.soft_cap(z, 2.0), y).sum()
    )(z)
    chain = jaxce.softmax_cross_entropy_with_integer_labels.grad(jaxce.soft_cap(z, 2.0), y)
    assert_allclose(by_autodiff, chain * soft_cap_grad(z, 2.0), rtol=1e-5)


def test_soft_cap_is_bounded_in_half_precision_too():
    z = jnp.array([-jnp.inf, -1e4, 1e4, jnp.inf], jnp.bfloat16)
    assert_array_equal(jaxce.soft_cap(z, 30.0), jnp.array([-30.0, -30.0, 30.0, 30.0]))
    assert jaxce.soft_cap(z, 30.0).dtype == jnp.float32
    assert_array_equal(soft_cap_grad(z, 30.0), jnp.zeros(4, jnp.bfloat16))


@pytest.mark.usefixtures("unchecked")
def test_a_cap_must_be_positive_and_logits_floating():
    for cap in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"cap is .*, but must be positive and finite"):
            jaxce.soft_cap(jnp.zeros(2), cap)
    with pytest.raises(ValueError, match="cap must be one number"):
        jaxce.soft_cap(jnp.zeros(2), jnp.ones(2))
    with pytest.raises(TypeError, match="logits must be floating-point"):
        jaxce.soft_cap(jnp.zeros(2, int), 1.0)


# Weighted means.


def test_weighted_mean_is_that_of_numpy(rng):
    losses, weights = rng.random((2, 3, 4)).astype(np.float32)
    assert_allclose(jaxce.weighted_mean(losses, weights), np.average(losses, weights=weights), rtol=1e-6)
    assert_allclose(jaxce.weighted_mean(losses), losses.mean(), rtol=1e-6)
    mask = losses > 0.5
    assert_allclose(jaxce.weighted_mean(losses, mask), losses[mask].mean(), rtol=1e-6)


def test_the_gradient_of_a_mean_is_the_share_of_each_weight(rng):
    with jax.enable_x64(True):
        losses, weights = rng.random((2, 6))
        weights[1] = 0
        grad = jax.grad(jaxce.weighted_mean)(losses, weights)
        assert_allclose(grad, weights / weights.sum())
        of_weights = (losses - jaxce.weighted_mean(losses, weights)) / weights.sum()
        assert_allclose(jax.grad(jaxce.weighted_mean, 1)(losses, weights), of_weights)


@pytest.mark.parametrize("weights", [np.zeros(3, np.float32), np.zeros(3, bool)])
def test_a_mean_over_nothing_is_zero_with_zero_gradient(weights):  # torch and CCE give NaN
    losses = jnp.array([1.0, jnp.nan, jnp.inf])
    assert jaxce.weighted_mean(losses, weights) == 0
    assert_array_equal(jax.grad(jaxce.weighted_mean)(losses, weights), jnp.zeros(3))
    assert jaxce.weighted_mean(jnp.zeros((0,))) == 0


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_has_no_weight_contributes_nothing(bad):
    losses, weights = jnp.array([1.0, bad, 3.0]), jnp.array([1.0, 0.0, 3.0])
    assert jaxce.weighted_mean(losses, weights) == 2.5
    for grad in (
        jax.grad(jaxce.weighted_mean),
        jax.jit(jax.grad(jaxce.weighted_mean)),
    ):
        assert_allclose(grad(losses, weights), [0.25, 0, 0.75])
    assert_allclose(jax.jvp(lambda x: jaxce.weighted_mean(x, weights), (losses,), (jnp.ones(3),))[1], 1)


def test_what_has_weight_is_not_hidden():
    assert jnp.isnan(jaxce.weighted_mean(jnp.array([jnp.nan, 1.0]), jnp.array([1e-6, 1.0])))
    assert jnp.isnan(jax.jit(jaxce.weighted_mean)(jnp.ones(2), jnp.array([jnp.nan, 1.0])))


def test_the_mean_of_half_precision_is_float32():
    losses = jnp.full(1000, 0.1, jnp.bfloat16)
    assert jaxce.weighted_mean(losses).dtype == jnp.float32
    assert_allclose(jaxce.weighted_mean(losses, jnp.ones(1000)), float(losses[0]), rtol=1e-6)
    assert jax.grad(jaxce.weighted_mean)(losses).dtype == jnp.bfloat16


@pytest.mark.usefixtures("unchecked")
def test_weights_must_fit_and_not_be_negative():
    with pytest.raises(ValueError, match=r"weights has shape \(2,\), but must have \(2, 1\)"):
        jaxce.weighted_mean(jnp.ones((2, 1)), jnp.ones(2))
    with pytest.raises(ValueError, match="weights must be finite and not negative"):
        jaxce.weighted_mean(jnp.ones(2), jnp.array([-1.0, 2.0]))
    with pytest.raises(TypeError, match="losses must be floating-point"):
        jaxce.weighted_mean(jnp.ones(2, int))
