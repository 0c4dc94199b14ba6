"""What stands around a loss: labels smoothed before it, logits capped before it, its mean after it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxce.losses import checks
from jaxce.losses.evaluation import closed_form
from jaxce.losses.numerics import computed_dtype

__all__ = ["smooth_labels", "soft_cap", "weighted_mean"]


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
        Szegedy et al. 2015, arXiv:1512.00567, section 7.

    >>> print(smooth_labels(jnp.array([0.0, 1.0, 0.0]), 0.5, where=jnp.array([True, True, False])))
    [0.25 0.75 0.  ]
    """
    labels = checks.as_real("labels", labels)
    share = checks.Number(high=1.0)("alpha", alpha)
    axes = checks.normalize_axes(axis, labels.ndim, "labels")
    keep, classes = (None, None) if where is None else checks.split_where(where, labels, axes, "labels")
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
        Gemma Team 2024, arXiv:2408.00118, section 2.

    >>> print(soft_cap(jnp.array([0.0, 10.0, 1000.0]), 10.0).round(2))
    [ 0.    7.62 10.  ]
    """
    return _soft_cap(checks.as_floating("logits", logits), checks.Number(positive=True)("cap", cap))


def weighted_mean(
    losses: Float[ArrayLike, "*shape"],
    weights: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"] | None = None,
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
    losses = checks.as_floating("losses", losses)
    weights = jnp.ones_like(losses) if weights is None else weights
    weights = checks.as_weights("weights", weights, losses.shape, "one weight per loss")
    return _weighted_mean(losses, weights.astype(computed_dtype(losses)))


@partial(jax.jit, static_argnums=0)
def _smoothed(
    axes: tuple[int, ...], labels: Array, alpha: Any, keep: Array | None, classes: Array | None
) -> Array:
    labels = labels.astype(computed_dtype(labels))
    allowed = jnp.ones(labels.shape, bool) if classes is None else classes
    if keep is not None:
        allowed &= jnp.expand_dims(keep, axes)
    count = jnp.maximum(allowed.sum(axes, keepdims=True, dtype=labels.dtype), 1)
    return jnp.where(allowed, (1 - alpha) * labels + alpha / count, 0)


@jax.jit
def _soft_cap(logits: Array, cap: Any) -> Array:
    return _capped(logits.astype(computed_dtype(logits)), cap)


@closed_form
def _capped(z: Array, cap: Any) -> tuple[Array, Array]:
    decay = jnp.exp(-2 * jnp.abs(z / cap))
    return cap * jnp.tanh(z / cap), 4 * decay / (1 + decay) ** 2  # 1 − tanh² would cancel


@jax.jit
def _weighted_mean(losses: Array, weights: Array) -> Array:
    nothing = weights.sum() == 0
    # Only what is not finite is replaced, so that the derivative in a zero weight stays (ℓ − mean) / Σw.
    counted = jnp.where((weights == 0) & ~jnp.isfinite(losses), 0, losses.astype(weights.dtype))
    return jnp.where(nothing, 0, (weights * counted).sum() / jnp.where(nothing, 1, weights.sum()))
