"""Categorical cross-entropy and its relatives: softmax over classes of which one is true."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Integer

from jaxce.losses import validation
from jaxce.losses.closed_form import closed_form
from jaxce.losses.numerics import power, sums_of_others
from jaxce.losses.rows import label_softmax, row_loss, row_loss_grad, softmax


def softmax_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    label_smoothing: ArrayLike = 0.0,
    class_weights: Float[ArrayLike, "classes"] | None = None,
    z_loss: ArrayLike = 0.0,
) -> Float[Array, "*batch"]:
    """Cross-entropy from each target distribution to softmax(logits), in nats: −Σ_j q_j log softmax(z)_j.

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class: with target zero it costs nothing.
        labels: Target distributions q. Those that do not sum to one are used as they stand: Σq·lse − q·z.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what counts: per example (the shape of the losses), or per class (that of the logits,
            either with length-1 axes to repeat). A class masked out is out of the denominator too; an
            example masked out costs 0 and has zero gradient.
        label_smoothing: ε in [0, 1]: the targets become (1 − ε)·q + ε/C, over the C classes not masked.
        class_weights: A factor for each class's share of the loss, applied to the targets after smoothing.
        z_loss: Coefficient of lse(z)², which keeps the logits from drifting.

    Returns:
        One loss per example, not reduced, float32 or float64; non-negative when the targets are.

    Raises:
        ValueError: Shapes that do not fit, or options out of range.
        TypeError: Logits that are not floating-point, or a mask that is not boolean.

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.4 (not read). Smoothing: Szegedy et
        al. 2015, arXiv:1512.00567, section 7 (not read); z-loss: Chowdhery et al. 2022, arXiv:2204.02311,
        section 5 (not read).

    >>> print(softmax_cross_entropy(jnp.zeros(4), jnp.array([1.0, 0.0, 0.0, 0.0])))
    1.3862944
    """
    arguments = _distribution_arguments(logits, labels, axis, where, label_smoothing, class_weights, z_loss)
    return row_loss(_distribution_loss, *arguments)


def softmax_cross_entropy_grad(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    label_smoothing: ArrayLike = 0.0,
    class_weights: Float[ArrayLike, "classes"] | None = None,
    z_loss: ArrayLike = 0.0,
) -> Float[Array, "*batch classes"]:
    """d softmax_cross_entropy / d logits = (Σq)·softmax(z) − q, and 2·z_loss·lse·softmax(z) for the z-loss.

    >>> print(softmax_cross_entropy_grad(jnp.zeros(4), jnp.array([1.0, 0.0, 0.0, 0.0])))
    [-0.75  0.25  0.25  0.25]
    """
    arguments = _distribution_arguments(logits, labels, axis, where, label_smoothing, class_weights, z_loss)
    return row_loss_grad(_distribution_loss_and_grad, *arguments)


def softmax_cross_entropy_with_integer_labels(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    label_smoothing: ArrayLike = 0.0,
    class_weights: Float[ArrayLike, "classes"] | None = None,
    ignore_index: ArrayLike | None = None,
    z_loss: ArrayLike = 0.0,
) -> Float[Array, "*batch"]:
    """Cross-entropy of softmax(logits) where one class is true, in nats: −log softmax(z)_y.

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the loss and its gradient NaN. −1 is never the last class.
        axis: The axis of the classes, or several that together number them (labels are then flat indices).
        where: Mask of what counts: per example (the shape of the losses), or per class (that of the logits,
            either with length-1 axes to repeat). A class masked out is out of the denominator too; an
            example masked out costs 0 and has zero gradient. A label masked out costs inf.
        label_smoothing: ε in [0, 1]: the target becomes (1 − ε)·one-hot + ε/C, over the C classes not masked.
        class_weights: A factor for each class's share of the loss, applied to the targets after smoothing.
        ignore_index: Examples with this label cost 0 and have zero gradient.
        z_loss: Coefficient of lse(z)², which keeps the logits from drifting.

    Returns:
        One loss per example, not reduced, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Logits that are not floating-point, labels that are not integers, a mask that is not boolean.

    Source:
        As softmax_cross_entropy.

    >>> print(softmax_cross_entropy_with_integer_labels(jnp.array([[0.0, -20.0]]), jnp.array([0])))
    [2.0611537e-09]
    """
    arguments = _label_arguments(
        logits, labels, axis, where, label_smoothing, class_weights, ignore_index, z_loss
    )
    return row_loss(_label_loss, *arguments)


def softmax_cross_entropy_with_integer_labels_grad(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
    *,
    label_smoothing: ArrayLike = 0.0,
    class_weights: Float[ArrayLike, "classes"] | None = None,
    ignore_index: ArrayLike | None = None,
    z_loss: ArrayLike = 0.0,
) -> Float[Array, "*batch classes"]:
    """d softmax_cross_entropy_with_integer_labels / d logits = softmax(z) − one-hot.

    The label's own entry is −(the sum of the other probabilities), which keeps what 1 − p loses.

    >>> print(softmax_cross_entropy_with_integer_labels_grad(jnp.array([[0.0, -20.0]]), jnp.array([0])))
    [[-2.0611537e-09  2.0611537e-09]]
    """
    arguments = _label_arguments(
        logits, labels, axis, where, label_smoothing, class_weights, ignore_index, z_loss
    )
    return row_loss_grad(_label_loss_and_grad, *arguments)


def softmax_focal_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    alpha: Float[ArrayLike, "..."] | None = None,
    gamma: ArrayLike = 2.0,
) -> Float[Array, "*batch"]:
    """Cross-entropy that turns away from easy examples: −α_y (1 − p_y)^γ log p_y with p = softmax(z), in nats.

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class.
        labels: The true class of each example, as in softmax_cross_entropy_with_integer_labels.
        alpha: One weight, or one per class; None is 1.
        gamma: The focusing exponent γ ≥ 0; 0 is cross-entropy.

    Returns:
        One loss per example, not reduced.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, negative alpha or gamma.
        TypeError: Logits that are not floating-point, or labels that are not integers.

    Source:
        Lin et al. 2017, arXiv:1708.02002, equation 5 (not read), for softmax.

    >>> print(softmax_focal_loss(jnp.zeros((1, 2)), jnp.array([0])))  # (1/2)² log 2
    [0.1732868]
    """
    return row_loss(_focal_loss, *_focal_arguments(logits, labels, alpha, gamma))


def softmax_focal_loss_grad(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    alpha: Float[ArrayLike, "..."] | None = None,
    gamma: ArrayLike = 2.0,
) -> Float[Array, "*batch classes"]:
    """d softmax_focal_loss / d logits = α_y [(1−p_y)^γ − γ (1−p_y)^(γ−1) p_y log p_y]·(p − one-hot).

    >>> print(softmax_focal_loss_grad(jnp.zeros((1, 2)), jnp.array([0]), gamma=0.0))
    [[-0.5  0.5]]
    """
    return row_loss_grad(_focal_loss_and_grad, *_focal_arguments(logits, labels, alpha, gamma))


def poly_loss_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"],
    *,
    epsilon: ArrayLike = 2.0,
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Poly-1 loss: cross-entropy + ε·Σ_j q_j (1 − p_j) with p = softmax(z), in nats.

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class.
        labels: Target distributions q.
        epsilon: Coefficient ε ≥ −1 of the first polynomial term; 0 is cross-entropy.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what counts, as in softmax_cross_entropy.

    Returns:
        One loss per example, not reduced.

    Raises:
        ValueError: Shapes that do not fit, or epsilon below −1, where the loss turns negative.
        TypeError: Logits that are not floating-point, or a mask that is not boolean.

    Source:
        Leng et al. 2022, arXiv:2204.12511, equation 7 (not read).

    >>> print(poly_loss_cross_entropy(jnp.zeros(2), jnp.array([1.0, 0.0])))  # log 2 + 2·½
    1.6931472
    """
    return row_loss(_poly_loss, *_poly_arguments(logits, labels, epsilon, axis, where))


def poly_loss_cross_entropy_grad(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"],
    *,
    epsilon: ArrayLike = 2.0,
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """d poly_loss_cross_entropy / d logits = (Σq)·p − q − ε·p_j (q_j − Σ_k q_k p_k).

    >>> print(poly_loss_cross_entropy_grad(jnp.zeros(2), jnp.array([1.0, 0.0])))
    [-1.  1.]
    """
    return row_loss_grad(_poly_loss_and_grad, *_poly_arguments(logits, labels, epsilon, axis, where))


# The rows' own functions: (z [*batch, C], labels, keep [*batch] or None, options) -> (value, gradient).
# An option is None where it does nothing, and then costs nothing.


def _distribution_loss_and_grad(
    z: Array, q: Array, keep: Array | None, smoothing: Any, weights: Array | None, z_loss: Any
) -> tuple[Array, Array]:
    p = softmax(z, keep)
    if smoothing is not None:
        q = (1 - smoothing) * q + smoothing * _share_of_each(z)
    if weights is not None:
        q *= jnp.broadcast_to(weights, q.shape)
    value, grad = _cross_entropy_and_grad(p, z, q)
    if z_loss is not None:
        value += z_loss * p.lse**2
        grad += 2 * z_loss * p.lse[..., None] * p.probs
    return jnp.where(p.left_out, 0, value), jnp.where(p.left_out[..., None], 0, grad)


def _cross_entropy_and_grad(p: Any, z: Array, q: Array) -> tuple[Array, Array]:
    nll = jnp.where((q == 0) & (z == -jnp.inf), 0, p.nll)  # 0·inf: a masked class costs nothing
    # (Σq)·p − q without its cancellation: Σq = q_j + Σ_{k≠j} q_k, and 1 − p_j is known exactly
    return (q * nll).sum(-1), p.probs * sums_of_others(q) - q * p.others


def _label_loss_and_grad(
    z: Array, labels: Array, keep: Array | None, smoothing: Any, weights: Array | None, z_loss: Any
) -> tuple[Array, Array]:
    p = label_softmax(z, labels, keep)
    value, grad = p.nll, p.grad
    if weights is not None:
        weight = jnp.take(weights, labels, mode="clip")
        value, grad = weight * value, weight[..., None] * grad
    if smoothing is not None:
        share = _share_of_each(z)
        if weights is not None:
            share *= jnp.broadcast_to(weights, z.shape)
        nll = jnp.where(share > 0, (p.shift[..., None] - z) + p.log_total[..., None], 0)
        value = (1 - smoothing) * value + smoothing * (share * nll).sum(-1)
        grad = (1 - smoothing) * grad + smoothing * (share.sum(-1, keepdims=True) * p.probs - share)
    if z_loss is not None:
        lse = p.shift + p.log_total
        value += z_loss * lse**2
        grad += 2 * z_loss * lse[..., None] * p.probs
    if keep is not None:
        value, grad = jnp.where(p.left_out, 0, value), jnp.where(p.left_out[..., None], 0, grad)
    return value, grad


def _share_of_each(z: Array) -> Array:
    """1/C for each of the C classes of a row that are not masked, 0 for the others."""
    allowed = z > -jnp.inf
    return allowed / jnp.maximum(allowed.sum(-1, keepdims=True, dtype=z.dtype), 1)


def _focal_loss_and_grad(
    z: Array, labels: Array, keep: Array | None, alpha: Array | None, gamma: Any
) -> tuple[Array, Array]:
    p = label_softmax(z, labels, keep)
    hardness = power(p.others, gamma)
    value = hardness * p.nll
    # −log p / (1 − p) is finite, and without weight where 1 − p is 0; p·log p tends to 0 with p
    ratio = p.nll / jnp.where(p.others > 0, p.others, 1)
    slope = hardness * (1 + gamma * jnp.where(p.others < 1, (1 - p.others) * ratio, 0))
    if alpha is not None:
        weight = alpha if alpha.ndim == 0 else jnp.take(alpha, labels, mode="clip")
        value, slope = weight * value, weight * slope
    return value, slope[..., None] * p.grad


def _poly_loss_and_grad(z: Array, q: Array, keep: Array | None, epsilon: Any) -> tuple[Array, Array]:
    p = softmax(z, keep)
    value, grad = _cross_entropy_and_grad(p, z, q)
    if epsilon is not None:
        value += epsilon * (q * p.others).sum(-1)
        # q_j − Σ_k q_k p_k, again without cancellation
        grad -= epsilon * p.probs * (q * p.others - sums_of_others(q * p.probs))
    return jnp.where(p.left_out, 0, value), jnp.where(p.left_out[..., None], 0, grad)


_distribution_loss = closed_form(_distribution_loss_and_grad)
_label_loss = closed_form(_label_loss_and_grad)
_focal_loss = closed_form(_focal_loss_and_grad)
_poly_loss = closed_form(_poly_loss_and_grad)


# The checks: from what the user gave to (axes, logits, class mask, labels, keep, options).


def _distribution_arguments(
    logits: Any, labels: Any, axis: Any, where: Any, label_smoothing: Any, class_weights: Any, z_loss: Any
) -> tuple[Any, ...]:
    logits, labels, axes, keep, classes = _checked(logits, labels, axis, where)
    return (
        axes,
        logits,
        classes,
        labels,
        keep,
        *_options(logits, axes, label_smoothing, class_weights, z_loss),
    )


def _poly_arguments(logits: Any, labels: Any, epsilon: Any, axis: Any, where: Any) -> tuple[Any, ...]:
    logits, labels, axes, keep, classes = _checked(logits, labels, axis, where)
    epsilon = validation.as_hyperparameter("epsilon", epsilon, low=-1.0, neutral=0.0)
    return axes, logits, classes, labels, keep, epsilon


def _checked(logits: Any, labels: Any, axis: Any, where: Any) -> tuple[Any, ...]:
    logits, labels = validation.as_floating("logits", logits), validation.as_real("labels", labels)
    validation.check_same_shape("labels", labels, "logits", logits.shape)
    axes = validation.normalize_axes(axis, logits.ndim)
    keep, classes = (None, None) if where is None else validation.split_where(where, logits, axes)
    return logits, labels, axes, keep, classes


def _label_arguments(
    logits: Any,
    labels: Any,
    axis: Any,
    where: Any,
    label_smoothing: Any,
    class_weights: Any,
    ignore_index: Any,
    z_loss: Any,
) -> tuple[Any, ...]:
    logits, labels, axes = _checked_labels(logits, labels, axis, ignore_index)
    keep, classes = (None, None) if where is None else validation.split_where(where, logits, axes)
    if ignore_index is not None:
        counts = labels != ignore_index
        keep = counts if keep is None else keep & counts
    return (
        axes,
        logits,
        classes,
        labels,
        keep,
        *_options(logits, axes, label_smoothing, class_weights, z_loss),
    )


def _focal_arguments(logits: Any, labels: Any, alpha: Any, gamma: Any) -> tuple[Any, ...]:
    logits, labels, axes = _checked_labels(logits, labels, -1, None)
    if alpha is not None:
        shape = () if np.ndim(alpha) == 0 else logits.shape[-1:]
        alpha = validation.as_weights("alpha", alpha, shape, "one number, or one per class")
    return axes, logits, None, labels, None, alpha, validation.as_hyperparameter("gamma", gamma)


def _checked_labels(logits: Any, labels: Any, axis: Any, ignore_index: Any) -> tuple[Any, ...]:
    logits = validation.as_floating("logits", logits)
    axes = validation.normalize_axes(axis, logits.ndim)
    labels = validation.as_integer_labels(labels, _num_classes(logits, axes), ignore_index)
    validation.check_integer_labels_shape(labels, logits, axes)
    return logits, labels, axes


def _options(
    logits: Any, axes: tuple[int, ...], label_smoothing: Any, class_weights: Any, z_loss: Any
) -> tuple[Any, Any, Any]:
    if class_weights is not None:
        shape = (_num_classes(logits, axes),)
        class_weights = validation.as_weights("class_weights", class_weights, shape, "one weight per class")
    return (
        validation.as_hyperparameter("label_smoothing", label_smoothing, high=1.0, neutral=0.0),
        class_weights,
        validation.as_hyperparameter("z_loss", z_loss, neutral=0.0),
    )


def _num_classes(logits: Any, axes: tuple[int, ...]) -> int:
    return math.prod(logits.shape[a] for a in axes)
