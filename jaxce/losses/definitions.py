"""The losses as textbooks write them: one example, numbers of any precision, no thought of overflow or speed.

`m` is the module `mpmath`, or anything with its exp, log and fsum; rows are lists of its numbers. Verification
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
