"""Cross-entropy, entropy and divergences of distributions: mathematics, extremes and misuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import jaxce
from jaxce.losses import definitions
from tests.losses.cases import arguments

DIVERGENCES = ["kl_divergence", "kl_divergence_with_log_targets", "js_divergence"]


@pytest.fixture
def pair(rng):
    """Two distributions in each of eight rows."""
    return rng.dirichlet(np.ones(6), (2, 8)).astype(np.float32) + np.float32(1e-3)


@pytest.mark.parametrize("name", DIVERGENCES[:2])
def test_values_are_those_of_optax(name, rng):
    log_p, q = arguments(jaxce.LOSSES[name], rng)
    where = rng.random(log_p.shape) < 0.7
    ours, theirs = getattr(jaxce, name), getattr(optax.losses, name)
    for options in ((), (0,), (-1, where)):
        assert_allclose(ours(log_p, q, *options), theirs(log_p, q, *options), rtol=1e-5, atol=1e-6)


# Mathematics. M numbers are those of the specification.


def test_cross_entropy_is_entropy_plus_divergence(pair):  # M1
    p, q = pair
    divergence = jaxce.kl_divergence(np.log(p), q)
    assert_allclose(jaxce.cross_entropy(p, q), jaxce.entropy(q) + divergence, rtol=1e-5)


def test_cross_entropy_and_divergence_have_one_gradient(pair):  # M1
    p, q = pair
    of_divergence = jax.grad(lambda p: jaxce.kl_divergence(jnp.log(p), q).sum())(p)
    assert_allclose(jaxce.cross_entropy.grad(p, q), of_divergence, rtol=1e-5)


def test_entropy_is_between_certainty_and_uniform(rng):
    p = rng.dirichlet(np.ones(7), 20).astype(np.float32)
    assert (jaxce.entropy(p) > 0).all()
    assert (jaxce.entropy(p) < np.log(7)).all()
    assert jaxce.entropy(jnp.eye(7)).max() == 0
    assert_allclose(jaxce.entropy(jnp.full(7, 1 / 7)), np.log(7), rtol=1e-6)


def test_divergence_of_equal_distributions_is_zero(rng):
    q = rng.dirichlet(np.ones(1000), 20).astype(np.float32)
    assert_allclose(jaxce.kl_divergence(jnp.log(q), q), 0, atol=1e-6)
    assert_allclose(jaxce.kl_divergence_with_log_targets(jnp.log(q), jnp.log(q)), 0, atol=1e-6)
    uniform = jnp.full(131072, 2.0**-17)
    assert_allclose(jaxce.kl_divergence(jnp.log(uniform), uniform), 0, atol=1e-6)


def test_the_root_of_js_divergence_is_a_metric(rng):
    p, q, r = rng.dirichlet(np.full(5, 0.5), (3, 200)).astype(np.float32)

    def distance(p, q):
        return np.sqrt(jaxce.js_divergence(np.log(p), q))

    assert_allclose(distance(p, q), distance(q, p), rtol=1e-5, atol=1e-6)
    assert (distance(p, q) <= distance(p, r) + distance(r, q) + 1e-6).all()
    assert (distance(p, q) <= np.sqrt(np.log(2)) + 1e-6).all()


def test_js_divergence_of_near_distributions_keeps_its_digits():
    q = np.array([0.3, 0.7], np.float32)
    log_p = np.log(np.array([0.3001, 0.6999], np.float32))
    truth = jaxce.exact(definitions.js_divergence)(log_p, q).nearest()
    assert 0 < truth < 1e-8
    # the logarithms hold p to 1e-7, a thousandth of what parts it from q
    assert_allclose(jaxce.js_divergence(log_p, q), truth, rtol=3e-3)


def test_js_divergence_is_finite_where_a_probability_barely_is():
    rare = jnp.linspace(-104, -80, 100)
    log_p = jnp.stack([jnp.zeros_like(rare), rare], -1)
    q = jnp.broadcast_to(jnp.array([1.0, 0.0]), log_p.shape)
    for found in jaxce.js_divergence.value_and_grad(log_p, q):
        assert jnp.isfinite(found).all()


def test_js_divergence_of_equal_distributions_is_zero(rng):
    log_p = jnp.log(rng.dirichlet([30.0, 0.3, 0.3], 50).astype(np.float32))
    value, grad = jaxce.js_divergence.value_and_grad(log_p, jnp.exp(log_p))
    assert_allclose(value, 0, atol=1e-12)
    assert_allclose(grad, 0, atol=1e-9)


# Extremes.


def test_zero_times_log_zero_is_zero():
    hot = jnp.array([0.0, 1.0, 0.0])
    log_hot = jnp.log(hot)
    assert jaxce.cross_entropy(hot, hot) == jaxce.entropy(hot) == jaxce.kl_divergence(log_hot, hot) == 0
    assert jaxce.kl_divergence_with_log_targets(log_hot, log_hot) == jaxce.js_divergence(log_hot, hot) == 0


def test_gradients_at_zero_targets_are_finite():  # optax's KL gives NaN
    log_p, q = jnp.log(jnp.array([0.25, 0.75, 0.0])), jnp.array([1.0, 0.0, 0.0])
    of_js = [np.log(0.4) / 8, 0.75 * np.log(2) / 2, 0]
    for loss, args, expected in (
        (jaxce.kl_divergence, (log_p, q), [-1, 0, 0]),
        (jaxce.kl_divergence_with_log_targets, (log_p, jnp.log(q)), [-1, 0, 0]),
        (jaxce.js_divergence, (log_p, q), of_js),
        (jaxce.cross_entropy, (jnp.array([0.5, 0.5, 0.0]), q), [-2, 0, 0]),
    ):
        for grad in (loss.grad, jax.grad(loss)):
            assert_allclose(grad(*args), expected, rtol=1e-6)
    for loss in (jaxce.kl_divergence, jaxce.js_divergence):
        assert np.isfinite(jax.grad(loss, 1)(log_p[:2], q[:2])).all()
        assert np.isfinite(jax.jvp(lambda log_p, f=loss: f(log_p, q), (log_p,), (jnp.ones(3),))[1])


def test_a_positive_target_at_probability_zero_costs_inf():
    q = jnp.array([0.5, 0.5])
    impossible = jnp.array([-jnp.inf, 0.0])
    assert jaxce.cross_entropy(jnp.array([0.0, 1.0]), q) == jnp.inf
    assert jaxce.kl_divergence_with_log_targets(impossible, jnp.log(q)) == jnp.inf
    value, grad = jaxce.kl_divergence.value_and_grad(impossible, q)
    assert value == jnp.inf
    assert_allclose(grad, [-0.5, -0.5])
    assert_allclose(jaxce.js_divergence(impossible, q), 0.2157616, rtol=1e-6)


def test_entropy_of_an_underflowed_softmax_has_gradient_zero():
    grad = jax.grad(lambda z: jaxce.entropy(jax.nn.softmax(z)))(jnp.array([0.0, -200.0]))
    assert_allclose(grad, 0)
    assert_allclose(jaxce.entropy.grad(jnp.array([0.0])), -1 - np.log(np.finfo(np.float32).tiny), rtol=1e-6)


def test_large_log_probabilities_are_exact():
    far, q = jnp.array([-1e4, 0.0]), jnp.array([0.5, 0.5])
    assert_allclose(jaxce.kl_divergence(far, q), 5000 - np.log(2), rtol=1e-6)
    assert_allclose(jaxce.kl_divergence_with_log_targets(far, far), 0)


def test_logarithms_are_not_taken_for_targets():
    negative = jnp.array([-0.5, -1.0])
    for function in (jaxce.kl_divergence, jaxce.js_divergence):
        with pytest.raises(ValueError, match=r"targets must not be negative; of log-prob.* kl_divergence_with"):
            function(negative, negative)
    with pytest.raises(ValueError, match="targets must not be negative"):
        jaxce.cross_entropy(jnp.array([0.5, 0.5]), jnp.array([-0.5, 1.5]))
