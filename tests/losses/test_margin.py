"""Margins on cosines and logits: slopes at every angle, what they are to each other, and what they do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import jaxce
from tests.losses.cases import arguments, settings

ANGULAR = ["arcface", "combined_margin"]
ON_COSINES = [*ANGULAR, "cosface", "sphereface"]


@pytest.fixture
def cosines_and_labels(rng):
    return arguments(jaxce.LOSSES["arcface"], rng, batch=(6,))


# What the margins are to each other.


def test_without_a_margin_every_margin_is_the_scaled_cosine(cosines_and_labels):
    c, y = cosines_and_labels
    for logits in (
        jaxce.arcface(c, y, margin=0.0),
        jaxce.cosface(c, y, margin=0.0),
        jaxce.sphereface(c, y, margin=1),
        jaxce.combined_margin(c, y, m2=0.0),
        64 * jaxce.soft_margin_softmax(c, y, margin=0.0),
    ):
        assert_allclose(logits, 64 * c, rtol=1e-6)


def test_combined_margin_holds_arcface_cosface_and_sphereface(cosines_and_labels):
    c, y = cosines_and_labels
    assert_allclose(jaxce.combined_margin(c, y, m2=0.3), jaxce.arcface(c, y, margin=0.3))
    assert_allclose(jaxce.combined_margin(c, y, m2=0.0, m3=0.3), jaxce.cosface(c, y, margin=0.3))
    near, zeros = np.cos(np.linspace(0, np.pi / 3, 8, dtype=np.float32))[:, None], np.zeros(8, int)
    three = jaxce.combined_margin(near, zeros, m1=3.0, m2=0.0)  # up to θ = π/3 alone
    assert_allclose(three, jaxce.sphereface(near, zeros, margin=3), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", [*ON_COSINES, "soft_margin_softmax"])
def test_a_margin_costs(name, cosines_and_labels):
    c, y = cosines_and_labels
    c = 0.8 * c  # θ ≤ π − 0.5
    logits = getattr(jaxce, name)(c, y, **({"scale": 1.0} if name in ON_COSINES else {}))
    is_label = np.arange(4) == y[:, None]
    assert (np.asarray(logits)[is_label] < c[is_label]).all()
    assert_allclose(logits[~is_label], c[~is_label], rtol=1e-6)


@pytest.mark.parametrize("margin", [2, 3, 4, 5])
def test_sphereface_falls_from_1_to_1_minus_2m_without_a_kink(margin):
    theta = np.linspace(0, np.pi, 2001, dtype=np.float32)
    c, y = np.cos(theta)[:, None], np.zeros(2001, int)
    psi, slopes = jaxce.sphereface.value_and_grad(c, y, margin=margin, scale=1.0)
    assert (jnp.diff(psi[:, 0]) <= 1e-6).all()
    assert_allclose(psi[jnp.array([0, -1]), 0], [1, 1 - 2 * margin])
    assert (slopes >= -1e-5).all()
    knots = np.cos(np.pi * np.arange(1, margin) / margin).astype(np.float32)[:, None]
    assert_allclose(jaxce.sphereface.grad(knots, y[: margin - 1], margin=margin, scale=1.0), 0, atol=1e-5)


def test_arcface_follows_its_formula_where_it_rises():
    theta = np.float32(3.0)  # past π − ½
    value, grad = jaxce.arcface.value_and_grad(jnp.cos(theta)[None], jnp.array(0))
    assert_allclose(value, 64 * np.cos([theta + 0.5]), rtol=1e-6)
    assert_allclose(grad, [64 * np.sin(theta + 0.5) / np.sin(theta)], rtol=1e-5)
    assert grad[0] < 0


def test_the_slope_of_arcface_is_not_straight_through():  # insightface gives 64
    c, y = jnp.array([0.3]), jnp.array(0)
    truth = 64 * np.sin(np.arccos(0.3) + 0.5) / np.sqrt(1 - 0.3**2)
    assert_allclose(jaxce.arcface.grad(c, y), [truth], rtol=1e-6)
    assert_allclose(jax.grad(lambda c: jaxce.arcface(c, y)[0])(c), [truth], rtol=1e-6)
    assert_allclose(truth, 65.8, atol=0.05)


# The ends, cosine ±1.


@pytest.mark.parametrize("name", ANGULAR)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_slope_at_one_is_that_of_the_nearest_cosine(name, dtype, float64):  # PML gives NaN
    loss, y = getattr(jaxce, name), jnp.zeros(4, int)
    nearest = 1 - float(jnp.finfo(dtype).epsneg)
    c = jnp.array([1.0, nearest, -1.0, -nearest], dtype)[:, None]
    assert c[1] < 1
    value, slopes = loss.value_and_grad(c, y)
    assert_array_equal(slopes[0], slopes[1])
    assert_array_equal(slopes[2], slopes[3])
    truth = 64 * (np.cos(0.5) + np.array([1, -1]) * nearest * np.sin(0.5) / np.sqrt(1 - nearest**2))
    assert_allclose(slopes[::2, 0].astype(jnp.float64), truth, rtol=1e-6 + float(jnp.finfo(dtype).eps))
    reverse = jax.grad(lambda c: loss(c, y).sum())(c).astype(float)
    assert_allclose(reverse, slopes.astype(float), rtol=1e-6)
    assert_allclose(value[::2, 0], [64 * np.cos(0.5), -64 * np.cos(0.5)], rtol=1e-6)


@pytest.mark.parametrize(("name", "option"), [("arcface", "margin"), ("combined_margin", "m2")])
def test_second_derivatives_at_cosine_one_are_finite(name, option):
    def slope(c, m):
        return jax.grad(lambda c: getattr(jaxce, name)(c, jnp.array(0), **{option: m})[0])(c)

    for which in (0, 1):
        assert jnp.isfinite(jax.jit(jax.jacobian(slope, which))(jnp.array([1.0]), 0.5)).all()


@pytest.mark.parametrize(("name", "options"), settings([*ANGULAR, "sphereface"]))
@pytest.mark.parametrize("beyond", [1.0000001, 1.01])
def test_cosines_that_rounding_carried_past_one_count_as_one(name, options, beyond):
    loss, y = getattr(jaxce, name), jnp.zeros(2, int)
    if options.get("m2", options.get("margin", 1)) == 0 and "m1" not in options:
        pytest.skip("no angle")
    past = loss.value_and_grad(jnp.array([[beyond], [-beyond]]), y, **options)
    jax.tree.map(assert_array_equal, past, loss.value_and_grad(jnp.array([[1.0], [-1.0]]), y, **options))


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_sphereface_has_its_true_slope_at_cosine_one(margin):
    y = jnp.zeros(2, int)
    slopes = jaxce.sphereface.grad(jnp.array([[1.0], [-1.0]]), y, margin=margin, scale=1.0)
    assert_allclose(slopes, margin**2)
    curvature = jax.hessian(lambda c: jaxce.sphereface(c, y[0], margin=margin, scale=1.0)[0])(jnp.ones(1))
    assert_allclose(curvature, [[margin**2 * (margin**2 - 1) / 3]])  # T″_m(1)


@pytest.mark.parametrize("name", ON_COSINES)
def test_gradients_of_the_features_are_true_at_every_angle(name, rng, float64):
    w, across = rng.normal(size=(2, 16))
    across -= across @ w / (w @ w) * w
    across *= np.linalg.norm(w) / np.linalg.norm(across)

    def logit(x):
        c = jaxce.normalized_cosines(x, jnp.asarray(w, x.dtype)[:, None])
        return getattr(jaxce, name)(c, jnp.array(0))[0]

    grad, logit = jax.jit(jax.grad(logit)), jax.jit(logit)
    for theta in (0.0, 1e-6, 1e-3, 0.1, 1.0, 3.0, np.pi):
        x = np.cos(theta) * w + np.sin(theta) * across
        assert np.isfinite(grad(x.astype(np.float32))).all()
    assert np.linalg.norm(grad(w.astype(np.float32))) < 0.1  # the tip of the cone: its slopes' mean, 0
    # of the angle itself the slope is finite everywhere: −s sin(θ + m), along the unit vector across
    for theta in (0.1, 1.0, 2.0):
        x = np.cos(theta) * w + np.sin(theta) * across
        step = 1e-6 * (np.cos(theta) * across - np.sin(theta) * w)
        difference = (logit(x + step) - logit(x - step)) / 2e-6
        assert_allclose(grad(x) @ step / 1e-6, difference, rtol=1e-6, atol=1e-6)


# Misuse.


def test_margins_in_degrees_and_scales_of_zero_are_refused():  # PML has degrees
    c, y = jnp.zeros((1, 2)), jnp.array([0])
    with pytest.raises(ValueError, match=r"margin is 28.6, but must lie in \[0, 3.14159\]"):
        jaxce.arcface(c, y, margin=28.6)
    with pytest.raises(ValueError, match=r"scale is 0.0, but must be positive and finite"):
        jaxce.arcface(c, y, scale=0.0)


# What margins are for.


@pytest.mark.slow
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
            with_margin = jaxce.arcface(cosines, y[~test], scale=16.0)
            logits = jnp.where(use_margin, with_margin, features @ params["kernel"])
            return jaxce.softmax_cross_entropy_with_integer_labels(logits, y[~test]).mean()

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=100)
        features = embed(params, x[test])
        return features, (features @ params["kernel"]).argmax(-1) == y[test]

    def share_of_pairs_in_disorder(features):
        """How often two examples of one class are further apart than two of different classes."""
        cosines = np.asarray(jaxce.normalized_cosines(features, features.T))
        pairs = np.triu_indices(len(cosines), 1)
        return 1 - roc_auc_score((y[test][:, None] == y[test][None])[pairs], cosines[pairs])

    (plain, plain_right), (margin, margin_right) = (
        trained_with(jax.random.key(0), use_margin) for use_margin in (False, True)
    )
    assert min(plain_right.mean(), margin_right.mean()) > 0.9  # both separate the classes
    assert share_of_pairs_in_disorder(margin) < 0.7 * share_of_pairs_in_disorder(plain)
