"""The formulas of definitions.py: compiled, and their derivatives against closed forms written out by hand."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import log_sigmoid, log_softmax, logsumexp, sigmoid, softmax
from numpy.testing import assert_allclose

import jaxce
from jaxce.losses import definitions
from tests.losses.cases import arguments, every_option, is_by_component, quick_jit

LOSSES = jaxce.LOSSES


# The closed forms by hand.


def softmax_cross_entropy(z, q, label_smoothing=0.0, class_weights=1.0, z_loss=0.0):
    q = class_weights * ((1 - label_smoothing) * q + label_smoothing / len(z))
    return q.sum() * softmax(z) - q + 2 * z_loss * logsumexp(z) * softmax(z)


def softmax_cross_entropy_with_integer_labels(z, y, **options):
    return softmax_cross_entropy(z, jnp.eye(len(z))[y], **options)


def softmax_focal_loss(z, y, alpha=1.0, gamma=2.0):
    p, hot = softmax(z), jnp.eye(len(z))[y]
    alpha_y = jnp.broadcast_to(jnp.asarray(alpha), z.shape)[y]
    slope = (1 - p[y]) ** gamma - gamma * (1 - p[y]) ** (gamma - 1) * p[y] * jnp.log(p[y])
    return alpha_y * slope * (p - hot)


def poly_loss_cross_entropy(z, q, epsilon=2.0):
    p = softmax(z)
    return q.sum() * p - q - epsilon * p * (q - (q * p).sum())


def brier_score(z, y):
    p = softmax(z)
    r = p - jnp.eye(len(z))[y]
    return 2 * p * (r - (r * p).sum())


def sigmoid_binary_cross_entropy(s, y, pos_weight=1.0, label_smoothing=0.0):
    y = (1 - label_smoothing) * y + label_smoothing / 2
    return (1 - y) * sigmoid(s) - pos_weight * y * (1 - sigmoid(s))


def sigmoid_focal_loss(s, y, alpha=None, gamma=2.0):
    p = sigmoid(s)
    miss = y * (1 - p) + (1 - y) * p
    alpha_t = 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    binary = -y * log_sigmoid(s) - (1 - y) * log_sigmoid(-s)
    return alpha_t * (miss**gamma * (p - y) + gamma * miss ** (gamma - 1) * (1 - 2 * y) * p * (1 - p) * binary)


def asymmetric_loss(s, y, gamma_neg=4.0, gamma_pos=1.0, clip=0.05):
    p = sigmoid(s)
    m, shifted = 1 - p, jnp.maximum(p - clip, 0)
    positive = -(m**gamma_pos) * (m - gamma_pos * p * jnp.log(p))
    negative = shifted**gamma_neg / (1 - shifted) - gamma_neg * shifted ** (gamma_neg - 1) * jnp.log(
        1 - shifted
    )
    return y * positive + (1 - y) * p * m * jnp.where(p > clip, negative, 0)


BY_HAND = {
    **{f.__name__: f for f in (softmax_cross_entropy, softmax_cross_entropy_with_integer_labels)},
    **{f.__name__: f for f in (softmax_focal_loss, poly_loss_cross_entropy, brier_score)},
    **{f.__name__: f for f in (sigmoid_binary_cross_entropy, sigmoid_focal_loss, asymmetric_loss)},
    "classification_error": lambda z, y: 0 * z,
    "squared_error": lambda x, y: 2 * (x - y),
    "cross_entropy": lambda p, q: -q / p,
    "entropy": lambda p: -1 - jnp.log(p),
    "kl_divergence": lambda log_p, q: -q,
    "kl_divergence_with_log_targets": lambda log_p, log_q: -jnp.exp(log_q),
    "js_divergence": lambda log_p, q: jnp.exp(log_p) / 2 * (log_p - jnp.log((jnp.exp(log_p) + q) / 2)),
    "combined_margin": lambda c, y, m1=1.0, m2=0.5, m3=0.0, scale=64.0: (
        scale * jnp.ones_like(c).at[y].set(m1 * jnp.sin(m1 * jnp.arccos(c[y]) + m2) / jnp.sqrt(1 - c[y] ** 2))
    ),
    "arcface": lambda c, y, margin=0.5, scale=64.0: BY_HAND["combined_margin"](c, y, m2=margin, scale=scale),
    "cosface": lambda c, y, margin=0.35, scale=64.0: scale * jnp.ones_like(c),
    "soft_margin_softmax": lambda z, y, margin=0.5: jnp.ones_like(z),
    "sphereface": lambda c, y, margin=4, scale=64.0: (
        scale * jnp.ones_like(c).at[y].set(slope_of_psi(c[y], margin))
    ),
    "normalized_cosines": lambda x, w: (
        (unit(w).T - (unit(x) @ unit(w))[:, None] * unit(x)[None]) / jnp.linalg.norm(x)
    ),
    "large_margin_softmax": lambda x, w, y, margin=4: w.T.at[y].set(of_stretched_psi(x, w[:, y], margin)),
}


def slope_of_psi(cosine, margin):
    theta = jnp.arccos(cosine)
    return margin * jnp.abs(jnp.sin(margin * theta)) / jnp.sin(theta)


def of_stretched_psi(x, w, margin):
    c, slope = unit(x) @ unit(w), slope_of_psi(unit(x) @ unit(w), margin)
    return slope * w + (definitions.psi(c, margin) - c * slope) * jnp.linalg.norm(w) * unit(x)


def unit(x):
    return x / jnp.linalg.norm(x, axis=0, keepdims=True)


def test_every_loss_has_a_closed_form_here():
    assert BY_HAND.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_grad_of_a_definition_is_the_closed_form_by_hand(name, rng, float64):
    loss = LOSSES[name]
    options = every_option(loss)
    static = [option for option in loss.static if option in options]
    x, *rest = arguments(loss, rng, batch=(5,), dtype=np.float64)
    axes = (0, None, 0) if loss.inputs == "features" else (0, 0)

    def compiled(function):
        def of_batch(x, *rest, **options):
            each = jax.vmap(lambda *args: function(*args, **options), axes[: 1 + len(rest)])
            return (jax.vmap(each) if is_by_component(loss) else each)(x, *rest)

        return quick_jit(of_batch, static_argnames=static)(x, *rest, **options)

    if loss.returns == "logits":
        jacobian = compiled(jax.jacrev(loss.definition))
        grad = jacobian if loss.inputs == "features" else np.diagonal(jacobian, axis1=1, axis2=2)
    else:
        grad = compiled(jax.grad(loss.definition))
    assert_allclose(grad, compiled(BY_HAND[name]), rtol=1e-9, atol=1e-10)
    assert_allclose(loss.grad(x, *rest, **options), grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_definitions_have_the_options_of_their_losses(name):
    parameters = inspect.signature(LOSSES[name].definition).parameters.values()
    of_definition = {p.name: p.default for p in parameters if p.default is not p.empty}
    of_loss = {o: v for o, v in LOSSES[name].options.items() if o not in ("axis", "where", "ignore_index")}
    # what stands for no weights is None in a loss and 1 in its formula
    neutral = {"class_weights": 1.0, "pos_weight": 1.0} | (
        {"alpha": 1.0} if name == "softmax_focal_loss" else {}
    )
    assert of_definition == of_loss | {option: v for option, v in neutral.items() if option in of_loss}


# Values by hand.


@pytest.mark.parametrize(
    ("name", "args", "value"),
    [
        ("softmax_cross_entropy", ([3.0, 1.0, -3.0], [1.0, 0.0, 0.0]), np.log1p(np.exp(-2) + np.exp(-6))),
        ("softmax_cross_entropy_with_integer_labels", ([0.0, 0.0], 1), np.log(2)),
        ("softmax_focal_loss", ([0.0, 0.0], 0), np.log(2) / 4),
        ("poly_loss_cross_entropy", ([0.0, 0.0], [0.0, 1.0]), np.log(2) + 2 / 2),
        ("brier_score", ([0.0, 0.0], 1), 1 / 4 + 1 / 4),
        ("classification_error", ([0.0, 1.0], 0), 1.0),
        ("sigmoid_binary_cross_entropy", (np.log(1.5), 1.0), -np.log(0.6)),
        ("sigmoid_focal_loss", (0.0, 1.0), np.log(2) / 4),
        ("asymmetric_loss", (0.0, 0.0), -(0.45**4) * np.log(0.55)),
        ("cross_entropy", ([0.5, 0.5, 0.0], [1.0, 0.0, 0.0]), np.log(2)),
        ("entropy", ([0.5, 0.5, 0.0],), np.log(2)),
        ("kl_divergence", ([np.log(0.25), np.log(0.75)], [0.0, 1.0]), -np.log(0.75)),
        ("kl_divergence_with_log_targets", ([np.log(0.25), np.log(0.75)], [-1e9, 0.0]), -np.log(0.75)),
        ("js_divergence", ([0.0, -1e9], [0.0, 1.0]), np.log(2)),
        ("squared_error", (-1.5, 0.5), 4.0),
        ("arcface", ([0.0, 0.5], 0), [-64 * np.sin(0.5), 32]),
        ("cosface", ([1.0, 0.5], 0), [64 * 0.65, 32]),
        ("combined_margin", ([0.0, 0.5], 0), [-64 * np.sin(0.5), 32]),
        ("soft_margin_softmax", ([2.0, 1.0], 0), [1.5, 1.0]),
        ("sphereface", ([-1.0, 0.5], 0), [-7 * 64, 32]),
        ("normalized_cosines", ([3.0, 4.0], np.eye(2)), [0.6, 0.8]),
        ("large_margin_softmax", ([-2.0, 0.0], np.eye(2), 0), [-14, 0]),
    ],
)
def test_values_by_hand(name, args, value, float64):
    args = [jnp.asarray(a) for a in args]
    assert_allclose(LOSSES[name].definition(*args), value, rtol=1e-5, atol=1e-12)


def test_log_softmax_and_log_sigmoid_hold_the_textbook_gradients(float64):
    z, y = jnp.array([0.3, -1.2, 2.0]), 1
    assert_allclose(jax.grad(lambda z: -log_softmax(z)[y])(z), softmax(z) - jnp.eye(3)[y], rtol=1e-12)
    for y in (0.0, 0.3, 1.0):
        grad = jax.grad(lambda s, y=y: -y * log_sigmoid(s) - (1 - y) * log_sigmoid(-s))(0.7)
        assert_allclose(grad, sigmoid(0.7) - y, rtol=1e-12)
