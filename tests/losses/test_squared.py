"""Squared error and the classification error."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxce import classification_error, squared_error

# Squared error.


def test_squared_error_is_that_of_optax(rng):
    x, y = rng.normal(size=(2, 3, 4)).astype(np.float32)
    assert_allclose(squared_error(x, y), optax.squared_error(x, y), rtol=1e-6)
    assert_allclose(squared_error(x), optax.squared_error(x), rtol=1e-6)
    assert_allclose(squared_error.grad(x), 2 * x)


def distance(x, y):
    return np.sqrt(squared_error(x, y).sum(-1))


def test_the_root_of_squared_error_is_a_metric(rng):  # M10
    x, y, z = rng.normal(size=(3, 200, 4)).astype(np.float32)
    assert (distance(x, y) > 0).all()
    assert (distance(x, x) == 0).all()
    assert_array_equal(distance(x, y), distance(y, x))
    assert (distance(x, z) <= distance(x, y) + distance(y, z) + 1e-6).all()


def test_squared_error_takes_a_prediction_that_is_no_probability():  # M10
    assert squared_error(jnp.array(-1.5), jnp.array(0.5)) == 4
    with np.errstate(invalid="ignore"):
        assert np.isnan(np.log(np.float32(-1.5)))  # of which cross-entropy is undefined


def test_squared_error_is_blind_to_order_signal_and_sign(rng):  # M10
    signal, other, error = rng.normal(size=(3, 50)).astype(np.float32)
    mean = squared_error(signal + error, signal).mean()
    order = rng.permutation(50)
    assert_allclose(squared_error((signal + error)[order], signal[order]).mean(), mean, rtol=1e-6)
    assert_allclose(squared_error(100 * other + error, 100 * other).mean(), mean, rtol=1e-4)
    assert_allclose(squared_error(signal - error, signal).mean(), mean, rtol=1e-4)


def test_squared_error_is_blind_to_the_position_of_the_error():  # M10
    signal = jnp.linspace(0, 1, 50)
    ours = [squared_error(signal.at[i].add(0.5), signal).mean() for i in (0, 25, 49)]
    assert_allclose(ours, 0.25 / 50, rtol=1e-5)


# The classification error.


def test_a_prediction_is_an_argmax_or_a_threshold():  # M13
    z = jnp.array([[0.2, 1.5, -3.0], [0.0, -1.0, -2.0], [1.0, 1.0, 0.0]])
    assert_array_equal(z.argmax(-1), jax.nn.softmax(z).argmax(-1))
    assert_array_equal(classification_error(z, jnp.array([1, 2, 1])), [0, 1, 1])  # the first of equals
    labels = jnp.array([[1, 1, 1], [0, 0, 1], [1, 0, 0]])
    wrong = [[0, 0, 1], [0, 0, 1], [0, 1, 0]]  # σ(0) = ½ is not above ½
    for dtype in (int, float, bool):
        value, grad = classification_error.value_and_grad(z, labels.astype(dtype))
        assert_array_equal(value, wrong)
        assert_array_equal(grad, jnp.zeros((3, 3)))


def test_the_error_of_nan_logits_is_nan():
    z = jnp.array([jnp.nan, 1.0])
    for label, expected in ((jnp.array(1), jnp.nan), (jnp.array([1, 1]), jnp.array([jnp.nan, 0.0]))):
        value, grad = classification_error.value_and_grad(z, label)
        assert_array_equal(value, expected)
        assert_array_equal(grad, jnp.broadcast_to(expected, (2,)))


def test_components_are_checked_as_rows_are():
    for function in (classification_error, classification_error.grad):
        with pytest.raises(TypeError, match="logits must be floating-point"):
            function(np.ones((2, 3), int), np.ones((2, 3), int))
        with pytest.raises(ValueError, match="must be 0 or 1"):
            function(np.ones(3), np.array([0, 1, 0.5]))
    assert_array_equal(classification_error([[1.0, -1.0]], [[1, 1]]), [[0, 1]])
    with jax.enable_x64(True):
        assert classification_error(np.ones(3, np.float32), np.ones(3, int)).dtype == np.float32
