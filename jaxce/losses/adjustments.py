"""What stands around a loss: labels smoothed before it, logits capped before it, its mean after it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxce.losses import validation
from jaxce.losses.closed_form import closed_form, component_loss, component_loss_grad


def smooth_labels(
    labels: Real[ArrayLike, "*batch classes"],
    alpha: ArrayLike,
    *,
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """Target distributions mixed with the uniform one: (1 − α)·q + α/C.

    Args:
        labels: Target distributions q, such as one-hot labels.
        alpha: The share α in [0, 1] of the uniform distribution.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what counts, per class or per example. Classes masked out get no mass, and C is the
            number of the others; an example masked out becomes zeros.

    Returns:
        Smoothed distributions, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, or alpha outside [0, 1].
        TypeError: A mask that is not boolean.

    Source:
        Szegedy et al. 2015, arXiv:1512.00567, section 7 (not read).

    >>> print(smooth_labels(jnp.array([0.0, 1.0, 0.0]), 0.5, where=jnp.array([True, True, False])))
    [0.25 0.75 0.  ]
    """
    labels = validation.as_real("labels", labels)
    share = validation.as_hyperparameter("alpha", alpha, high=1.0)
    axes = validation.normalize_axes(axis, labels.ndim, "labels")
    keep, classes = (None, None) if where is None else validation.split_where(where, labels, axes, "labels")
    return _smoothed(axes, labels, share, keep, classes)


def soft_cap(logits: Float[ArrayLike, "*shape"], cap: ArrayLike) -> Float[Array, "*shape"]:
    """Logits bounded smoothly to (−cap, cap): cap·tanh(z / cap).

    Args:
        logits: Any real numbers. Mask classes after capping: −inf becomes −cap.
        cap: The bound, positive.

    Returns:
        Capped logits, float32 or float64.

    Raises:
        ValueError: A cap that is not positive and finite.
        TypeError: Logits that are not floating-point.

    Source:
        Gemma Team 2024, arXiv:2408.00118, section 2 (not read).

    >>> print(soft_cap(jnp.array([0.0, 10.0, 1000.0]), 10.0).round(2))
    [ 0.    7.62 10.  ]
    """
    return component_loss(_soft_cap, *_soft_cap_arguments(logits, cap))


def soft_cap_grad(logits: Float[ArrayLike, "*shape"], cap: ArrayLike) -> Float[Array, "*shape"]:
    """d soft_cap / d logits = 1 / cosh²(z / cap).

    >>> print(soft_cap_grad(jnp.array([0.0, 10.0]), 10.0).round(2))
    [1.   0.42]
    """
    return component_loss_grad(_soft_cap_and_grad, *_soft_cap_arguments(logits, cap))


def weighted_mean(
    losses: Float[ArrayLike, "*shape"], weights: Real[ArrayLike, "*shape"] | None = None
) -> Float[Array, ""]:
    """The mean over what counts: Σ w ℓ / Σ w; 0, with zero gradient, when nothing counts.

    Args:
        losses: Losses of any shape.
        weights: Numbers or a mask, one for each loss, not negative; None is ones. A loss of weight 0
            contributes nothing to the mean or its gradient, even if it is NaN or infinite.

    Returns:
        One number, float32 or float64.

    Raises:
        ValueError: Shapes that differ, weights that are negative or not finite.
        TypeError: Losses that are not floating-point.

    Source:
        torch's mean over nothing is NaN (pytorch#70348); this one is 0.

    >>> print(weighted_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False])))
    2.0
    """
    return _weighted_mean(*_mean_arguments(losses, weights))


def weighted_mean_grad(
    losses: Float[ArrayLike, "*shape"], weights: Real[ArrayLike, "*shape"] | None = None
) -> Float[Array, "*shape"]:
    """d weighted_mean / d losses = w / Σ w.

    >>> print(weighted_mean_grad(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 3.0, 0.0])))
    [0.25 0.75 0.  ]
    """
    losses, weights = _mean_arguments(losses, weights)
    total = weights.sum()
    return (weights / jnp.where(total == 0, 1, total)).astype(losses.dtype)


@partial(jax.jit, static_argnums=0)
def _smoothed(
    axes: tuple[int, ...], labels: Array, alpha: Any, keep: Array | None, classes: Array | None
) -> Array:
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.float32))
    allowed = jnp.ones(labels.shape, bool) if classes is None else classes
    if keep is not None:
        allowed &= jnp.expand_dims(keep, axes)
    count = jnp.maximum(allowed.sum(axes, keepdims=True, dtype=labels.dtype), 1)
    return jnp.where(allowed, (1 - alpha) * labels + alpha / count, 0)


def _soft_cap_and_grad(z: Array, cap: Array) -> tuple[Array, Array]:
    decay = jnp.exp(-2 * jnp.abs(z / cap))
    return cap * jnp.tanh(z / cap), 4 * decay / (1 + decay) ** 2  # 1 − tanh² would cancel


_soft_cap = closed_form(_soft_cap_and_grad)


@jax.jit
def _weighted_mean(losses: Array, weights: Array) -> Array:
    nothing = weights.sum() == 0
    # Only what is not finite is replaced, so that the derivative in a zero weight stays (ℓ − mean) / Σw.
    counted = jnp.where((weights == 0) & ~jnp.isfinite(losses), 0, losses.astype(weights.dtype))
    return jnp.where(nothing, 0, (weights * counted).sum() / jnp.where(nothing, 1, weights.sum()))


def _soft_cap_arguments(logits: Any, cap: Any) -> tuple[Array, Array]:
    return validation.as_floating("logits", logits), jnp.asarray(validation.as_positive("cap", cap))


def _mean_arguments(losses: Any, weights: Any) -> tuple[Array, Array]:
    losses = validation.as_floating("losses", losses)
    weights = jnp.ones_like(losses) if weights is None else weights
    weights = validation.as_weights("weights", weights, losses.shape, "one weight per loss")
    return losses, weights.astype(jnp.promote_types(losses.dtype, jnp.float32))
