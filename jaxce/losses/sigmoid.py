"""Binary cross-entropy and its relatives: a sigmoid for each component by itself, as in multi-label tasks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxce.losses import definitions
from jaxce.losses.checks import Number, PerClass, does_something
from jaxce.losses.loss import loss
from jaxce.losses.numerics import power, quotient

__all__ = ["asymmetric_loss", "sigmoid_binary_cross_entropy", "sigmoid_focal_loss"]


@loss(
    labels="binary",
    definition=definitions.sigmoid_binary_cross_entropy,
    convex=True,
    options={"pos_weight": PerClass(or_number=True), "label_smoothing": Number(high=1.0, neutral=0.0)},
    cases=({"pos_weight": 3.0}, {"label_smoothing": 0.1}),
)
def sigmoid_binary_cross_entropy(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    pos_weight: Real[ArrayLike, "..."] | None = None,
    label_smoothing: ArrayLike = 0.0,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Binary cross-entropy of each component, in nats.

    Args:
        logits: Log-odds. ±inf is certainty: it costs 0 where the label agrees and inf where it does not.
        labels: 0, 1 or a probability, one for each logit.
        pos_weight: Factor w of the positive term: a number, or one per class.
        label_smoothing: ε in [0, 1]: labels become (1 − ε)·y + ε/2.
        axis: The axis of the classes, for a pos_weight of each.
        where: Mask of what counts, of the logits' shape; any axis may have length 1 to repeat. A component
            masked out costs 0 and has zero gradient, whatever its label.

    Returns:
        One loss per component, not reduced, float32 or float64.

    Raises:
        ValueError: The shapes differ, labels or options out of range.
        TypeError: Logits that are not floating-point, or a mask that is not boolean.

    Formula:
        −[w y log σ(z) + (1 − y) log σ(−z)]

    Gradient:
        (1 − y) σ(z) − w y σ(−z), which is σ(z) − y where w = 1.

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), equation 4.90.

    >>> print(sigmoid_binary_cross_entropy(jnp.array([0.0, 20.0]), jnp.array([1.0, 1.0])))
    [6.9314718e-01 2.0611537e-09]
    >>> print(sigmoid_binary_cross_entropy.grad(jnp.array([0.0, 20.0]), jnp.array([1.0, 1.0])))
    [-5.0000000e-01 -2.0611537e-09]
    """
    if does_something(label_smoothing):
        labels = (1 - label_smoothing) * labels + label_smoothing / 2
    weight = None if pos_weight is None else jnp.broadcast_to(pos_weight, labels.shape)
    return _cross_entropy(logits, labels, labels if weight is None else weight * labels)


@loss(
    labels="binary",
    definition=definitions.sigmoid_focal_loss,
    convex=False,
    options={"alpha": PerClass(or_number=True, high=1.0), "gamma": Number()},
    cases=({"gamma": 0.0}, {"gamma": 0.5}, {"alpha": 0.25}),
)
def sigmoid_focal_loss(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    alpha: Real[ArrayLike, "..."] | None = None,
    gamma: ArrayLike = 2.0,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Binary cross-entropy that turns away from easy components, in nats.

    Args:
        logits: Log-odds; ±inf is certainty.
        labels: 0, 1 or a probability, one for each logit.
        alpha: Weight in [0, 1] of the positives, a number, or one per class; negatives weigh 1 − α. None weighs
            both 1.
        gamma: The focusing exponent γ ≥ 0; 0 is binary cross-entropy.
        axis: The axis of the classes, for an alpha of each.
        where: Mask of what counts, of the logits' shape; any axis may have length 1 to repeat. A component
            masked out costs 0 and has zero gradient, whatever its label.

    Returns:
        One loss per component, not reduced, float32 or float64.

    Raises:
        ValueError: The shapes differ, labels or options out of range.
        TypeError: Logits that are not floating-point, or a mask that is not boolean.

    Formula:
        α_t m^γ BCE(z, y) with m = 1 − p_t = y σ(−z) + (1 − y) σ(z)

    Gradient:
        α_t [m^γ (σ(z) − y) + γ m^(γ−1) (1 − 2y) σ(z) σ(−z)·BCE]

    Source:
        Lin et al. 2017, arXiv:1708.02002, equation 5.

    >>> print(sigmoid_focal_loss(jnp.array([0.0]), jnp.array([1.0])))  # (1/2)² log 2
    [0.1732868]
    >>> print(sigmoid_focal_loss.grad(jnp.array([0.0]), jnp.array([1.0]), gamma=0.0))
    [-0.5]
    """
    p, not_p = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    cross_entropy, cross_entropy_grad = _cross_entropy(logits, labels, labels)
    miss = labels * not_p + (1 - labels) * p
    hardness = power(miss, gamma)
    value = hardness * cross_entropy
    # BCE / miss is finite, and without weight where both are 0; p·(1 − p)·BCE tends to 0 as p does, though BCE
    # may be infinite
    ratio = quotient(cross_entropy, miss)
    turn = jnp.where(p * not_p > 0, (1 - 2 * labels) * p * not_p * ratio, 0)
    grad = hardness * (cross_entropy_grad + gamma * turn)
    if alpha is not None:
        weight = alpha * labels + (1 - alpha) * (1 - labels)
        value, grad = weight * value, weight * grad
    return value, grad


@loss(
    labels="binary",
    definition=definitions.asymmetric_loss,
    convex=False,
    options={"gamma_neg": Number(), "gamma_pos": Number(), "clip": Number(high=1.0)},
    cases=({"clip": 0.0}, {"gamma_neg": 0.0, "gamma_pos": 0.0}, {"gamma_neg": 2.0, "gamma_pos": 0.5}),
)
def asymmetric_loss(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    gamma_neg: ArrayLike = 4.0,
    gamma_pos: ArrayLike = 1.0,
    clip: ArrayLike = 0.05,
    where: Bool[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Asymmetric loss for multi-label tasks: two focusing exponents, and easy negatives cost nothing; in nats.

    Args:
        logits: Log-odds; ±inf is certainty.
        labels: 0, 1 or a probability, one for each logit.
        gamma_neg: Focusing exponent of the negatives, γ₋ ≥ 0.
        gamma_pos: Focusing exponent of the positives, γ₊ ≥ 0.
        clip: Probability margin in [0, 1] below which a negative costs nothing.
        where: Mask of what counts, of the logits' shape; any axis may have length 1 to repeat. A component
            masked out costs 0 and has zero gradient, whatever its label.

    Returns:
        One loss per component, not reduced, float32 or float64.

    Raises:
        ValueError: The shapes differ, labels or options out of range.
        TypeError: Logits that are not floating-point, or a mask that is not boolean.

    Formula:
        −y (1 − p)^γ₊ log p − (1 − y) p_m^γ₋ log(1 − p_m), p = σ(z), p_m = max(p − clip, 0)

    Gradient:
        −y m^γ₊ (m − γ₊ p log p) + (1 − y) p m [p_m^γ₋ / (1 − p_m) − γ₋ p_m^(γ₋−1) log(1 − p_m)], m = σ(−z), the
        second term where p > clip.

    Source:
        Ridnik et al. 2021, Asymmetric Loss for Multi-Label Classification, arXiv:2009.14119.

    >>> print(asymmetric_loss(jnp.array([0.0, -3.0]), jnp.array([1.0, 0.0])))  # ½ log 2, and p < clip
    [0.3465736 0.       ]
    >>> print(asymmetric_loss.grad(jnp.array([-200.0]), jnp.array([1.0])))  # timm's gives 0
    [-1.]
    """
    p, not_p = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    log_p, log_not_p = _log_probs(logits, labels)
    focus = power(not_p, gamma_pos)
    positive = -focus * log_p
    positive_grad = -focus * (not_p - gamma_pos * jnp.where(p > 0, p * log_p, 0))

    counts = ~(p <= clip)
    shifted = jnp.where(counts, p - clip, 0)
    # 1 − shifted = σ(−z) + clip; where that underflows (clip 0, z > 87) its logarithm is log σ(−z)
    rest = not_p + clip
    seen = rest > jnp.finfo(rest.dtype).tiny
    log_rest = jnp.where(seen, jnp.log(jnp.where(seen, rest, 1)), log_not_p)
    cost = -jnp.where(shifted < 0.5, jnp.log1p(-jnp.minimum(shifted, 0.5)), log_rest)
    focus = power(shifted, gamma_neg)
    negative = focus * cost
    ratio = quotient(cost, shifted)
    slope = jnp.where(seen, quotient(not_p, rest), 1) + gamma_neg * jnp.where(not_p > 0, not_p * ratio, 0)
    negative_grad = jnp.where(counts, focus * p * slope, 0)
    return labels * positive + (1 - labels) * negative, labels * positive_grad + (1 - labels) * negative_grad


def _cross_entropy(
    logits: Float[Array, "*shape"], labels: Float[Array, "*shape"], positive: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """−[positive·log σ(z) + (1 − y) log σ(−z)] and its gradient; σ(z) − y would cancel at the label."""
    log_p, log_not_p = _log_probs(logits, labels)
    value = -positive * log_p - (1 - labels) * log_not_p
    return value, (1 - labels) * jax.nn.sigmoid(logits) - positive * jax.nn.sigmoid(-logits)


def _log_probs(
    logits: Float[Array, "*shape"], labels: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """log σ(z) and log σ(−z), each 0 where it is −inf and has no share: 0·inf costs nothing."""
    log_p = jnp.where((labels == 0) & (logits == -jnp.inf), 0, jax.nn.log_sigmoid(logits))
    return log_p, jnp.where((labels == 1) & (logits == jnp.inf), 0, jax.nn.log_sigmoid(-logits))
