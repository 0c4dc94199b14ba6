"""The binary losses: digits at every logit, certainty, options, and their mathematics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxce
from jaxce import asymmetric_loss, sigmoid_binary_cross_entropy, sigmoid_focal_loss
from jaxce.losses import definitions
from tests.losses.cases import arguments, settings

NAMES = ["sigmoid_binary_cross_entropy", "sigmoid_focal_loss", "asymmetric_loss"]
PER_CLASS = np.array([1.0, 2.0, 0.5, 3.0])


def logits_and_labels(rng, batch=(3,)):
    return arguments(jaxce.LOSSES[NAMES[0]], rng, batch)


# Digits.


@pytest.mark.parametrize(("name", "options"), settings(NAMES))
def test_value_and_gradient_are_exact_at_every_logit(name, options):
    loss, definition = getattr(jaxce, name), getattr(definitions, name)
    z = np.float32([-120, -88, -30, -20, -5, -2.9, -1, -1e-3, 0, 1e-3, 0.4, 1, 5, 20, 30, 88, 120])
    z, y = (a.ravel() for a in np.meshgrid(z, np.float32([0, 0.3, 1])))
    options = {option: np.float32(v) for option, v in options.items()}
    traced = options | ({"clip": np.float32(0.05)} if name == NAMES[2] and "clip" not in options else {})
    truth = jaxce.exact(jax.vmap(lambda z, y, o: jax.value_and_grad(definition)(z, y, **o), (0, 0, None)))
    value, grad = loss.value_and_grad(z, y, **options)
    underflow = 32 * float(jnp.finfo(jnp.float32).tiny)
    for found, right in zip((value, grad), truth(z, y, traced), strict=True):
        # the definition's gradient has 0/0 where p − clip is 0 to the power 0
        assert_allclose(
            found, np.where(np.isnan(right.nearest()), found, right.nearest()), rtol=1e-5, atol=underflow
        )


# Certainty.

INF = np.inf
COST = -(0.95**4) * np.log(0.05)  # of a certain negative: p − clip is 0.95
LIMITS = [  # as z goes to +inf and −inf, with labels 1, 0 and ¼: values, then slopes
    (NAMES[0], {}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75, -1, 0, -0.25]),
    (NAMES[0], {"pos_weight": 3.0}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75, -3, 0, -0.75]),
    (NAMES[0], {"label_smoothing": 0.5}, [INF] * 6, [0.25, 0.75, 0.625, -0.75, -0.25, -0.375]),
    (NAMES[1], {"gamma": 0.0}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75, -1, 0, -0.25]),
    (NAMES[1], {}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75**3, -1, 0, -(0.25**3)]),
    (NAMES[2], {"clip": 0.0}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75, -1, 0, -0.25]),
    (NAMES[2], {}, [0, COST, 0.75 * COST, INF, 0, INF], [0, 0, 0, -1, 0, -0.25]),
]


@pytest.mark.parametrize(("name", "options", "values", "slopes"), LIMITS)
def test_infinite_logits_give_the_limits(name, options, values, slopes):  # optax gives NaN
    z, y = jnp.repeat(jnp.array([INF, -INF]), 3), jnp.tile(jnp.array([1.0, 0.0, 0.25]), 2)
    loss = getattr(jaxce, name)

    @jax.jit
    def everything(z):
        def of(z):
            return loss(z, y, **options)

        by_mode = jax.grad(lambda z: of(z).sum())(z), jax.jvp(of, (z,), (jnp.ones(6),))[1]
        return of(z), (loss.grad(z, y, **options), *by_mode)

    found, gradients = everything(z)
    assert_allclose(found, values, rtol=1e-6)
    for grad in (*gradients, loss.grad(jnp.sign(z) * 1e4, y, **options)):
        assert_allclose(grad, slopes, rtol=1e-6)


def test_an_easy_negative_costs_nothing_and_has_no_gradient():
    at_clip = np.log(0.05 / 0.95)
    z = jnp.array([at_clip - 1e-3, -10.0, -1e4, -jnp.inf])
    for gamma_neg in (4.0, 0.0):
        for found in asymmetric_loss.value_and_grad(z, jnp.zeros(4), gamma_neg=gamma_neg):
            assert_array_equal(found, np.zeros(4))
    assert asymmetric_loss(at_clip + 0.1, 0.0) > 0
    assert_array_equal(asymmetric_loss(jnp.array([0.0, 1e4]), jnp.zeros(2), clip=1.0), np.zeros(2))


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_floats_give_no_nan(name):
    z, y = np.float32([-3e38, 3e38, -3e38, 3e38]), np.float32([1, 0, 0.5, 0.5])
    value, grad = getattr(jaxce, name).value_and_grad(z, y)
    assert not np.isnan(value).any()
    assert np.isfinite(grad).all()


# Options and labels.


def test_values_agree_with_optax_where_optax_is_right(rng):
    logits, labels = logits_and_labels(rng)
    theirs = optax.sigmoid_binary_cross_entropy(logits, labels)
    assert_allclose(sigmoid_binary_cross_entropy(logits, labels), theirs, rtol=1e-5)
    hard = np.round(labels)
    for options in ({}, {"alpha": 0.25}, {"alpha": 0.25, "gamma": 1.0}):
        theirs = optax.sigmoid_focal_loss(logits, hard, **options)
        assert_allclose(sigmoid_focal_loss(logits, hard, **options), theirs, rtol=1e-5)


def test_without_focus_and_clip_each_is_binary_cross_entropy(rng):
    logits, labels = logits_and_labels(rng)
    expected = sigmoid_binary_cross_entropy.value_and_grad(logits, labels)
    without = {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0}
    for found in (
        sigmoid_focal_loss.value_and_grad(logits, labels, gamma=0.0),
        asymmetric_loss.value_and_grad(logits, labels, **without),
    ):
        jax.tree.map(functools.partial(assert_allclose, rtol=1e-6, atol=1e-6), found, expected)


@pytest.mark.parametrize("loss", [sigmoid_binary_cross_entropy, sigmoid_focal_loss])
def test_positives_and_negatives_are_mirror_images(loss, rng):
    logits, labels = logits_and_labels(rng)
    value, grad = loss.value_and_grad(logits, labels)
    mirrored, slopes = loss.value_and_grad(-logits, 1 - labels)
    assert_allclose(mirrored, value, rtol=1e-5)
    assert_allclose(slopes, -grad, rtol=1e-5, atol=1e-7)


def test_alpha_weighs_positives_and_its_rest_negatives(rng):
    logits = logits_and_labels(rng)[0]
    for y, weight in ((np.ones_like(logits), 0.25), (np.zeros_like(logits), 0.75)):
        assert_allclose(
            sigmoid_focal_loss(logits, y, alpha=0.25), weight * sigmoid_focal_loss(logits, y), rtol=1e-6
        )


def test_label_smoothing_moves_labels_to_one_half(rng):
    logits, labels = logits_and_labels(rng)
    for function in (sigmoid_binary_cross_entropy, sigmoid_binary_cross_entropy.grad):
        smoothed = function(logits, 0.8 * labels + 0.1)
        assert_allclose(function(logits, labels, label_smoothing=0.2), smoothed, rtol=1e-5, atol=1e-6)
    assert_allclose(sigmoid_binary_cross_entropy(0.0, 1.0, label_smoothing=1.0), np.log(2), rtol=1e-6)


@pytest.mark.parametrize("weight", [3.0, np.float32(3), PER_CLASS, PER_CLASS.tolist()], ids=type)
def test_pos_weight_is_one_number_or_one_per_class(weight, rng):
    logits, labels = logits_and_labels(rng, batch=(4,))  # as many examples as classes
    value, grad = sigmoid_binary_cross_entropy.value_and_grad(logits, labels)
    weighted, slopes = sigmoid_binary_cross_entropy.value_and_grad(logits, labels, pos_weight=weight)
    extra = labels * (np.asarray(weight) - 1 + np.zeros((4, 4)))
    assert_allclose(weighted, value - extra * jax.nn.log_sigmoid(logits), rtol=1e-5)
    assert_allclose(slopes, grad - extra * jax.nn.sigmoid(-logits), rtol=1e-5, atol=1e-6)
    for shape in ((1,), (3,), (4, 1), (4, 4)):
        with pytest.raises(ValueError, match=r"pos_weight has shape .*, but must have \(4,\): one number, or"):
            sigmoid_binary_cross_entropy(logits, labels, pos_weight=np.ones(shape))


def test_a_positive_weight_of_zero_leaves_the_positives_out():
    z, y = jnp.array([-jnp.inf, -3.0, 2.0]), jnp.array([0.0, 1.0, 1.0])
    for found in sigmoid_binary_cross_entropy.value_and_grad(z, y, pos_weight=0.0):
        assert_array_equal(found, np.zeros(3))


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_integers_booleans_or_floating(name, rng):
    logits, labels = logits_and_labels(rng)
    labels = np.round(labels)
    expected = getattr(jaxce, name).value_and_grad(logits, labels)
    for dtype in (bool, np.int8, jnp.bfloat16):
        found = getattr(jaxce, name).value_and_grad(logits, labels.astype(dtype))
        jax.tree.map(functools.partial(assert_allclose, rtol=1e-6), found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_one_component_has_no_axes(name):
    for found in getattr(jaxce, name).value_and_grad(0.3, 1):
        assert found.shape == ()


# Mathematics. M numbers are those of the specification.


def test_each_component_is_judged_by_itself(rng):  # M3
    logits, other = rng.normal(size=(2, 4)).astype(np.float32)
    labels = np.array([1.0, 0.0, 1.0, 1.0])
    p = 1 / (1 + np.exp(-logits))
    loss = sigmoid_binary_cross_entropy(logits, labels)
    assert_allclose(loss, -(labels * np.log(p) + (1 - labels) * np.log(1 - p)), rtol=1e-5)
    changed = np.concatenate([logits[:1], other[1:]])
    assert sigmoid_binary_cross_entropy(changed, labels)[0] == loss[0]


def test_a_logit_of_probability_six_tenths():
    s = jnp.log(0.6 / 0.4)
    assert_allclose(jax.nn.softmax(jnp.array([s, 0.0])), [0.6, 0.4], rtol=1e-6)
    assert_allclose(jnp.exp(-sigmoid_binary_cross_entropy(s, 1.0)), 0.6, rtol=1e-6)


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_the_factors_of_the_binary_chain_and_their_product(y, rng):  # M5
    x, w = rng.normal(size=(2, 3)).astype(np.float32)
    s = w @ x
    p = jax.nn.sigmoid(s)
    dl_dp, dp_ds = -y / p + (1 - y) / (1 - p), p * (1 - p)
    assert_allclose(jax.grad(lambda p: -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)))(p), dl_dp, rtol=1e-5)
    assert_allclose(jax.grad(jax.nn.sigmoid)(s), dp_ds, rtol=1e-5)
    product = dl_dp * dp_ds * x
    assert_allclose(product, (p - y) * x, rtol=1e-5)
    by_autodiff = jax.grad(lambda w: sigmoid_binary_cross_entropy(w @ x, y))(w)
    for found in (sigmoid_binary_cross_entropy.grad(s, y) * x, by_autodiff):
        assert_allclose(found, product, rtol=1e-5)


def squared(s):
    return (jax.nn.sigmoid(s) - 1) ** 2


def test_squared_error_of_a_sigmoid_is_not_convex():  # M7
    assert jax.hessian(squared)(jnp.array(-4.0)) < -0.01


def test_squared_error_stops_learning_where_it_is_wrong():  # M9
    logits = jnp.array([-2.0, -5.0, -10.0, -20.0])
    of_squares = jnp.abs(jax.vmap(jax.grad(squared))(logits))
    cross_entropy = sigmoid_binary_cross_entropy.grad(logits, jnp.ones(4))
    assert (jnp.diff(of_squares) < 0).all()
    assert of_squares[-1] < 1e-8
    assert (jnp.diff(jnp.abs(cross_entropy)) > 0).all()
    assert_allclose(cross_entropy[-1], -1)


def test_from_a_wrong_start_only_cross_entropy_learns():  # M9
    def learn(grad):
        step = jax.jit(lambda _, s: s - 0.5 * grad(s))
        return jax.nn.sigmoid(jax.lax.fori_loop(0, 200, step, jnp.array(-10.0)))

    assert learn(lambda s: sigmoid_binary_cross_entropy.grad(s, jnp.array(1.0))) > 0.95
    assert learn(jax.grad(squared)) < 1e-3
