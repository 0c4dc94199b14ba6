"""Every loss as the textbook has it: one example, plain JAX, the text to read first.

Compile them with `jax.jit`, differentiate them with `jax.grad`. The public functions of the same names are
exact forms of these: batched, checked, and accurate where a formula written like this loses digits.
"""

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, log_softmax, logsumexp, sigmoid, softmax
from jax.scipy.special import xlogy
from jaxtyping import Array, Float, Integer

Scalar = Float[Array, ""]
Label = Integer[Array, ""]
Row = Float[Array, "classes"]
Vector = Float[Array, "features"]
Matrix = Float[Array, "features classes"]


# One class of many is true: softmax.


def softmax_cross_entropy(
    logits: Row,
    labels: Row,
    *,
    label_smoothing: float | Scalar = 0.0,
    class_weights: float | Row = 1.0,
    z_loss: float | Scalar = 0.0,
) -> Scalar:
    """−Σ_j w_j q_j log softmax(z)_j + z_loss·lse(z)², with q smoothed."""
    targets = (1 - label_smoothing) * labels + label_smoothing / len(logits)
    return -jnp.sum(class_weights * targets * log_softmax(logits)) + z_loss * logsumexp(logits) ** 2


def softmax_cross_entropy_with_integer_labels(
    logits: Row,
    labels: Label,
    *,
    label_smoothing: float | Scalar = 0.0,
    class_weights: float | Row = 1.0,
    z_loss: float | Scalar = 0.0,
) -> Scalar:
    """−log softmax(z)_y, the cross-entropy of a one-hot target."""
    return softmax_cross_entropy(
        logits,
        _one_hot(labels, logits),
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        z_loss=z_loss,
    )


def softmax_focal_loss(
    logits: Row, labels: Label, *, alpha: float | Scalar | Row = 1.0, gamma: float | Scalar = 2.0
) -> Scalar:
    """−α_y (1 − p_y)^γ log p_y with p = softmax(z)."""
    weight = jnp.broadcast_to(jnp.asarray(alpha), logits.shape)[labels]
    return -weight * (1 - softmax(logits)[labels]) ** gamma * log_softmax(logits)[labels]


def poly_loss_cross_entropy(logits: Row, labels: Row, *, epsilon: float | Scalar = 2.0) -> Scalar:
    """−Σ_j q_j log p_j + ε Σ_j q_j (1 − p_j) with p = softmax(z)."""
    return jnp.sum(labels * (epsilon * (1 - softmax(logits)) - log_softmax(logits)))


def brier_score(logits: Row, labels: Label) -> Scalar:
    """Σ_j (p_j − 1[j = y])² with p = softmax(z)."""
    return jnp.sum((softmax(logits) - _one_hot(labels, logits)) ** 2)


def classification_error(logits: Row, labels: Label) -> Scalar:
    """1[argmax z ≠ y]."""
    return (jnp.argmax(logits) != labels).astype(logits.dtype)


# Any of many are true: a sigmoid each.


def sigmoid_binary_cross_entropy(
    logits: Scalar, labels: Scalar, *, pos_weight: float | Scalar = 1.0, label_smoothing: float | Scalar = 0.0
) -> Scalar:
    """−[w y log σ(z) + (1 − y) log σ(−z)], with y smoothed towards ½."""
    y = (1 - label_smoothing) * labels + label_smoothing / 2
    return -(pos_weight * y * log_sigmoid(logits) + (1 - y) * log_sigmoid(-logits))


def sigmoid_focal_loss(
    logits: Scalar, labels: Scalar, *, alpha: float | Scalar | None = None, gamma: float | Scalar = 2.0
) -> Scalar:
    """α_t (1 − p_t)^γ times the binary cross-entropy, with 1 − p_t = y σ(−z) + (1 − y) σ(z)."""
    miss = labels * sigmoid(-logits) + (1 - labels) * sigmoid(logits)
    weight = 1.0 if alpha is None else alpha * labels + (1 - alpha) * (1 - labels)
    return weight * miss**gamma * sigmoid_binary_cross_entropy(logits, labels)


def asymmetric_loss(
    logits: Scalar,
    labels: Scalar,
    *,
    gamma_neg: float | Scalar = 4.0,
    gamma_pos: float | Scalar = 1.0,
    clip: float | Scalar = 0.05,
) -> Scalar:
    """−y (1 − p)^γ₊ log p − (1 − y) p_m^γ₋ log(1 − p_m), with p = σ(z) and p_m = max(p − clip, 0)."""
    shifted = jnp.maximum(sigmoid(logits) - clip, 0)
    positive = sigmoid(-logits) ** gamma_pos * log_sigmoid(logits)
    return -labels * positive - (1 - labels) * shifted**gamma_neg * jnp.log1p(-shifted)


# Probabilities and their logarithms.


def cross_entropy(probs: Row, targets: Row) -> Scalar:
    """−Σ_j q_j log p_j, with 0·log 0 = 0."""
    return -jnp.sum(xlogy(targets, probs))


def entropy(probs: Row) -> Scalar:
    """−Σ_j p_j log p_j, with 0·log 0 = 0."""
    return cross_entropy(probs, probs)


def kl_divergence(log_predictions: Row, targets: Row) -> Scalar:
    """Σ_j q_j (log q_j − l_j)."""
    return jnp.sum(xlogy(targets, targets) - targets * log_predictions)


def kl_divergence_with_log_targets(log_predictions: Row, log_targets: Row) -> Scalar:
    """Σ_j exp(t_j) (t_j − l_j)."""
    return jnp.sum(jnp.exp(log_targets) * (log_targets - log_predictions))


def js_divergence(log_predictions: Row, targets: Row) -> Scalar:
    """½ KL(p‖m) + ½ KL(q‖m) with p = exp(l) and m = ½ (p + q)."""
    probs = jnp.exp(log_predictions)
    log_middle = jnp.log((probs + targets) / 2)
    return (kl_divergence(log_middle, probs) + kl_divergence(log_middle, targets)) / 2


def squared_error(predictions: Scalar, targets: Scalar) -> Scalar:
    """(x − y)²."""
    return (predictions - targets) ** 2


# Margins: from cosines, logits or features to logits.


def combined_margin(
    cosines: Row,
    labels: Label,
    *,
    m1: float | Scalar = 1.0,
    m2: float | Scalar = 0.5,
    m3: float | Scalar = 0.0,
    scale: float | Scalar = 64.0,
) -> Row:
    """s·(cos(m₁θ + m₂) − m₃) for the true class, s·cos θ for the others."""
    target = jnp.cos(m1 * jnp.arccos(cosines[labels]) + m2) - m3
    return scale * cosines.at[labels].set(target)


def arcface(cosines: Row, labels: Label, *, margin: float | Scalar = 0.5, scale: float | Scalar = 64.0) -> Row:
    """s·cos(θ + m) for the true class, s·cos θ for the others."""
    return combined_margin(cosines, labels, m2=margin, scale=scale)


def cosface(cosines: Row, labels: Label, *, margin: float | Scalar = 0.35, scale: float | Scalar = 64.0) -> Row:
    """s·(cos θ − m) for the true class, s·cos θ for the others."""
    return scale * cosines.at[labels].add(-margin)


def soft_margin_softmax(logits: Row, labels: Label, *, margin: float | Scalar = 0.5) -> Row:
    """z_y − m for the true class, z_j for the others."""
    return logits.at[labels].add(-margin)


def sphereface(cosines: Row, labels: Label, *, margin: int = 4, scale: float | Scalar = 64.0) -> Row:
    """s·ψ(θ) for the true class, s·cos θ for the others."""
    return scale * cosines.at[labels].set(psi(cosines[labels], margin))


def psi(cosine: Scalar, margin: int) -> Scalar:
    """(−1)^k cos(mθ) − 2k for θ in [kπ/m, (k + 1)π/m]: cos(mθ), continued so that it falls all the way."""
    theta = jnp.arccos(cosine)
    k = jnp.clip(jnp.floor(margin * theta / jnp.pi), 0, margin - 1)
    return (-1) ** k * jnp.cos(margin * theta) - 2 * k


def normalized_cosines(features: Vector, kernel: Matrix) -> Row:
    """x·w_j / (‖x‖‖w_j‖)."""
    return features @ kernel / (jnp.linalg.norm(features) * jnp.linalg.norm(kernel, axis=0))


def large_margin_softmax(features: Vector, kernel: Matrix, labels: Label, *, margin: int = 4) -> Row:
    """‖w_y‖‖x‖ψ(θ_y) for the true class, x·w_j for the others."""
    logits = features @ kernel
    length = jnp.linalg.norm(features) * jnp.linalg.norm(kernel[:, labels])
    return logits.at[labels].set(length * psi(logits[labels] / length, margin))


def _one_hot(label: Label, logits: Row) -> Row:
    return jax.nn.one_hot(label, len(logits), dtype=logits.dtype)
