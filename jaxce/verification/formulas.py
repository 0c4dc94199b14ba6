"""The losses of losses/definitions.py in arithmetic of any precision.

`m` is the module `mpmath`, or anything with its functions; rows are lists of its numbers. Verification
differentiates these with 60 digits and holds the library's values and closed forms against them.
"""

from collections.abc import Sequence
from typing import Any

Row = Sequence[Any]


def softmax(m: Any, z: Row) -> list[Any]:
    """Softmax of a row."""
    exps = [m.exp(v) for v in z]
    return [e / m.fsum(exps) for e in exps]


def softmax_cross_entropy(
    m: Any, z: Row, q: Row, label_smoothing: Any = 0, class_weights: Row | None = None, z_loss: Any = 0
) -> Any:
    """Σ_j w_j q_j (lse − z_j) + z_loss·lse², with q smoothed."""
    lse = m.log(m.fsum(m.exp(v) for v in z))
    q = [(1 - label_smoothing) * q_j + label_smoothing / len(z) for q_j in q]
    weights = class_weights if class_weights is not None else [1] * len(z)
    return m.fsum(w * q_j * (lse - v) for w, q_j, v in zip(weights, q, z, strict=True)) + z_loss * lse**2


def softmax_cross_entropy_with_integer_labels(
    m: Any, z: Row, y: int, label_smoothing: Any = 0, class_weights: Row | None = None, z_loss: Any = 0
) -> Any:
    """Cross-entropy of a one-hot target."""
    return softmax_cross_entropy(
        m, z, [int(j == y) for j in range(len(z))], label_smoothing, class_weights, z_loss
    )


def softmax_focal_loss(m: Any, z: Row, y: int, alpha: Any = None, gamma: Any = 2) -> Any:
    """−α_y (1 − p_y)^γ log p_y."""
    p = softmax(m, z)[y]
    weight = 1 if alpha is None else alpha[y] if isinstance(alpha, Sequence) else alpha
    return -weight * (1 - p) ** gamma * m.log(p)


def poly_loss_cross_entropy(m: Any, z: Row, q: Row, epsilon: Any = 2) -> Any:
    """Cross-entropy + ε Σ_j q_j (1 − p_j)."""
    p = softmax(m, z)
    return m.fsum(q_j * (epsilon * (1 - p_j) - m.log(p_j)) for q_j, p_j in zip(q, p, strict=True))


def sigmoid(m: Any, z: Any) -> Any:
    """1 / (1 + exp(−z))."""
    return 1 / (1 + m.exp(-z))


def sigmoid_binary_cross_entropy(
    m: Any, z: Any, y: Any, pos_weight: Any = None, label_smoothing: Any = 0
) -> Any:
    """−[w y log σ(z) + (1 − y) log σ(−z)], with y smoothed towards ½."""
    y = (1 - label_smoothing) * y + label_smoothing / 2
    weight = 1 if pos_weight is None else pos_weight
    return -weight * y * m.log(sigmoid(m, z)) - (1 - y) * m.log(sigmoid(m, -z))


def sigmoid_focal_loss(m: Any, z: Any, y: Any, alpha: Any = None, gamma: Any = 2) -> Any:
    """α_t (1 − p_t)^γ times the binary cross-entropy, with 1 − p_t = y σ(−z) + (1 − y) σ(z)."""
    miss = y * sigmoid(m, -z) + (1 - y) * sigmoid(m, z)
    weight = 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    return weight * miss**gamma * sigmoid_binary_cross_entropy(m, z, y)


def asymmetric_loss(m: Any, z: Any, y: Any, gamma_neg: Any = 4, gamma_pos: Any = 1, clip: Any = 0.05) -> Any:
    """−y (1 − p)^γ₊ log p − (1 − y) p_m^γ₋ log(1 − p_m), with p_m = max(p − clip, 0)."""
    p = sigmoid(m, z)
    shifted = max(p - clip, 0)
    positive = -((1 - p) ** gamma_pos) * m.log(p)
    return y * positive - (1 - y) * shifted**gamma_neg * m.log(1 - shifted)


def cross_entropy(m: Any, p: Row, q: Row) -> Any:
    """−Σ_j q_j log p_j over q_j > 0."""
    return -m.fsum(q_j * m.log(p_j) for p_j, q_j in zip(p, q, strict=True) if q_j)


def entropy(m: Any, p: Row) -> Any:
    """−Σ_j p_j log p_j over p_j > 0."""
    return cross_entropy(m, p, p)


def kl_divergence(m: Any, log_p: Row, q: Row) -> Any:
    """Σ_j q_j (log q_j − log p_j) over q_j > 0."""
    return m.fsum(q_j * (m.log(q_j) - l_j) for l_j, q_j in zip(log_p, q, strict=True) if q_j)


def kl_divergence_with_log_targets(m: Any, log_p: Row, log_q: Row) -> Any:
    """kl_divergence of exp(log_q)."""
    return kl_divergence(m, log_p, [m.exp(v) for v in log_q])


def js_divergence(m: Any, log_p: Row, q: Row) -> Any:
    """½ KL(p‖m) + ½ KL(q‖m) with m = ½ (p + q)."""
    p = [m.exp(v) for v in log_p]
    log_middle = [m.log((p_j + q_j) / 2) if p_j + q_j else -m.inf for p_j, q_j in zip(p, q, strict=True)]
    return (kl_divergence(m, log_middle, p) + kl_divergence(m, log_middle, q)) / 2


def squared_error(_: Any, prediction: Any, target: Any) -> Any:
    """(prediction − target)²."""
    return (prediction - target) ** 2


def brier_score(m: Any, z: Row, y: int) -> Any:
    """Σ_j (p_j − 1[j = y])²."""
    return m.fsum((p_j - (j == y)) ** 2 for j, p_j in enumerate(softmax(m, z)))


def classification_error(_: Any, z: Row, y: int) -> Any:
    """1[argmax z ≠ y]."""
    return int(max(range(len(z)), key=z.__getitem__) != y)


def combined_margin(m: Any, c: Row, y: int, m1: Any = 1, m2: Any = 0.5, m3: Any = 0, scale: Any = 64) -> list:
    """s·(cos(m₁θ + m₂) − m₃) for the true class, s·cos θ for the others."""
    return [scale * (m.cos(m1 * m.acos(v) + m2) - m3 if j == y else v) for j, v in enumerate(c)]


def arcface(m: Any, c: Row, y: int, margin: Any = 0.5, scale: Any = 64) -> list:
    """s·cos(θ + m) for the true class."""
    return combined_margin(m, c, y, m2=margin, scale=scale)


def cosface(_: Any, c: Row, y: int, margin: Any = 0.35, scale: Any = 64) -> list:
    """s·(cos θ − m) for the true class."""
    return [scale * (v - margin * (j == y)) for j, v in enumerate(c)]


def soft_margin_softmax(m: Any, z: Row, y: int, margin: Any = 0.5) -> list:
    """z_y − m for the true class."""
    return cosface(m, z, y, margin, scale=1)


def psi(m: Any, c: Any, margin: int) -> Any:
    """(−1)^k cos(mθ) − 2k for θ in [kπ/m, (k+1)π/m]."""
    theta = m.acos(c)
    k = min(int(margin * theta / m.pi), margin - 1)
    return (-1) ** k * m.cos(margin * theta) - 2 * k


def sphereface(m: Any, c: Row, y: int, margin: int = 4, scale: Any = 64) -> list:
    """s·ψ(θ) for the true class, s·cos θ for the others."""
    return [scale * (psi(m, v, margin) if j == y else v) for j, v in enumerate(c)]


def normalized_cosines(m: Any, x: Row, kernel: Sequence[Row]) -> list:
    """x·w_j / (‖x‖‖w_j‖)."""
    columns = list(zip(*kernel, strict=True))
    return [m.fdot(x, w) / m.sqrt(m.fdot(x, x) * m.fdot(w, w)) for w in columns]


def large_margin_softmax(m: Any, x: Row, kernel: Sequence[Row], y: int, margin: int = 4) -> list:
    """‖w_y‖‖x‖ψ(θ_y) for the true class, x·w_j for the others."""
    logits = [m.fdot(x, w) for w in zip(*kernel, strict=True)]
    w = [row[y] for row in kernel]
    length = m.sqrt(m.fdot(x, x) * m.fdot(w, w))
    logits[y] = length * psi(m, logits[y] / length, margin)
    return logits
