"""Margin heads: values, true and finite slopes at every angle, and what they do to features."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import jaxce

HEADS = [
    ("arcface", {}),
    ("arcface", {"margin": 1.2, "scale": 16.0}),
    ("cosface", {}),
    ("sphereface", {}),
    ("sphereface", {"margin": 3, "scale": 16.0}),
    ("combined_margin", {"m1": 0.9, "m2": 0.4, "m3": 0.15}),
    ("combined_margin", {"m1": 1.35, "m2": 0.0, "scale": 16.0}),
    ("soft_margin_softmax", {}),
]
ANGULAR = ["arcface", "combined_margin"]
every_head = pytest.mark.parametrize(("name", "options"), HEADS)
every_margin = pytest.mark.parametrize("margin", [1, 2, 3, 4])


def both(name):
    return getattr(jaxce, name), getattr(jaxce, name).grad


def plain(name, c, y, margin=None, scale=64.0, m1=1.0, m2=0.5, m3=0.0):
    """The papers' formulas, for differentiation by JAX."""
    theta = jnp.arccos(c)
    if name == "arcface":
        target = jnp.cos(theta + (0.5 if margin is None else margin))
    elif name == "cosface":
        target = c - (0.35 if margin is None else margin)
    elif name == "combined_margin":
        target = jnp.cos(m1 * theta + m2) - m3
    elif name == "sphereface":
        target = plain_psi(theta, margin or 4)
    else:
        target, scale = c - 0.5, 1.0
    return scale * jnp.where(jax.nn.one_hot(y, c.shape[-1], dtype=bool), target, c)


def plain_psi(theta, margin):
    k = jnp.floor(margin * theta / jnp.pi)
    return (-1) ** k * jnp.cos(margin * theta) - 2 * k


def examples(rng, dtype=np.float32):
    return rng.uniform(-0.99, 0.99, (6, 4)).astype(dtype), rng.integers(0, 4, 6)


@every_head
def test_logits_are_the_definition_in_high_precision(name, options, rng):
    c, y = examples(rng)
    definition = jaxce.LOSSES[name].definition
    rows = [
        definition(mpmath, [mpmath.mpf(float(v)) for v in row], int(j), **options)
        for row, j in zip(c, y, strict=True)
    ]
    assert_allclose(both(name)[0](c, y, **options), np.array(rows, float), rtol=1e-5, atol=1e-4)


@every_head
def test_slopes_are_those_of_the_plain_formula_and_of_central_differences(name, options, rng):
    with jax.enable_x64(True):
        c, y = examples(rng, np.float64)
        value, grad = both(name)
        closed = grad(c, y, **options)
        assert_allclose(value(c, y, **options), plain(name, c, y, **options), rtol=1e-12, atol=1e-12)
        for function in (value, lambda c, y, **options: plain(name, c, y, **options)):
            by_autodiff = jax.jit(jax.grad(lambda c, f=function: f(c, y, **options).sum()))(c)
            assert_allclose(closed, by_autodiff, rtol=1e-9, atol=1e-9)
        difference = (value(c + 1e-6, y, **options) - value(c - 1e-6, y, **options)) / 2e-6
        assert_allclose(closed, difference, rtol=1e-6, atol=1e-6)
        forward = jax.jvp(lambda c: value(c, y, **options), (c,), (c,))[1]
        assert_allclose(forward, closed * c, rtol=1e-12)


@every_head
def test_each_logit_depends_on_its_own_cosine_alone_and_its_curvature_is_that_of_the_formula(
    name, options, rng
):
    with jax.enable_x64(True):
        c, y = rng.uniform(-0.9, 0.9, 3), jnp.array(1)
        value, grad = both(name)
        jacobian = jax.jacobian(lambda c: value(c, y, **options))(c)
        assert_allclose(jacobian, np.diag(grad(c, y, **options)), rtol=1e-12)
        curvature = jax.jit(jax.hessian(lambda c: value(c, y, **options)[1]))(c)
        of_plain = jax.jit(jax.hessian(lambda c: plain(name, c, y, **options)[1]))(c)
        assert_allclose(curvature, of_plain, rtol=1e-8, atol=1e-8)


@every_head
@pytest.mark.parametrize("kind", [0, 1])
def test_a_batch_is_its_examples(name, options, kind, rng):
    c, y = examples(rng)

    def function(c, y):
        return both(name)[kind](c, y, **options)

    batch = function(c, y)
    assert_allclose(batch, [function(c[i], y[i]) for i in range(6)], rtol=1e-6)
    assert_allclose(batch, jax.jit(jax.vmap(function))(c, y), rtol=1e-5)
    assert_allclose(batch, function(c.reshape(2, 3, 4), y.reshape(2, 3)).reshape(6, 4), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "loose"),
    [
        ("arcface", "margin", 0.3),
        ("cosface", "margin", 0.3),
        ("combined_margin", "m2", 0.2),
        ("combined_margin", "m1", 1.1),
        ("combined_margin", "m3", 0.1),
        ("soft_margin_softmax", "margin", 0.3),
    ],
)
def test_margins_and_scales_may_be_traced_and_have_derivatives(name, options, loose, rng):
    with jax.enable_x64(True):
        c, y = examples(rng, np.float64)

        def total(value):
            return both(name)[0](c, y, **{options: value}).sum()

        difference = (total(loose + 1e-6) - total(loose - 1e-6)) / 2e-6
        assert_allclose(jax.jit(jax.grad(total))(loose), difference, rtol=1e-5)
        assert_allclose(jax.vmap(total)(jnp.array([loose, loose / 2])), [total(loose), total(loose / 2)])


# What the heads are to each other.


def test_without_a_margin_every_head_is_the_scaled_cosine(rng):
    c, y = examples(rng)
    for logits in (
        jaxce.arcface(c, y, margin=0.0),
        jaxce.cosface(c, y, margin=0.0),
        jaxce.sphereface(c, y, margin=1),
        jaxce.combined_margin(c, y, m2=0.0),
        64 * jaxce.soft_margin_softmax(c, y, margin=0.0),
    ):
        assert_allclose(logits, 64 * c, rtol=1e-6)


def test_combined_margin_holds_arcface_cosface_and_the_start_of_sphereface(rng):
    c, y = examples(rng)
    assert_allclose(jaxce.combined_margin(c, y, m2=0.3), jaxce.arcface(c, y, margin=0.3))
    assert_allclose(jaxce.combined_margin(c, y, m2=0.0, m3=0.3), jaxce.cosface(c, y, margin=0.3))
    near = np.cos(np.linspace(0, np.pi / 3, 8, dtype=np.float32))[:, None]
    zeros = np.zeros(8, int)
    three = jaxce.combined_margin(near, zeros, m1=3.0, m2=0.0)
    assert_allclose(three, jaxce.sphereface(near, zeros, margin=3), rtol=1e-5, atol=1e-4)


def test_a_margin_costs(rng):
    c, y = examples(rng)
    c = c * 0.8  # θ ≤ π − 0.5
    for head in (jaxce.arcface, jaxce.cosface, jaxce.sphereface, jaxce.soft_margin_softmax):
        target = np.take_along_axis(
            np.asarray(head(c, y, **({} if head is jaxce.soft_margin_softmax else {"scale": 1.0}))),
            y[:, None],
            -1,
        )
        assert (target < np.take_along_axis(c, y[:, None], -1)).all()


@pytest.mark.parametrize("margin", [2, 3, 4, 5])
def test_sphereface_falls_with_the_angle_from_1_to_1_minus_2m_without_a_kink(margin):
    theta = np.linspace(0, np.pi, 2001, dtype=np.float32)
    c, y = np.cos(theta)[:, None], np.zeros(2001, int)
    psi = jaxce.sphereface(c, y, margin=margin, scale=1.0)[:, 0]
    assert (jnp.diff(psi) <= 1e-6).all()
    assert_allclose(psi[jnp.array([0, -1])], [1, 1 - 2 * margin])
    slopes = jaxce.sphereface.grad(c, y, margin=margin, scale=1.0)[:, 0]
    assert (slopes >= -1e-5).all()
    knots = np.cos(np.pi * np.arange(1, margin) / margin).astype(np.float32)[:, None]
    assert_allclose(jaxce.sphereface.grad(knots, y[: margin - 1], margin=margin, scale=1.0), 0, atol=1e-5)


def test_arcface_follows_its_formula_past_the_angle_at_which_it_rises():
    theta = np.float32(3.0)  # past π − ½
    c, y = jnp.cos(theta)[None], jnp.array(0)
    assert_allclose(jaxce.arcface(c, y), 64 * np.cos([theta + 0.5]), rtol=1e-6)
    assert_allclose(jaxce.arcface.grad(c, y), [64 * np.sin(theta + 0.5) / np.sin(theta)], rtol=1e-5)
    assert jaxce.arcface.grad(c, y)[0] < 0


# True and finite slopes.


def test_the_slope_of_arcface_is_not_straight_through():  # insightface gives 64
    c, y = jnp.array([0.3]), jnp.array(0)
    with mpmath.workdps(30):
        truth = float(mpmath.diff(lambda c: 64 * mpmath.cos(mpmath.acos(c) + 0.5), mpmath.mpf(float(c[0]))))
    assert_allclose(jaxce.arcface.grad(c, y), [truth], rtol=1e-6)
    assert_allclose(jax.grad(lambda c: jaxce.arcface(c, y)[0])(c), [truth], rtol=1e-6)
    assert_allclose(truth, 65.8, atol=0.05)


@pytest.mark.parametrize("name", ANGULAR)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_slopes_at_cosine_one_are_finite_and_those_of_the_nearest_cosine_inside(name, dtype):  # PML gives NaN
    with jax.enable_x64(True):
        value, grad = both(name)
        y = jnp.zeros(4, int)
        nearest = 1 - float(jnp.finfo(dtype).epsneg)
        c = jnp.array([1.0, nearest, -1.0, -nearest], dtype)[:, None]
        assert c[1] < 1
        slopes = grad(c, y)
        assert_array_equal(slopes[0], slopes[1])
        assert_array_equal(slopes[2], slopes[3])
        truth = 64 * (np.cos(0.5) + np.array([1, -1]) * nearest * np.sin(0.5) / np.sqrt(1 - nearest**2))
        assert_allclose(slopes[::2, 0].astype(jnp.float64), truth, rtol=1e-6 + float(jnp.finfo(dtype).eps))
        assert_array_equal(jax.grad(lambda c: value(c, y).sum())(c), slopes)
        assert_allclose(value(c[::2], y[::2])[:, 0], [64 * np.cos(0.5), -64 * np.cos(0.5)], rtol=1e-6)


@pytest.mark.parametrize(("name", "option"), [("arcface", "margin"), ("combined_margin", "m2")])
def test_second_derivatives_at_cosine_one_are_finite(name, option):
    c, y = jnp.array([1.0]), jnp.array(0)

    def logit(c, m):
        return both(name)[0](c, y, **{option: m})[0]

    for which in (0, 1):
        assert jnp.isfinite(jax.jit(jax.jacobian(jax.grad(logit), which))(c, 0.5)).all()


@pytest.mark.parametrize(("name", "options"), [h for h in HEADS if h[0] in (*ANGULAR, "sphereface")])
@pytest.mark.parametrize("beyond", [1.0000001, 1.01])
def test_cosines_that_rounding_carried_past_one_count_as_one(name, options, beyond):
    value, grad = both(name)
    past, ends = jnp.array([[beyond], [-beyond]]), jnp.array([[1.0], [-1.0]])
    y = jnp.zeros(2, int)
    assert_array_equal(value(past, y, **options), value(ends, y, **options))
    assert_array_equal(grad(past, y, **options), grad(ends, y, **options))


@every_margin
def test_sphereface_has_its_true_slope_at_cosine_one(margin):
    y = jnp.zeros(2, int)
    assert_allclose(jaxce.sphereface.grad(jnp.array([[1.0], [-1.0]]), y, margin=margin, scale=1.0), margin**2)
    curvature = jax.hessian(lambda c: jaxce.sphereface(c, y[0], margin=margin, scale=1.0)[0])(jnp.ones(1))
    assert_allclose(curvature, [[margin**2 * (margin**2 - 1) / 3]])  # T″_m(1)


@every_head
def test_gradients_of_the_features_are_finite_and_true_at_every_angle(name, options, rng):
    value, _ = both(name)
    w = rng.normal(size=16)
    across = rng.normal(size=16)
    across -= across @ w / (w @ w) * w
    across *= np.linalg.norm(w) / np.linalg.norm(across)

    def logit(x):
        c = jaxce.normalized_cosines(x, jnp.asarray(w, x.dtype)[:, None])
        return value(c, jnp.array(0), **options)[0]

    grad = jax.jit(jax.grad(logit))
    for theta in (0.0, 1e-6, 1e-3, 0.1, 1.0, 3.0, np.pi):
        x = np.cos(theta) * w + np.sin(theta) * across
        assert np.isfinite(grad(x.astype(np.float32))).all()
    assert np.linalg.norm(grad(np.asarray(w, np.float32))) < 0.1  # the tip of the cone: its slopes' mean, 0

    # Of the angle itself the slope is finite everywhere: −s sin(θ + m), along the unit vector across.
    with jax.enable_x64(True):
        for theta in (0.1, 1.0, 2.0):
            x = np.cos(theta) * w + np.sin(theta) * across
            step = 1e-6 * (np.cos(theta) * across - np.sin(theta) * w)
            difference = (logit(jnp.asarray(x + step)) - logit(jnp.asarray(x - step))) / 2e-6
            assert_allclose(grad(jnp.asarray(x)) @ step / 1e-6, difference, rtol=1e-6, atol=1e-6)


# Directions: cosines of features and class vectors.


def test_cosines_are_products_of_unit_vectors(rng):
    x, w = rng.normal(size=(2, 3, 5)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    expected = unit @ (w / np.linalg.norm(w, axis=0)[None])
    assert_allclose(jaxce.normalized_cosines(x, w), expected, rtol=1e-5, atol=1e-6)
    row = [mpmath.mpf(float(v)) for v in x[0, 0]]
    truth = jaxce.LOSSES["normalized_cosines"].definition(mpmath, row, w.astype(float).tolist())
    assert_allclose(jaxce.normalized_cosines(x, w)[0, 0], np.array(truth, float), rtol=1e-5)


def test_the_jacobian_of_cosines_is_its_closed_form_and_central_differences(rng):
    with jax.enable_x64(True):
        x, w = rng.normal(size=(3, 5)), rng.normal(size=(5, 4))
        closed = jaxce.normalized_cosines.grad(x, w)
        assert_allclose(closed, jax.vmap(jax.jacobian(jaxce.normalized_cosines), (0, None))(x, w), rtol=1e-9)
        for i in range(5):
            step = 1e-6 * np.eye(5)[i][None]
            difference = (jaxce.normalized_cosines(x + step, w) - jaxce.normalized_cosines(x - step, w)) / 2e-6
            assert_allclose(closed[..., i], difference, rtol=1e-6, atol=1e-9)
        # with respect to the kernel: the two vectors exchanged
        of_kernel = jax.jacobian(jaxce.normalized_cosines, 1)(x[0], w)
        exchanged = jaxce.normalized_cosines.grad(w.T, x[0][:, None])[:, 0]
        assert_allclose(of_kernel, np.einsum("jd,jk->jdk", exchanged, np.eye(4)), rtol=1e-9, atol=1e-12)


def test_cosines_do_not_depend_on_lengths_be_they_tiny_or_huge(rng):
    x, w = rng.uniform(0.5, 1, (2, 5)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    ours, slopes = jaxce.normalized_cosines(x, w), jaxce.normalized_cosines.grad(x, w)
    for length in np.float32([1e-37, 1e-20, 1e20, 1e30]):
        assert_allclose(jaxce.normalized_cosines(length * x, w), ours, rtol=1e-5)
        assert_allclose(jaxce.normalized_cosines(x, length * w), ours, rtol=1e-5)
        assert_allclose(jaxce.normalized_cosines.grad(x * length, w) * length, slopes, rtol=1e-4, atol=1e-6)
        by_autodiff = jax.vmap(jax.jacobian(jaxce.normalized_cosines), (0, None))(x * length, w)
        assert_allclose(by_autodiff * length, slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", [jaxce.arcface, jaxce.cosface, jaxce.sphereface])
def test_zero_features_and_zero_columns_have_cosine_zero_and_zero_gradient(head, rng):  # PML gives 1e13
    w = rng.normal(size=(5, 3)).astype(np.float32)
    w[:, 1] = 0
    x = np.stack([np.zeros(5, np.float32), rng.normal(size=5).astype(np.float32)])
    y = jnp.array([1, 1])
    assert_allclose(jaxce.normalized_cosines(x, w)[0], 0)
    assert_allclose(jaxce.normalized_cosines(x, w)[:, 1], 0)
    assert not jaxce.normalized_cosines.grad(x, w)[0].any()
    assert not jaxce.normalized_cosines.grad(x, w)[:, 1].any()

    def loss(x, w):
        logits = head(jaxce.normalized_cosines(x, w), y)
        return jaxce.softmax_cross_entropy_with_integer_labels(logits, y).sum()

    of_x, of_w = jax.grad(loss, (0, 1))(x, w)
    assert not of_x[0].any()
    assert not of_w[:, 1].any()
    assert jnp.isfinite(of_x).all()
    assert jnp.isfinite(of_w).all()
    assert of_x[1].any()
    forward = jax.jvp(lambda x: loss(x, w), (x,), (jnp.ones_like(x),))[1]
    assert_allclose(forward, of_x.sum(), rtol=1e-4)


# L-Softmax.


def plain_large_margin(x, w, y, margin):
    logits = jnp.dot(x, w)
    length = jnp.linalg.norm(x) * jnp.linalg.norm(w[:, y])
    return logits.at[y].set(length * plain_psi(jnp.arccos(logits[y] / length), margin))


@every_margin
def test_large_margin_softmax_is_its_formula_in_value_and_every_derivative(margin, rng):
    with jax.enable_x64(True):
        x, w, y = rng.normal(size=5), rng.normal(size=(5, 4)), jnp.array(2)

        def ours(x, w):
            return jaxce.large_margin_softmax(x, w, y, margin=margin)

        def formula(x, w):
            return plain_large_margin(x, w, y, margin)

        assert_allclose(ours(x, w), formula(x, w), rtol=1e-10)
        truth = jaxce.LOSSES["large_margin_softmax"].definition(mpmath, x.tolist(), w.tolist(), 2, margin)
        assert_allclose(ours(x, w), np.array(truth, float), rtol=1e-10)
        for which in (0, 1):
            of_formula = jax.jit(jax.jacobian(formula, which))(x, w)
            assert_allclose(jax.jit(jax.jacobian(ours, which))(x, w), of_formula, rtol=1e-8, atol=1e-9)
        closed = jaxce.large_margin_softmax.grad(x, w, y, margin=margin)
        assert_allclose(closed, jax.jit(jax.jacobian(formula))(x, w), rtol=1e-8, atol=1e-9)
        for i in range(5):
            step = 1e-6 * np.eye(5)[i]
            assert_allclose(closed[:, i], (ours(x + step, w) - ours(x - step, w)) / 2e-6, rtol=1e-6, atol=1e-6)
        curvature = jax.jit(jax.hessian(lambda x: ours(x, w)[2]))(x)
        assert_allclose(curvature, jax.jit(jax.hessian(lambda x: formula(x, w)[2]))(x), rtol=1e-6, atol=1e-7)


def test_large_margin_softmax_of_margin_one_is_the_product(rng):
    x, w = rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    assert_allclose(jaxce.large_margin_softmax(x, w, np.arange(6) % 4, margin=1), x @ w, rtol=1e-4, atol=1e-5)


def test_large_margin_softmax_with_unit_columns_is_sphereface_scaled_by_the_features_length(rng):
    x, w = rng.normal(size=5).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    w /= np.linalg.norm(w, axis=0)[None]
    y = jnp.array(3)
    sphere = jaxce.sphereface(jaxce.normalized_cosines(x, w), y, scale=np.linalg.norm(x))
    assert_allclose(jaxce.large_margin_softmax(x, w, y), sphere, rtol=1e-4, atol=1e-5)


def test_large_margin_softmax_grows_with_the_length_of_the_features_and_its_gradient_does_not(rng):
    x, w = rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    y = np.arange(6) % 4
    for length in (2.0**-10, 2.0**10):
        of_scaled = (
            jaxce.large_margin_softmax(length * x, w, y),
            jaxce.large_margin_softmax.grad(length * x, w, y),
        )
        assert_allclose(of_scaled[0], length * jaxce.large_margin_softmax(x, w, y), rtol=1e-5)
        assert_allclose(of_scaled[1], jaxce.large_margin_softmax.grad(x, w, y), rtol=1e-5)


def test_a_batch_of_large_margins_is_its_examples(rng):
    x, w, y = (
        rng.normal(size=(6, 5)).astype(np.float32),
        rng.normal(size=(5, 4)).astype(np.float32),
        np.arange(6) % 4,
    )
    for function in (jaxce.large_margin_softmax, jaxce.large_margin_softmax.grad):
        batch = function(x, w, y)
        assert_allclose(batch, [function(x[i], w, y[i]) for i in range(6)], rtol=1e-4, atol=1e-5)
        assert_allclose(batch, jax.vmap(function, (0, None, 0))(x, w, y), rtol=1e-4, atol=1e-5)


@every_margin
def test_large_margin_softmax_is_finite_at_zero_and_on_the_axis_of_its_class(margin):
    w = jnp.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    y = jnp.array(0)
    slope_at_90_degrees = margin * abs(np.sin(margin * np.pi / 2))

    def ours(x, y=y):
        return jaxce.large_margin_softmax(x, w, y, margin=margin)

    zero, along, against = jnp.zeros(2), jnp.array([3.0, 0.0]), jnp.array([-3.0, 0.0])
    assert_array_equal(ours(zero), jnp.zeros(3))
    assert_allclose(ours(along), [6, 0, 0])
    assert_allclose(ours(against), [6 * (1 - 2 * margin), 0, 0])
    for x, target in (
        (zero, [2 * slope_at_90_degrees, 0]),
        (along, [2, 0]),
        (against, [2 * (2 * margin - 1), 0]),
    ):
        closed = jaxce.large_margin_softmax.grad(x, w, y, margin=margin)
        assert_allclose(closed, [target, [0, 1], [0, 0]], atol=1e-5)
        assert_allclose(jax.jacobian(ours)(x), closed, atol=1e-5)
    # a class whose column is zero has logit 0 and a finite gradient in the kernel
    assert_allclose(ours(along, jnp.array(2))[2], 0)
    of_kernel = jax.jacobian(lambda w: jaxce.large_margin_softmax(along, w, jnp.array(2), margin=margin))(w)
    assert jnp.isfinite(of_kernel).all()


# Half precision, misuse.


@every_head
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(name, options, dtype, rng):
    c, y = examples(rng)
    c = jnp.asarray(c, dtype)
    value, grad = both(name)
    assert_array_equal(value(c, y, **options), value(c.astype(jnp.float32), y, **options))
    assert grad(c, y, **options).dtype == dtype
    x, w = jnp.ones((2, 3), dtype), jnp.ones((3, 2), dtype)
    assert (
        jaxce.normalized_cosines(x, w).dtype == jaxce.large_margin_softmax(x, w, y[:2] % 2).dtype == jnp.float32
    )
    assert jaxce.normalized_cosines.grad(x, w).dtype == dtype


@pytest.fixture(
    params=[(name, kind) for name in (*dict(HEADS), "large_margin_softmax") for kind in ("value", "grad")]
)
def head(request):
    """A head, or its gradient, as a function of labels for three rows of two classes."""
    rows = jnp.array([[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]])
    name, kind = request.param
    kernel = (jnp.eye(2),) if name.startswith("large") else ()
    return lambda labels: getattr(jaxce.LOSSES[name], kind)(rows, *kernel, labels)


def test_a_label_that_names_no_class_is_an_error_or_nan(head):
    for wrong in (-1, 2):
        labels = jnp.array([0, wrong, 1])
        with pytest.raises(ValueError, match=f"labels holds {wrong}, but there are 2 classes"):
            head(labels)
        result = jax.jit(head)(labels)
        assert jnp.isnan(result[1]).all()
        assert jnp.isfinite(result[jnp.array([0, 2])]).all()


@pytest.mark.parametrize(
    "logits",
    [
        lambda x, w, y: jaxce.arcface(jaxce.normalized_cosines(x, w), y),
        lambda x, w, y: jaxce.sphereface(jaxce.normalized_cosines(x, w), y),
        lambda x, w, y: jaxce.large_margin_softmax(x, w, y),
    ],
)
def test_a_label_that_names_no_class_makes_the_gradients_of_features_nan(logits, rng):
    x, w = rng.normal(size=(2, 5)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)

    def loss(x, y):
        return jaxce.softmax_cross_entropy_with_integer_labels(logits(x, w, y), y).sum()

    for wrong in (-1, 3):
        y = jnp.array([wrong, 1])
        for function in (loss, lambda x, y: logits(x, w, y).sum()):
            of_x = jax.jit(jax.grad(function))(x, y)
            assert_array_equal(jnp.isnan(of_x).all(-1), jnp.array([True, False]))
            assert jnp.isnan(of_x).any(-1).sum() == 1


def test_labels_of_another_shape_or_kind_are_refused(head):
    with pytest.raises(ValueError, match=r"labels has shape \(3, 1\) but"):
        head(jnp.zeros((3, 1), int))
    with pytest.raises(TypeError, match="labels must be integers"):
        head(jnp.zeros(3))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("arcface", {"margin": -0.1}, r"margin is -0.1, but must lie in \[0, 3.14159\]"),
        ("arcface", {"margin": 28.6}, "margin is 28.6"),  # degrees, as PML has them
        ("cosface", {"margin": -0.1}, "margin is -0.1, but must lie at or above 0"),
        ("soft_margin_softmax", {"margin": -1.0}, "margin is -1.0"),
        ("sphereface", {"margin": 0}, "margin is 0, but must be at or above 1"),
        ("combined_margin", {"m1": -1.0}, "m1 is -1.0"),
        ("combined_margin", {"m2": 4.0}, "m2 is 4.0"),
        ("combined_margin", {"m3": float("nan")}, "m3 is nan"),
        ("arcface", {"scale": 0.0}, "scale is 0.0, but must be positive and finite"),
        ("sphereface", {"scale": -64.0}, "scale is -64.0"),
    ],
)
def test_margins_and_scales_out_of_range_are_refused(name, options, message):
    for function in both(name):
        with pytest.raises(ValueError, match=message):
            function(jnp.zeros((1, 2)), jnp.array([0]), **options)


@pytest.mark.parametrize("margin", [2.5, 4.0, "4"])
def test_multiplicative_margins_are_integers(margin):
    with pytest.raises(TypeError, match="must be a Python integer"):
        jaxce.sphereface(jnp.zeros((1, 2)), jnp.array([0]), margin=margin)
    with pytest.raises(TypeError, match="static"):
        jax.jit(lambda m: jaxce.large_margin_softmax(jnp.ones((1, 2)), jnp.eye(2), jnp.array([0]), margin=m))(4)


def test_features_and_kernel_must_fit():
    for function in (jaxce.normalized_cosines, jaxce.normalized_cosines.grad):
        with pytest.raises(
            ValueError, match=r"features has shape \(2, 3\) but kernel \(4, 3\): .* use kernel.T"
        ):
            function(jnp.ones((2, 3)), jnp.ones((4, 3)))
        with pytest.raises(TypeError, match="kernel must be floating-point"):
            function(jnp.ones((2, 3)), jnp.ones((3, 4), int))
    with pytest.raises(TypeError, match="cosines must be floating-point"):
        jaxce.arcface(jnp.ones((2, 3), int), jnp.array([0, 1]))


# What margins are for.


def test_softmax_separates_features_and_margins_gather_them():  # M12
    x, y = load_digits(return_X_y=True)
    x, test = (x / 16).astype(np.float32), np.arange(len(y)) % 4 == 0
    tx = optax.adam(5e-3)

    def embed(params, x):
        return jax.nn.relu(x @ params["hidden"]) @ params["embedding"]

    @jax.jit
    def trained_with(key, use_margin):
        keys = jax.random.split(key, 3)
        shapes = {"hidden": (64, 64), "embedding": (64, 16), "kernel": (16, 10)}
        params = {
            n: jax.random.normal(k, s) / s[0] ** 0.5 for k, (n, s) in zip(keys, shapes.items(), strict=True)
        }

        def loss(params):
            features = embed(params, x[~test])
            cosines = jaxce.normalized_cosines(features, params["kernel"])
            logits = jnp.where(
                use_margin, jaxce.arcface(cosines, y[~test], scale=16.0), features @ params["kernel"]
            )
            return jaxce.softmax_cross_entropy_with_integer_labels(logits, y[~test]).mean()

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=150)
        features = embed(params, x[test])
        return features, (features @ params["kernel"]).argmax(-1) == y[test]

    def share_of_pairs_in_disorder(features):
        """How often two examples of one class are further apart than two of different classes."""
        cosines = np.asarray(jaxce.normalized_cosines(features, features.T))
        pairs = np.triu_indices(len(cosines), 1)
        return 1 - roc_auc_score((y[test][:, None] == y[test][None])[pairs], cosines[pairs])

    for seed in range(2):
        (plain, plain_right), (margin, margin_right) = (
            trained_with(jax.random.key(seed), use_margin) for use_margin in (False, True)
        )
        assert min(plain_right.mean(), margin_right.mean()) > 0.9  # both separate the classes
        assert share_of_pairs_in_disorder(margin) < 0.7 * share_of_pairs_in_disorder(plain)
