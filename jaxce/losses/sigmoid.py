"""Binary cross-entropy and its relatives: a sigmoid for each component by itself, as in multi-label tasks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxce.losses import validation
from jaxce.losses.closed_form import closed_form, component_loss, component_loss_grad
from jaxce.losses.numerics import power


def sigmoid_binary_cross_entropy(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    pos_weight: Float[ArrayLike, "..."] | None = None,
    label_smoothing: ArrayLike = 0.0,
) -> Float[Array, "*shape"]:
    """Binary cross-entropy of each component, in nats: −[w y log σ(z) + (1 − y) log σ(−z)].

    Args:
        logits: Log-odds. ±inf is certainty: it costs 0 where the label agrees and inf where it does not.
        labels: 0, 1 or a probability, one for each logit.
        pos_weight: Factor w of the positive term: a number, or one per class (the last axis).
        label_smoothing: ε in [0, 1]: labels become (1 − ε)·y + ε/2.

    Returns:
        One loss per component, not reduced, float32 or float64.

    Raises:
        ValueError: The shapes differ, labels or options out of range.
        TypeError: Logits that are not floating-point.

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), equation 4.90 (not read).

    >>> print(sigmoid_binary_cross_entropy(jnp.array([0.0, 20.0]), jnp.array([1.0, 1.0])))
    [6.9314718e-01 2.0611537e-09]
    """
    return component_loss(_binary, *_binary_arguments(logits, labels, pos_weight, label_smoothing))


def sigmoid_binary_cross_entropy_grad(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    pos_weight: Float[ArrayLike, "..."] | None = None,
    label_smoothing: ArrayLike = 0.0,
) -> Float[Array, "*shape"]:
    """d sigmoid_binary_cross_entropy / d logits = (1 − y) σ(z) − w y σ(−z), which is σ(z) − y where w = 1.

    >>> print(sigmoid_binary_cross_entropy_grad(jnp.array([0.0, 20.0]), jnp.array([1.0, 1.0])))
    [-5.0000000e-01 -2.0611537e-09]
    """
    return component_loss_grad(
        _binary_and_grad, *_binary_arguments(logits, labels, pos_weight, label_smoothing)
    )


def sigmoid_focal_loss(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    alpha: ArrayLike | None = None,
    gamma: ArrayLike = 2.0,
) -> Float[Array, "*shape"]:
    """Binary cross-entropy that turns away from easy components: α_t (1 − p_t)^γ·BCE, in nats.

    Here 1 − p_t = y σ(−z) + (1 − y) σ(z), the probability that the prediction misses.

    Args:
        logits: Log-odds; ±inf is certainty.
        labels: 0, 1 or a probability, one for each logit.
        alpha: Weight in [0, 1] of the positives; negatives weigh 1 − α. None weighs both 1.
        gamma: The focusing exponent γ ≥ 0; 0 is binary cross-entropy.

    Returns:
        One loss per component, not reduced.

    Raises:
        ValueError: The shapes differ, labels or options out of range.
        TypeError: Logits that are not floating-point.

    Source:
        Lin et al. 2017, arXiv:1708.02002, equation 5 (not read).

    >>> print(sigmoid_focal_loss(jnp.array([0.0]), jnp.array([1.0])))  # (1/2)² log 2
    [0.1732868]
    """
    return component_loss(_focal, *_focal_arguments(logits, labels, alpha, gamma))


def sigmoid_focal_loss_grad(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    alpha: ArrayLike | None = None,
    gamma: ArrayLike = 2.0,
) -> Float[Array, "*shape"]:
    """d sigmoid_focal_loss / d logits = α_t [m^γ (σ(z) − y) + γ m^(γ−1) (1 − 2y) σ(z) σ(−z)·BCE], m = 1 − p_t.

    >>> print(sigmoid_focal_loss_grad(jnp.array([0.0]), jnp.array([1.0]), gamma=0.0))
    [-0.5]
    """
    return component_loss_grad(_focal_and_grad, *_focal_arguments(logits, labels, alpha, gamma))


def asymmetric_loss(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    gamma_neg: ArrayLike = 4.0,
    gamma_pos: ArrayLike = 1.0,
    clip: ArrayLike = 0.05,
) -> Float[Array, "*shape"]:
    """Asymmetric loss for multi-label tasks: positives and negatives focus apart, easy negatives cost nothing.

    −y (1 − p)^γ₊ log p − (1 − y) p_m^γ₋ log(1 − p_m) with p = σ(z) and p_m = max(p − clip, 0), in nats.

    Args:
        logits: Log-odds; ±inf is certainty.
        labels: 0, 1 or a probability, one for each logit.
        gamma_neg: Focusing exponent of the negatives, γ₋ ≥ 0.
        gamma_pos: Focusing exponent of the positives, γ₊ ≥ 0.
        clip: Probability margin in [0, 1] below which a negative costs nothing.

    Returns:
        One loss per component, not reduced.

    Raises:
        ValueError: The shapes differ, labels or options out of range.
        TypeError: Logits that are not floating-point.

    Source:
        Ridnik et al. 2021, arXiv:2009.14119, equations 4 to 7 (not read).

    >>> print(asymmetric_loss(jnp.array([0.0, -3.0]), jnp.array([1.0, 0.0])))  # ½ log 2, and p < clip
    [0.3465736 0.       ]
    """
    return component_loss(_asymmetric, *_asymmetric_arguments(logits, labels, gamma_neg, gamma_pos, clip))


def asymmetric_loss_grad(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    gamma_neg: ArrayLike = 4.0,
    gamma_pos: ArrayLike = 1.0,
    clip: ArrayLike = 0.05,
) -> Float[Array, "*shape"]:
    """d asymmetric_loss / d logits, with p = σ(z), m = σ(−z), p_m = max(p − clip, 0).

    −y m^γ₊ (m − γ₊ p log p) + (1 − y) p m [p_m^γ₋ / (1 − p_m) − γ₋ p_m^(γ₋−1) log(1 − p_m)], the second term
    where p > clip.

    >>> print(asymmetric_loss_grad(jnp.array([-200.0]), jnp.array([1.0])))  # timm's gives 0
    [-1.]
    """
    arguments = _asymmetric_arguments(logits, labels, gamma_neg, gamma_pos, clip)
    return component_loss_grad(_asymmetric_and_grad, *arguments)


# The components' own functions: (z, y, options) -> (value, gradient). An option is None where it does nothing.


def _binary_and_grad(z: Array, y: Array, pos_weight: Array | None, smoothing: Any) -> tuple[Array, Array]:
    if smoothing is not None:
        y = (1 - smoothing) * y + smoothing / 2
    positive = y if pos_weight is None else jnp.broadcast_to(pos_weight, y.shape) * y
    log_p, log_not_p = _log_probs(z, y)
    value = -positive * log_p - (1 - y) * log_not_p
    # σ(z) − y cancels where the prediction is right; this form does not
    return value, (1 - y) * jax.nn.sigmoid(z) - positive * jax.nn.sigmoid(-z)


def _log_probs(z: Array, y: Array) -> tuple[Array, Array]:
    """log σ(z) and log σ(−z), each 0 where it is −inf and has no share: 0·inf costs nothing."""
    log_p = jnp.where((y == 0) & (z == -jnp.inf), 0, jax.nn.log_sigmoid(z))
    return log_p, jnp.where((y == 1) & (z == jnp.inf), 0, jax.nn.log_sigmoid(-z))


def _focal_and_grad(z: Array, y: Array, alpha: Any, gamma: Any) -> tuple[Array, Array]:
    p, not_p = jax.nn.sigmoid(z), jax.nn.sigmoid(-z)
    cross_entropy, cross_entropy_grad = _binary_and_grad(z, y, None, None)
    miss = y * not_p + (1 - y) * p
    hardness = power(miss, gamma)
    value = hardness * cross_entropy
    # BCE / miss is finite, and without weight where both are 0; p·(1 − p)·BCE tends to 0 as p does, though BCE
    # may be infinite
    ratio = cross_entropy / jnp.where(miss > 0, miss, 1)
    turn = jnp.where(p * not_p > 0, (1 - 2 * y) * p * not_p * ratio, 0)
    grad = hardness * (cross_entropy_grad + gamma * turn)
    if alpha is not None:
        weight = alpha * y + (1 - alpha) * (1 - y)
        value, grad = weight * value, weight * grad
    return value, grad


def _asymmetric_and_grad(z: Array, y: Array, gamma_neg: Any, gamma_pos: Any, clip: Any) -> tuple[Array, Array]:
    p, not_p = jax.nn.sigmoid(z), jax.nn.sigmoid(-z)
    log_p, log_not_p = _log_probs(z, y)
    focus = power(not_p, gamma_pos)
    positive = -focus * log_p
    positive_grad = -focus * (not_p - gamma_pos * jnp.where(p > 0, p * log_p, 0))

    counts = p > clip
    shifted = jnp.where(counts, p - clip, 0)
    # 1 − shifted = σ(−z) + clip; where that underflows (clip 0, z > 87) its logarithm is log σ(−z)
    rest = not_p + clip
    seen = rest > jnp.finfo(z.dtype).tiny
    log_rest = jnp.where(seen, jnp.log(jnp.where(seen, rest, 1)), log_not_p)
    cost = -jnp.where(shifted < 0.5, jnp.log1p(-jnp.minimum(shifted, 0.5)), log_rest)
    focus = power(shifted, gamma_neg)
    negative = focus * cost
    ratio = cost / jnp.where(shifted > 0, shifted, 1)
    slope = jnp.where(seen, not_p / jnp.where(seen, rest, 1), 1) + gamma_neg * jnp.where(
        not_p > 0, not_p * ratio, 0
    )
    negative_grad = jnp.where(counts, focus * p * slope, 0)
    return y * positive + (1 - y) * negative, y * positive_grad + (1 - y) * negative_grad


_binary = closed_form(_binary_and_grad)
_focal = closed_form(_focal_and_grad)
_asymmetric = closed_form(_asymmetric_and_grad)


# The checks: from what the user gave to (logits, labels, options).


def _checked(logits: Any, labels: Any) -> tuple[Array, Array]:
    logits, labels = validation.as_floating("logits", logits), validation.as_real("labels", labels)
    validation.check_same_shape("labels", labels, "logits", logits.shape)
    values = validation.concrete(labels)
    if values is not None and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"labels ranges from {values.min()} to {values.max()}, but must lie in [0, 1]: "
            "use (labels + 1) / 2 if they are −1 and 1"
        )
    return logits, labels


def _binary_arguments(logits: Any, labels: Any, pos_weight: Any, label_smoothing: Any) -> tuple[Any, ...]:
    logits, labels = _checked(logits, labels)
    if pos_weight is not None:
        shape = () if np.ndim(pos_weight) == 0 else logits.shape[-1:]
        pos_weight = validation.as_weights("pos_weight", pos_weight, shape, "one number, or one per class")
    smoothing = validation.as_hyperparameter("label_smoothing", label_smoothing, high=1.0, neutral=0.0)
    return logits, labels, pos_weight, smoothing


def _focal_arguments(logits: Any, labels: Any, alpha: Any, gamma: Any) -> tuple[Any, ...]:
    logits, labels = _checked(logits, labels)
    if alpha is not None:
        alpha = validation.as_hyperparameter("alpha", alpha, high=1.0)
    return logits, labels, alpha, validation.as_hyperparameter("gamma", gamma)


def _asymmetric_arguments(
    logits: Any, labels: Any, gamma_neg: Any, gamma_pos: Any, clip: Any
) -> tuple[Any, ...]:
    logits, labels = _checked(logits, labels)
    gamma_neg = validation.as_hyperparameter("gamma_neg", gamma_neg)
    gamma_pos = validation.as_hyperparameter("gamma_pos", gamma_pos)
    return logits, labels, gamma_neg, gamma_pos, validation.as_hyperparameter("clip", clip, high=1.0)
