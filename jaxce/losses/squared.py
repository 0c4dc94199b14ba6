"""Squared error of real numbers, and the rate of wrong classes: what cross-entropy is compared with."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxce.losses import definitions
from jaxce.losses.loss import loss

__all__ = ["classification_error", "squared_error"]


@loss(labels="real", definition=definitions.squared_error, convex=True)
def squared_error(
    predictions: Float[ArrayLike, "*shape"], targets: Real[ArrayLike, "*shape"] | None = None
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Squared error of each component.

    Args:
        predictions: Real numbers; unlike cross-entropy, −1.5 is one as good as any.
        targets: Real numbers, one for each prediction; None is zeros.

    Returns:
        One loss per component, not reduced, float32 or float64: the square of a metric.

    Raises:
        ValueError: The shapes differ.
        TypeError: Predictions that are not floating-point.

    Formula:
        (x − y)²

    Gradient:
        2 (x − y)

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), section 1.5.5.

    >>> print(squared_error(jnp.array([-1.5, 2.0]), jnp.array([0.5, 2.0])))
    [4. 0.]
    >>> print(squared_error.grad(jnp.array([-1.5, 2.0]), jnp.array([0.5, 2.0])))
    [-4.  0.]
    """
    error = predictions - targets
    return error**2, 2 * error


@loss(labels="integer", definition=definitions.classification_error, convex=False, components_too=True)
def classification_error(
    logits: Float[ArrayLike, "*batch classes"], labels: Real[ArrayLike, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "*batch classes"]]:
    """1 where the predicted class is wrong, else 0.

    Args:
        logits: Log-probabilities up to a constant, or log-odds of each component.
        labels: Integers [*batch]: the prediction is the largest logit, the first of several. Or zeros and ones
            of the logits' own shape: the prediction of a component is z > 0, which is σ(z) > ½.

    Returns:
        One error per label, not reduced, float32 or float64; NaN where a logit is.

    Raises:
        ValueError: Shapes that do not fit, or labels that name no class.
        TypeError: Logits that are not floating-point, or class labels that are not integers.

    Formula:
        1[argmax_j z_j ≠ y]

    Gradient:
        0, which is why nothing can be learned from the error rate.

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), section 1.5.1.

    >>> print(classification_error(jnp.array([[0.3, 0.7], [0.6, 0.4]]), jnp.array([1, 1])))
    [0. 1.]
    >>> print(classification_error(jnp.array([[2.0, -1.0]]), jnp.array([[1, 1]])))
    [[0. 1.]]
    >>> print(classification_error.grad(jnp.array([[0.3, 0.7]]), jnp.array([0])))
    [[0. 0.]]
    """
    if labels.shape == logits.shape:
        value = jnp.where(jnp.isnan(logits), jnp.nan, ((logits > 0) != (labels > 0)).astype(logits.dtype))
        return value, jnp.where(jnp.isnan(logits), jnp.nan, jnp.zeros_like(logits))
    knowable = (labels >= 0) & (labels < logits.shape[-1]) & ~jnp.isnan(logits).any(-1)
    value = jnp.where(knowable, (logits.argmax(-1) != labels).astype(logits.dtype), jnp.nan)
    return value, jnp.broadcast_to(jnp.where(knowable, 0, value)[..., None], logits.shape)
