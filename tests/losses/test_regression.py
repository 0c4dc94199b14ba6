"""Squared error, Brier score and the classification error."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxce

ANIMALS = jnp.array([2, 1, 0])  # the true classes
MODEL_1 = jnp.array([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])
MODEL_2 = jnp.array([[0.1, 0.2, 0.7], [0.1, 0.7, 0.2], [0.3, 0.4, 0.3]])


def plain_brier(z, y):
    return ((jax.nn.softmax(z) - jax.nn.one_hot(y, z.shape[-1])) ** 2).sum(-1)


# Squared error.


def test_squared_error_is_that_of_optax(rng):
    x, y = rng.normal(size=(2, 3, 4)).astype(np.float32)
    assert_allclose(jaxce.squared_error(x, y), optax.squared_error(x, y), rtol=1e-6)
    assert_allclose(jaxce.squared_error(x), optax.squared_error(x), rtol=1e-6)


def test_the_gradient_of_squared_error_is_twice_the_error(rng):
    with jax.enable_x64(True):
        x, y = rng.normal(size=(2, 5))
        grad = jaxce.squared_error.grad(x, y)
        assert_allclose(grad, 2 * (x - y))
        assert_allclose(grad, jax.grad(lambda x: jaxce.squared_error(x, y).sum())(x))
        assert_allclose(-grad, jax.grad(lambda y: jaxce.squared_error(x, y).sum())(y))
        difference = (jaxce.squared_error(x + 1e-5, y) - jaxce.squared_error(x - 1e-5, y)) / 2e-5
        assert_allclose(grad, difference, rtol=1e-6)
        assert_allclose(jax.hessian(lambda x: jaxce.squared_error(x, y).sum())(x), 2 * np.eye(5))


def distance(x, y):
    return np.sqrt(jaxce.squared_error(x, y).sum(-1))


def test_the_root_of_squared_error_is_a_metric(rng):  # M10
    x, y, z = rng.normal(size=(3, 200, 4)).astype(np.float32)
    assert (distance(x, y) > 0).all()
    assert (distance(x, x) == 0).all()
    assert_array_equal(distance(x, y), distance(y, x))
    assert (distance(x, z) <= distance(x, y) + distance(y, z) + 1e-6).all()


def test_squared_error_is_defined_for_a_prediction_that_is_no_probability():  # M10
    assert jaxce.squared_error(jnp.array(-1.5), jnp.array(0.5)) == 4


def test_squared_error_is_blind_to_the_order_of_samples(rng):  # M10
    x, y = rng.normal(size=(2, 50)).astype(np.float32)
    order = rng.permutation(50)
    assert_allclose(jaxce.squared_error(x[order], y[order]).mean(), jaxce.squared_error(x, y).mean(), rtol=1e-6)


def test_squared_error_is_blind_to_the_signal_itself(rng):  # M10
    signal, other, error = rng.normal(size=(3, 50)).astype(np.float32)
    ours = [jaxce.squared_error(s + error, s).mean() for s in (signal, 100 * other)]
    assert_allclose(ours[0], ours[1], rtol=1e-4)


def test_squared_error_is_blind_to_the_sign_of_the_error(rng):  # M10
    signal, error = rng.normal(size=(2, 50)).astype(np.float32)
    ours = [jaxce.squared_error(signal + e, signal) for e in (error, -error)]
    assert_allclose(ours[0], ours[1], rtol=1e-4, atol=1e-6)


def test_squared_error_is_blind_to_the_position_of_the_error():  # M10
    signal = jnp.linspace(0, 1, 50)
    ours = [jaxce.squared_error(signal.at[i].add(0.5), signal).mean() for i in (0, 25, 49)]
    assert_allclose(ours, 0.25 / 50, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "errors", "mean"), [(MODEL_1, [0.54, 0.54, 1.34], 0.8067), (MODEL_2, [0.14, 0.14, 0.74], 0.34)]
)
def test_worked_squared_errors_of_the_three_animals(model, errors, mean):
    ours = jaxce.squared_error(model, jax.nn.one_hot(ANIMALS, 3)).sum(-1)
    assert_allclose(ours, errors, rtol=1e-5)
    assert_allclose(ours.mean(), mean, atol=1e-4)
    assert_allclose(jaxce.brier_score(jnp.log(model), ANIMALS), errors, rtol=1e-5)


def test_squared_error_of_half_precision_is_computed_in_float32():
    x = jnp.array([256.0, 0.1], jnp.bfloat16)
    y = jnp.array([1.0, 0.0])
    assert_array_equal(jaxce.squared_error(x, y), (x.astype(jnp.float32) - y) ** 2)
    assert jaxce.squared_error.grad(x, y).dtype == jnp.bfloat16


def test_squared_error_never_broadcasts():
    with pytest.raises(
        ValueError, match=r"targets has shape \(4,\) but predictions \(4, 1\): use targets.reshape"
    ):
        jaxce.squared_error(jnp.ones((4, 1)), jnp.ones(4))
    with pytest.raises(TypeError, match="predictions must be floating-point"):
        jaxce.squared_error(jnp.ones(4, int), jnp.ones(4))


# The Brier score.


def high_precision_brier(z, y):
    """Value and gradient with 50 digits."""
    with mpmath.workdps(50):
        z = [mpmath.mpf(float(v)) for v in z]
        value = jaxce.LOSSES["brier_score"].definition
        p = [mpmath.exp(v - max(z)) for v in z]
        p = [v / mpmath.fsum(p) for v in p]
        r = [p_j - (j == y) for j, p_j in enumerate(p)]
        total = mpmath.fdot(r, p)
        return float(value(mpmath, z, y)), [float(2 * a * (b - total)) for a, b in zip(p, r, strict=True)]


@pytest.mark.parametrize(
    ("z", "y"),
    [
        ([0, -18], 0),
        ([0, -18], 1),
        ([0, 0, -20], 2),
        ([0, 0, 0, -20], 3),
        ([30, 30.001, 0, 29.9999], 2),
        ([1e4, 1e4 - 5, 1e4 - 5.01], 1),
        ([5, -3, 2, 1.9999], 0),
        ([2, 1, 0, -1, -2], 4),
        ([1e4, -1e4, 0], 0),
        ([1e4, -1e4, 0], 1),
    ],
)
def test_brier_score_and_gradient_are_exact_in_float32(z, y):
    z = np.array(z, np.float32)
    value, grad = high_precision_brier(z, y)
    assert_allclose(jaxce.brier_score(z, np.array(y)), value, rtol=1e-5)
    # to 1e-5 of each entry, the label's too; 1e-37 is where float32 ends
    assert_allclose(jaxce.brier_score.grad(z, np.array(y)), grad, rtol=1e-5, atol=1e-37)
    assert_array_equal(jax.grad(jaxce.brier_score)(z, np.array(y)), jaxce.brier_score.grad(z, np.array(y)))


def test_brier_gradient_is_that_of_the_plain_formula_and_of_central_differences(rng):
    with jax.enable_x64(True):
        z, y = rng.normal(scale=2, size=(6, 4)), rng.integers(0, 4, 6)
        grad = jaxce.brier_score.grad(z, y)
        assert_allclose(jaxce.brier_score(z, y), plain_brier(z, y))
        assert_allclose(grad, jax.grad(lambda z: plain_brier(z, y).sum())(z), rtol=1e-9)
        for i in range(4):
            moved = 1e-6 * np.eye(4)[i][None]
            difference = (jaxce.brier_score(z + moved, y) - jaxce.brier_score(z - moved, y)) / 2e-6
            assert_allclose(grad[:, i], difference, rtol=1e-6, atol=1e-9)
        hessian = jax.jit(jax.hessian(jaxce.brier_score))(z[0], y[0])
        assert_allclose(hessian, jax.jit(jax.hessian(plain_brier))(z[0], y[0]), atol=1e-10)
        assert_allclose(grad.sum(-1), 0, atol=1e-15)


@pytest.mark.parametrize("name", ["brier_score", "brier_score.grad", "classification_error"])
def test_a_batch_is_its_examples(name, rng):
    function = getattr(jaxce, name)
    z, y = rng.normal(size=(2, 3, 4)).astype(np.float32), rng.integers(0, 4, (2, 3))
    batch = function(z, y)
    assert_allclose(batch, [[function(z[i, j], y[i, j]) for j in range(3)] for i in range(2)], rtol=1e-6)
    assert_allclose(batch, jax.jit(jax.vmap(function))(z, y), rtol=1e-6)


def test_masked_classes_and_rows_without_a_class_cost_nothing():
    z = jnp.array([[1.0, -jnp.inf, 0.0], [-jnp.inf, -jnp.inf, 0.0], [-jnp.inf, -jnp.inf, -jnp.inf]])
    y = jnp.array([0, 2, 1])
    two = jaxce.brier_score(jnp.array([1.0, 0.0]), jnp.array(0))
    assert_allclose(jaxce.brier_score(z, y), [two, 0, 0])
    for grad in (jaxce.brier_score.grad(z, y), jax.grad(lambda z: jaxce.brier_score(z, y).sum())(z)):
        assert_allclose(grad[0, 1], 0)
        assert_allclose(grad[1:], 0)


def test_brier_gradient_vanishes_where_the_model_is_confidently_wrong():  # M9
    z = jnp.array([[-2.0, 0.0], [-5.0, 0.0], [-10.0, 0.0], [-20.0, 0.0]])
    grad = jaxce.brier_score.grad(z, jnp.zeros(4, int))[:, 0]
    assert (jnp.diff(jnp.abs(grad)) < 0).all()
    assert abs(grad[-1]) < 1e-7


# The classification error.


def test_the_error_rate_cannot_rank_the_two_models():  # M8
    for model in (MODEL_1, MODEL_2):
        assert_allclose(jaxce.classification_error(jnp.log(model), ANIMALS), [0, 0, 1])
        assert_array_equal(jaxce.classification_error.grad(jnp.log(model), ANIMALS), jnp.zeros((3, 3)))
        by_autodiff = jax.grad(lambda z: jaxce.classification_error(z, ANIMALS).sum())(jnp.log(model))
        assert_array_equal(by_autodiff, jnp.zeros((3, 3)))


def test_prediction_is_argmax_of_classes_and_threshold_of_components():  # M13
    z = jnp.array([[0.2, 1.5, -3.0], [0.0, -1.0, -2.0]])
    assert_array_equal(jaxce.classification_error(z, jnp.array([1, 2])), jnp.array([0.0, 1.0]))
    labels = jnp.array([[1, 1, 1], [0, 0, 1]])
    wrong = jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])  # σ(0) = ½ is not above ½
    for dtype in (int, float, bool):
        assert_array_equal(jaxce.classification_error(z, labels.astype(dtype)), wrong)
    assert_array_equal(jaxce.classification_error.grad(z, labels), jnp.zeros((2, 3)))
    assert_array_equal(jax.grad(lambda z: jaxce.classification_error(z, labels).sum())(z), jnp.zeros((2, 3)))


def test_the_error_of_nan_logits_is_nan():
    assert jnp.isnan(jaxce.classification_error(jnp.array([jnp.nan, 1.0]), jnp.array(1)))
    assert_array_equal(
        jaxce.classification_error(jnp.array([jnp.nan, 1.0]), jnp.array([1, 1])), jnp.array([jnp.nan, 0.0])
    )
    assert_array_equal(jaxce.classification_error.grad(jnp.array([jnp.nan, 1.0]), jnp.array(1)), [jnp.nan] * 2)
    assert_array_equal(
        jaxce.classification_error.grad(jnp.array([jnp.nan, 1.0]), jnp.array([1, 1])), jnp.array([jnp.nan, 0.0])
    )


@pytest.mark.parametrize("name", ["brier_score", "classification_error"])
def test_a_label_that_names_no_class_is_an_error_or_nan(name):
    function, grad = getattr(jaxce, name), getattr(jaxce, name).grad
    z = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    for wrong in (-1, 2):
        labels = jnp.array([0, wrong])
        with pytest.raises(ValueError, match=f"labels holds {wrong}, but there are 2 classes"):
            function(z, labels)
        value = jax.jit(function)(z, labels)
        assert_array_equal(jnp.isnan(value), jnp.array([False, True]))
        assert_array_equal(jnp.isnan(jax.jit(grad)(z, labels)).all(-1), jnp.array([False, True]))
        by_autodiff = jax.jit(jax.grad(lambda z, y: function(z, y).sum()))(z, labels)
        assert_array_equal(jnp.isnan(by_autodiff).all(-1), jnp.array([False, True]))


@pytest.mark.parametrize("name", ["brier_score", "classification_error"])
def test_labels_of_another_shape_or_kind_are_refused(name):
    function = getattr(jaxce, name)
    with pytest.raises(ValueError, match=r"labels has shape \(2, 1\) but logits \(2, 3\)"):
        function(jnp.zeros((2, 3)), jnp.zeros((2, 1), int))
    with pytest.raises(TypeError, match="labels must be integers"):
        function(jnp.zeros((2, 3)), jnp.zeros(2))
    with pytest.raises(TypeError, match="logits must be floating-point"):
        function(jnp.zeros((2, 3), int), jnp.zeros(2, int))


def test_labels_of_components_are_zeros_and_ones():
    with pytest.raises(ValueError, match="must be 0 or 1"):
        jaxce.classification_error(jnp.zeros((1, 2)), jnp.array([[0.3, 0.7]]))


@pytest.mark.parametrize("name", ["brier_score", "classification_error"])
def test_half_precision_is_computed_in_float32(name):
    z, y = jnp.array([[0.5, 1.25]], jnp.bfloat16), jnp.array([0])
    assert getattr(jaxce, name)(z, y).dtype == jnp.float32
    assert getattr(jaxce, name).grad(z, y).dtype == jnp.bfloat16
    assert_array_equal(getattr(jaxce, name)(z, y), getattr(jaxce, name)(z.astype(jnp.float32), y))


def test_components_are_floating_point_and_may_be_lists():
    for function in (jaxce.classification_error, jaxce.classification_error.grad):
        with pytest.raises(TypeError, match="logits must be floating-point"):
            function(np.ones((2, 3), int), np.ones((2, 3), int))
        with pytest.raises(ValueError, match="must be 0 or 1"):
            function(np.ones(3), np.array([0, 1, 0.5]))
    assert_array_equal(jaxce.classification_error([[1.0, -1.0]], [[1, 1]]), [[0, 1]])
    with jax.enable_x64(True):
        assert jaxce.classification_error(np.ones(3, np.float32), np.ones(3, int)).dtype == np.float32
