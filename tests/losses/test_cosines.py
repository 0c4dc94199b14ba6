"""Directions and lengths: cosines, unit vectors and L-Softmax, from zero vectors to huge ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxce
from jaxce import large_margin_softmax, normalized_cosines, unit_vectors

every_margin = pytest.mark.parametrize("margin", [1, 2, 3, 4])


@pytest.fixture
def features_kernel_labels(rng):
    x, w = rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    return x, w, np.arange(6) % 4


# Cosines.


def test_cosines_are_products_of_unit_vectors(features_kernel_labels):
    x, w, _ = features_kernel_labels
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    assert_allclose(unit_vectors(x), unit, rtol=1e-6)
    expected = unit @ (w / np.linalg.norm(w, axis=0)[None])
    assert_allclose(normalized_cosines(x, w), expected, rtol=1e-5, atol=1e-6)
    assert_allclose(unit_vectors(x) @ unit_vectors(w, axis=0), expected, rtol=1e-5, atol=1e-6)


def test_the_jacobian_in_the_kernel_has_the_vectors_exchanged(rng, float64):
    x, w = rng.normal(size=5), rng.normal(size=(5, 4))
    of_kernel = jax.jacobian(normalized_cosines, 1)(x, w)
    exchanged = normalized_cosines.grad(w.T, x[:, None])[:, 0]
    assert_allclose(of_kernel, np.einsum("jd,jk->jdk", exchanged, np.eye(4)), rtol=1e-9, atol=1e-12)


def test_cosines_do_not_depend_on_lengths_tiny_or_huge(rng):
    x, w = rng.uniform(0.5, 1, (2, 5)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    cosines, slopes = normalized_cosines.value_and_grad(x, w)
    by_autodiff = jax.jit(jax.vmap(jax.jacobian(normalized_cosines), (0, None)))
    for length in np.float32([1e-37, 1e-20, 1e20, 1e30]):
        found, closed = normalized_cosines.value_and_grad(length * x, w)
        assert_allclose(found, cosines, rtol=1e-5)
        assert_allclose(normalized_cosines(x, length * w), cosines, rtol=1e-5)
        for jacobian in (closed, by_autodiff(length * x, w)):
            assert_allclose(jacobian * length, slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("margin", [jaxce.arcface, jaxce.cosface, jaxce.sphereface])
def test_zero_vectors_have_cosine_zero_and_zero_gradient(margin, rng):  # PML gives 1e13
    x, w = rng.normal(size=(2, 5)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    x[0], w[:, 1] = 0, 0
    y = jnp.array([1, 1])
    for found in normalized_cosines.value_and_grad(x, w):
        assert not found[0].any()
        assert not found[:, 1].any()

    def loss(x, w):
        logits = margin(normalized_cosines(x, w), y)
        return jaxce.softmax_cross_entropy_with_integer_labels(logits, y).sum()

    of_x, of_w = jax.jit(jax.grad(loss, (0, 1)))(x, w)
    assert not of_x[0].any()
    assert of_x[1].any()
    assert not of_w[:, 1].any()
    assert np.isfinite(of_x).all()
    assert np.isfinite(of_w).all()
    assert np.isfinite(jax.jit(jax.jacobian(normalized_cosines.grad, 1))(x[0], w)).all()
    forward = jax.jit(lambda x: jax.jvp(lambda x: loss(x, w), (x,), (jnp.ones_like(x),))[1])(x)
    assert_allclose(forward, of_x.sum(), rtol=1e-4)


def test_unit_vectors_keep_their_dtype_and_zero_vectors():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]], jnp.bfloat16)
    assert unit_vectors(x).dtype == jnp.bfloat16
    assert_allclose(unit_vectors(x).astype(float), [[0.6, 0.8], [0, 0]], rtol=1e-2)
    assert not jax.jacobian(unit_vectors)(x[1].astype(jnp.float32)).any()
    assert_allclose(unit_vectors(x.astype(jnp.float32), axis=0), [[1, 1], [0, 0]])


@pytest.mark.usefixtures("unchecked")
def test_unit_vectors_need_floating_point_and_an_axis():
    with pytest.raises(TypeError, match="x must be floating-point, but has dtype int"):
        unit_vectors(jnp.ones((2, 3), int))
    with pytest.raises(ValueError, match="axis is 2, but x has 2 axes"):
        unit_vectors(jnp.ones((2, 3)), axis=2)


# L-Softmax.


def test_large_margin_softmax_of_margin_one_is_the_product(features_kernel_labels):
    x, w, y = features_kernel_labels
    assert_allclose(large_margin_softmax(x, w, y, margin=1), x @ w, rtol=1e-4, atol=1e-5)


def test_with_unit_columns_it_is_sphereface_times_the_length(features_kernel_labels):
    x, w, _ = features_kernel_labels
    w /= np.linalg.norm(w, axis=0)[None]
    x, y = x[0], jnp.array(3)
    sphere = jaxce.sphereface(normalized_cosines(x, w), y, scale=np.linalg.norm(x))
    assert_allclose(large_margin_softmax(x, w, y), sphere, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [2.0**-10, 2.0**10])
def test_it_grows_with_the_features_and_its_gradient_does_not(length, features_kernel_labels):
    x, w, y = features_kernel_labels
    value, grad = large_margin_softmax.value_and_grad(x, w, y)
    longer, slopes = large_margin_softmax.value_and_grad(np.float32(length) * x, w, y)
    assert_allclose(longer, length * value, rtol=1e-5)
    assert_allclose(slopes, grad, rtol=1e-5)


@every_margin
def test_it_is_finite_at_zero_and_on_the_axis_of_its_class(margin):
    w, y = jnp.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), jnp.array(0)
    slope_at_90_degrees = margin * abs(np.sin(margin * np.pi / 2))
    points = [
        ([0.0, 0.0], [0, 0, 0], [2 * slope_at_90_degrees, 0]),
        ([3.0, 0.0], [6, 0, 0], [2, 0]),
        ([-3.0, 0.0], [6 * (1 - 2 * margin), 0, 0], [2 * (2 * margin - 1), 0]),
    ]
    of_features = jax.jit(jax.jacobian(lambda x: large_margin_softmax(x, w, y, margin=margin)))
    for x, logits, slope in points:
        value, grad = large_margin_softmax.value_and_grad(jnp.array(x), w, y, margin=margin)
        assert_allclose(value, logits)
        for found in (grad, of_features(jnp.array(x))):
            assert_allclose(found, [slope, [0, 1], [0, 0]], atol=1e-5)

    curvature = jax.jit(jax.jacrev(jax.jacrev(lambda x: large_margin_softmax(x, w, y, margin=margin)[0])))
    assert jnp.isfinite(curvature(jnp.zeros(2))).all()

    def of_zero_column(w):
        return large_margin_softmax(jnp.array([3.0, 0.0]), w, jnp.array(2), margin=margin)

    assert of_zero_column(w)[2] == 0
    assert jnp.isfinite(jax.jit(jax.jacobian(of_zero_column))(w)).all()


# Misuse.


@pytest.mark.parametrize(
    "logits",
    [
        lambda x, w, y: jaxce.arcface(normalized_cosines(x, w), y),
        lambda x, w, y: jaxce.sphereface(normalized_cosines(x, w), y),
        large_margin_softmax,
    ],
    ids=["arcface", "sphereface", "large_margin_softmax"],
)
def test_a_label_that_names_no_class_makes_feature_gradients_nan(logits, rng):
    x, w = rng.normal(size=(2, 5)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)

    def loss(x, y):
        return jaxce.softmax_cross_entropy_with_integer_labels(logits(x, w, y), y).sum()

    gradients = jax.jit(lambda x, y: [jax.grad(f)(x, y) for f in (loss, lambda x, y: logits(x, w, y).sum())])
    for wrong in (-1, 3):
        for of_x in gradients(x, jnp.array([wrong, 1])):
            assert_array_equal(np.isnan(of_x), [[True] * 5, [False] * 5])


@pytest.mark.parametrize("function", [normalized_cosines, normalized_cosines.grad])
def test_features_and_kernel_must_fit(function):
    message = r"features has shape \(2, 3\) but kernel \(4, 3\): .* use kernel.T"
    with pytest.raises(ValueError, match=message):
        function(jnp.ones((2, 3)), jnp.ones((4, 3)))
    with pytest.raises(ValueError, match=r"features has shape \(2, 3\) but kernel \(3,\): .* kernel's two$"):
        function(jnp.ones((2, 3)), jnp.ones(3))
    with pytest.raises(TypeError, match="kernel must be floating-point"):
        function(jnp.ones((2, 3)), jnp.ones((3, 4), int))


@pytest.mark.parametrize(
    "margin", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_second_derivatives_of_l_softmax_are_zero_at_zero_features(margin):
    kernel = jnp.array([[1.0, 2.0], [0.5, -1.0]])

    def target(features):
        return jaxce.large_margin_softmax(features, kernel, jnp.array(0), margin=margin)[0]

    for hessian in (jax.hessian(target), jax.jacrev(jax.grad(target))):
        assert_array_equal(hessian(jnp.zeros(2)), jnp.zeros((2, 2)))
