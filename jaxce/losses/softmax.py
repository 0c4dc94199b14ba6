"""Categorical cross-entropy and its relatives: softmax over classes of which one is true."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Integer, Real

from jaxce.losses import definitions
from jaxce.losses.checks import Number, PerClass, does_something
from jaxce.losses.loss import loss
from jaxce.losses.numerics import (
    Softmax,
    entries_of,
    exp_beyond_linear,
    label_softmax,
    power,
    quotient,
    softmax,
    sum_except,
    sums_of_others,
)

__all__ = [
    "brier_score",
    "poly_loss_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_focal_loss",
]

OPTIONS = {
    "label_smoothing": Number(high=1.0, neutral=0.0),
    "class_weights": PerClass(),
    "z_loss": Number(neutral=0.0),
}
CASES = (
    {"label_smoothing": 0.1},
    {"class_weights": (0.5, 1.0, 2.0, 0.25)},
    {"z_loss": 1e-3},
    {"label_smoothing": 0.2, "class_weights": (0.5, 1.0, 2.0, 0.25), "z_loss": 1e-2},
)


@loss(
    labels="distribution",
    definition=definitions.softmax_cross_entropy,
    convex=True,
    options=OPTIONS,
    cases=CASES,
)
def softmax_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    label_smoothing: ArrayLike = 0.0,
    class_weights: Real[ArrayLike, "classes"] | None = None,
    z_loss: ArrayLike = 0.0,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Cross-entropy from each target distribution to softmax(logits), in nats.

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class: with target zero it costs nothing.
        labels: Target distributions q. Those that do not sum to one are used as they stand: Σq·lse − q·z.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what counts: per example (the shape of the losses), or per class (that of the logits,
            either with length-1 axes to repeat). A class masked out is out of the denominator, and its target
            does not count; an example masked out costs 0 and has zero gradient.
        label_smoothing: ε in [0, 1]: the targets become (1 − ε)·q + ε/C, over the C classes not masked.
        class_weights: A factor for each class's share of the loss, applied to the targets after smoothing.
        z_loss: Coefficient of lse(z)², which keeps the logits from drifting.

    Returns:
        One loss per example, not reduced, float32 or float64; non-negative when the targets are.

    Raises:
        ValueError: Shapes that do not fit, or options out of range.
        TypeError: Logits that are not floating-point, or a mask that is not boolean.

    Formula:
        −Σ_j q_j log softmax(z)_j

    Gradient:
        (Σq)·softmax(z) − q, and 2·z_loss·lse·softmax(z) for the z-loss.

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.4. Smoothing: Szegedy et al. 2015,
        arXiv:1512.00567, section 7. z-loss: Chowdhery et al. 2022, arXiv:2204.02311, section 5.

    >>> print(softmax_cross_entropy(jnp.zeros(4), jnp.array([1.0, 0.0, 0.0, 0.0])))
    1.3862944
    >>> print(softmax_cross_entropy.grad(jnp.zeros(4), jnp.array([1.0, 0.0, 0.0, 0.0])))
    [-0.75  0.25  0.25  0.25]
    """
    p = softmax(logits)
    if does_something(label_smoothing):
        labels = (1 - label_smoothing) * labels + label_smoothing * _share_of_each(logits)
    if class_weights is not None:
        labels *= jnp.broadcast_to(class_weights, labels.shape)
    value, grad = _cross_entropy(p, logits, labels)
    if does_something(z_loss):
        value += z_loss * p.lse**2
        grad += 2 * z_loss * p.lse[..., None] * p.probs
    return jnp.where(p.left_out, 0, value), jnp.where(p.left_out[..., None], 0, grad)


@loss(
    labels="integer",
    definition=definitions.softmax_cross_entropy_with_integer_labels,
    convex=True,
    options=OPTIONS,
    cases=CASES,
)
def softmax_cross_entropy_with_integer_labels(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    label_smoothing: ArrayLike = 0.0,
    class_weights: Real[ArrayLike, "classes"] | None = None,
    ignore_index: ArrayLike | None = None,
    z_loss: ArrayLike = 0.0,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Cross-entropy of softmax(logits) where one class is true, in nats.

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the loss and its gradient NaN. −1 is never the last class.
        axis: The axis of the classes, or several that together number them (labels are then flat indices).
        where: Mask of what counts: per example (the shape of the losses), or per class (that of the logits,
            either with length-1 axes to repeat). A class masked out is out of the denominator too; an
            example masked out costs 0 and has zero gradient. A label that names a class masked out costs inf.
        label_smoothing: ε in [0, 1]: the target becomes (1 − ε)·one-hot + ε/C, over the C classes not masked.
        class_weights: A factor for each class's share of the loss, applied to the targets after smoothing.
        ignore_index: Examples with this label cost 0 and have zero gradient.
        z_loss: Coefficient of lse(z)², which keeps the logits from drifting.

    Returns:
        One loss per example, not reduced, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Logits that are not floating-point, labels that are not integers, a mask that is not boolean.

    Formula:
        −log softmax(z)_y

    Gradient:
        softmax(z) − one-hot; the label's own entry is −(the sum of the other probabilities), which keeps the
        digits that p − 1 loses.

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.4. Smoothing: Szegedy et al. 2015,
        arXiv:1512.00567, section 7. z-loss: Chowdhery et al. 2022, arXiv:2204.02311, section 5.

    >>> print(softmax_cross_entropy_with_integer_labels(jnp.array([[0.0, -20.0]]), jnp.array([0])))
    [2.0611537e-09]
    >>> print(softmax_cross_entropy_with_integer_labels.grad(jnp.array([[0.0, -20.0]]), jnp.array([0])))
    [[-2.0611537e-09  2.0611537e-09]]
    """
    p = label_softmax(logits, labels)
    value, grad = p.nll, p.grad
    if class_weights is not None:
        weight = entries_of(class_weights, labels)
        value, grad = weight * value, weight[..., None] * grad
    if does_something(label_smoothing):
        share = _share_of_each(logits)
        if class_weights is not None:
            share *= jnp.broadcast_to(class_weights, logits.shape)
        nll = jnp.where(share != 0, (p.shift[..., None] - logits) + p.log_total[..., None], 0)
        value = (1 - label_smoothing) * value + label_smoothing * (share * nll).sum(-1)
        of_share = share.sum(-1, keepdims=True) * p.probs - share
        grad = (1 - label_smoothing) * grad + label_smoothing * of_share
    if does_something(z_loss):
        lse = p.shift + p.log_total
        value += z_loss * lse**2
        grad += 2 * z_loss * lse[..., None] * p.probs
    return value, grad


@loss(
    labels="integer",
    definition=definitions.softmax_focal_loss,
    convex=False,
    options={"alpha": PerClass(or_number=True), "gamma": Number()},
    cases=({"gamma": 0.0}, {"gamma": 0.5}, {"alpha": 0.25}, {"alpha": (0.5, 1.0, 2.0, 0.25), "gamma": 3.0}),
)
def softmax_focal_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    alpha: Real[ArrayLike, "..."] | None = None,
    gamma: ArrayLike = 2.0,
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    ignore_index: ArrayLike | None = None,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Cross-entropy that turns away from easy examples, in nats.

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the loss and its gradient NaN.
        alpha: One weight, or one per class; None is 1.
        gamma: The focusing exponent γ ≥ 0; 0 is cross-entropy.
        axis: The axis of the classes, or several that together number them (labels are then flat indices).
        where: Mask of what counts: per example (the shape of the losses), or per class (that of the logits,
            either with length-1 axes to repeat). A class masked out is out of the denominator too; an
            example masked out costs 0 and has zero gradient. A label that names a class masked out costs inf.
        ignore_index: Examples with this label cost 0 and have zero gradient.

    Returns:
        One loss per example, not reduced, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Logits that are not floating-point, labels that are not integers, a mask that is not boolean.

    Formula:
        −α_y (1 − p_y)^γ log p_y, p = softmax(z)

    Gradient:
        α_y [(1 − p_y)^γ − γ (1 − p_y)^(γ−1) p_y log p_y]·(p − one-hot)

    Source:
        Lin et al. 2017, arXiv:1708.02002, equation 5, for softmax.

    >>> print(softmax_focal_loss(jnp.zeros((1, 2)), jnp.array([0])))  # (1/2)² log 2
    [0.1732868]
    >>> print(softmax_focal_loss.grad(jnp.zeros((1, 2)), jnp.array([0]), gamma=0.0))
    [[-0.5  0.5]]
    """
    p = label_softmax(logits, labels)
    hardness = power(p.others, gamma)
    value = hardness * p.nll
    # −log p / (1 − p) is finite, and without weight where 1 − p is 0; p·log p tends to 0 with p
    ratio = quotient(jnp.where(p.nll < jnp.inf, p.nll, 0), p.others)
    slope = hardness * (1 + gamma * jnp.exp(-p.nll) * ratio)  # 1 − others has no digits where p is tiny
    if alpha is not None:
        weight = alpha if alpha.ndim == 0 else entries_of(alpha, labels)
        value, slope = weight * value, weight * slope
    return value, slope[..., None] * p.grad


@loss(
    labels="distribution",
    definition=definitions.poly_loss_cross_entropy,
    convex=False,
    options={"epsilon": Number(low=-1.0, neutral=0.0)},
    cases=({"epsilon": 0.0}, {"epsilon": -1.0}),
)
def poly_loss_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"],
    *,
    epsilon: ArrayLike = 2.0,
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Poly-1 loss: cross-entropy and the first term of its polynomial, in nats.

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class.
        labels: Target distributions q.
        epsilon: Coefficient ε ≥ −1 of the first polynomial term; 0 is cross-entropy.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what counts: per example (the shape of the losses), or per class (that of the logits,
            either with length-1 axes to repeat). A class masked out is out of the denominator, and its target
            does not count; an example masked out costs 0 and has zero gradient.

    Returns:
        One loss per example, not reduced, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, or epsilon below −1, where the loss turns negative.
        TypeError: Logits that are not floating-point, or a mask that is not boolean.

    Formula:
        −Σ_j q_j log p_j + ε Σ_j q_j (1 − p_j), p = softmax(z)

    Gradient:
        (Σq)·p − q − ε·p_j (q_j − Σ_k q_k p_k)

    Source:
        Leng et al. 2022, PolyLoss, arXiv:2204.12511.

    >>> print(poly_loss_cross_entropy(jnp.zeros(2), jnp.array([1.0, 0.0])))  # log 2 + 2·½
    1.6931472
    >>> print(poly_loss_cross_entropy.grad(jnp.zeros(2), jnp.array([1.0, 0.0])))
    [-1.  1.]
    """
    p = softmax(logits)
    costs, targets = p.nll, labels
    if does_something(epsilon):
        # −log p − (1 − p), which is tiny, and (1 + ε)(1 − p): at ε = −1 the plain sum cancels
        costs = exp_beyond_linear(p.nll, p.others) + (1 + epsilon) * p.others
        # the gradient is that of the cross-entropy with targets q_j·(1 + ε·p_j)
        targets = labels * ((1 + epsilon) - epsilon * p.others)
    value, grad = _expected(costs, logits, labels), _cross_entropy_grad(p, targets)
    return jnp.where(p.left_out, 0, value), jnp.where(p.left_out[..., None], 0, grad)


@loss(labels="integer", definition=definitions.brier_score, convex=False)
def brier_score(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    ignore_index: ArrayLike | None = None,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Squared distance from softmax(logits) to the true class.

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the score and its gradient NaN.
        axis: The axis of the classes, or several that together number them (labels are then flat indices).
        where: Mask of what counts: per example (the shape of the losses), or per class (that of the logits,
            either with length-1 axes to repeat). A class masked out is out of the denominator too; an
            example masked out costs 0 and has zero gradient. A label on a class masked out costs 1 + Σ p².
        ignore_index: Examples with this label cost 0 and have zero gradient.

    Returns:
        One score per example in [0, 2], not reduced, float32 or float64. It is bounded, and so its gradient
        vanishes where the model is confidently wrong.

    Raises:
        ValueError: Shapes that do not fit, or labels that name no class.
        TypeError: Logits that are not floating-point, labels that are not integers, a mask that is not boolean.

    Formula:
        Σ_j (p_j − 1[j = y])², p = softmax(z)

    Gradient:
        2 p_j (r_j − Σ_k r_k p_k) with r = p − one-hot; the label's own entry is −2 p_y times the score.

    Source:
        Brier 1950, Verification of Forecasts Expressed in Terms of Probability, doi:10.1175/1520-0493(1950)078.

    >>> print(brier_score(jnp.zeros((1, 2)), jnp.array([0])))  # (½ − 1)² + (½ − 0)²
    [0.5]
    >>> print(brier_score.grad(jnp.zeros((1, 2)), jnp.array([0])))
    [[-0.5  0.5]]
    """
    p = label_softmax(logits, labels)
    value = p.others**2 + sum_except(p.probs**2, labels)
    # Of another class, r_j − Σ_k r_k p_k = p_y (1 − p_y + p_j) + Σ_{k≠y} p_k (p_j − p_k), where nearly equal
    # classes cancel. Their gaps to the largest of them, by expm1, keep what p_j − p_k loses.
    top = jnp.where(p.is_label, -jnp.inf, logits).max(-1, keepdims=True)
    below = jnp.where(p.is_label | (top == -jnp.inf), 0, logits - top)
    gap = -jnp.expm1(below) * jnp.where(p.is_label, 0, p.probs).max(-1, keepdims=True)
    others, label_prob = p.others[..., None], jnp.where(p.is_label, p.probs, 0).sum(-1, keepdims=True)
    spread = sum_except(p.probs * gap, labels)[..., None] - gap * others
    of_others = 2 * p.probs * (label_prob * (others + p.probs) + spread)
    return value, jnp.where(p.is_label, -2 * label_prob * value[..., None], of_others)


def _cross_entropy(
    p: Softmax, logits: Float[Array, "*batch classes"], targets: Float[Array, "*batch classes"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    return _expected(p.nll, logits, targets), _cross_entropy_grad(p, targets)


def _expected(
    costs: Float[Array, "*batch classes"],
    logits: Float[Array, "*batch classes"],
    targets: Float[Array, "*batch classes"],
) -> Float[Array, "*batch"]:
    """Σ q·cost; a masked class without target costs nothing, though 0·∞ is NaN."""
    return (targets * jnp.where((targets == 0) & (logits == -jnp.inf), 0, costs)).sum(-1)


def _cross_entropy_grad(p: Softmax, targets: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """(Σq)·p − q without its cancellation: Σq = q_j + Σ_{k≠j} q_k, and 1 − p_j is known exactly."""
    return p.probs * sums_of_others(targets) - targets * p.others


def _share_of_each(logits: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """1/C for each of the C classes of a row that are not masked, 0 for the others."""
    allowed = (logits > -jnp.inf).astype(logits.dtype)
    return allowed / jnp.maximum(allowed.sum(-1, keepdims=True), 1)
