"""Squared error, of real numbers and of predicted probabilities, and the rate of wrong classes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer, Real

from jaxce.losses import validation
from jaxce.losses.closed_form import closed_form, component_loss, component_loss_grad
from jaxce.losses.numerics import sum_except
from jaxce.losses.rows import label_softmax, row_loss, row_loss_grad


def squared_error(
    predictions: Float[ArrayLike, "*shape"], targets: Real[ArrayLike, "*shape"] | None = None
) -> Float[Array, "*shape"]:
    """Squared error of each component: (prediction − target)².

    Args:
        predictions: Real numbers; unlike cross-entropy, −1.5 is one as good as any.
        targets: Real numbers, one for each prediction; None is zeros.

    Returns:
        One loss per component, not reduced, float32 or float64: the square of a metric.

    Raises:
        ValueError: The shapes differ.
        TypeError: Predictions that are not floating-point.

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), section 1.5.5 (not read).

    >>> print(squared_error(jnp.array([-1.5, 2.0]), jnp.array([0.5, 2.0])))
    [4. 0.]
    """
    return component_loss(_squared, *_squared_arguments(predictions, targets))


def squared_error_grad(
    predictions: Float[ArrayLike, "*shape"], targets: Real[ArrayLike, "*shape"] | None = None
) -> Float[Array, "*shape"]:
    """d squared_error / d predictions = 2 (prediction − target).

    >>> print(squared_error_grad(jnp.array([-1.5, 2.0]), jnp.array([0.5, 2.0])))
    [-4.  0.]
    """
    return component_loss_grad(_squared_and_grad, *_squared_arguments(predictions, targets))


def brier_score(
    logits: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """Squared distance from softmax(logits) to the true class: Σ_j (p_j − 1[j = y])².

    Args:
        logits: Log-probabilities up to a constant. −inf masks a class.
        labels: The true class of each example, as in softmax_cross_entropy_with_integer_labels.

    Returns:
        One score per example in [0, 2], not reduced, float32 or float64. It is bounded, and so its gradient
        vanishes where the model is confidently wrong.

    Raises:
        ValueError: Shapes that do not fit, or labels that name no class.
        TypeError: Logits that are not floating-point, or labels that are not integers.

    Source:
        Brier 1950, Verification of Forecasts Expressed in Terms of Probability, equation 2 (not read).

    >>> print(brier_score(jnp.zeros((1, 2)), jnp.array([0])))  # (½ − 1)² + (½ − 0)²
    [0.5]
    """
    return row_loss(_brier, *_label_arguments(logits, labels))


def brier_score_grad(
    logits: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"]
) -> Float[Array, "*batch classes"]:
    """d brier_score / d logits = 2 p_j (r_j − Σ_k r_k p_k) with r = p − one-hot.

    The label's own entry is −2 p_y times the score.

    >>> print(brier_score_grad(jnp.zeros((1, 2)), jnp.array([0])))
    [[-0.5  0.5]]
    """
    return row_loss_grad(_brier_and_grad, *_label_arguments(logits, labels))


def classification_error(
    logits: Float[ArrayLike, "*batch classes"], labels: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
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

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), section 1.5.1 (not read).

    >>> print(classification_error(jnp.array([[0.3, 0.7], [0.6, 0.4]]), jnp.array([1, 1])))
    [0. 1.]
    >>> print(classification_error(jnp.array([[2.0, -1.0]]), jnp.array([[1, 1]])))
    [[0. 1.]]
    """
    logits = validation.as_floating("logits", logits)
    if np.shape(labels) == logits.shape:
        return component_loss(_wrong_component, *_binary_arguments(logits, labels))
    return row_loss(_wrong_class, *_label_arguments(logits, labels))


def classification_error_grad(
    logits: Float[ArrayLike, "*batch classes"], labels: Real[ArrayLike, "..."]
) -> Float[Array, "*batch classes"]:
    """d classification_error / d logits = 0: why the error rate cannot be learned from.

    >>> print(classification_error_grad(jnp.array([[0.3, 0.7]]), jnp.array([0])))
    [[0. 0.]]
    """
    logits = validation.as_floating("logits", logits)
    if np.shape(labels) == logits.shape:
        return component_loss_grad(_wrong_component_and_grad, *_binary_arguments(logits, labels))
    return row_loss_grad(_wrong_class_and_grad, *_label_arguments(logits, labels))


# The functions' cores: (inputs, labels) -> (value, gradient).


def _squared_and_grad(prediction: Array, target: Array) -> tuple[Array, Array]:
    error = prediction - target
    return error**2, 2 * error


def _brier_and_grad(z: Array, labels: Array) -> tuple[Array, Array]:
    p = label_softmax(z, labels, None)
    value = p.others**2 + sum_except(p.probs**2, labels)
    # Of another class, r_j − Σ_k r_k p_k = p_y (1 − p_y + p_j) + Σ_{k≠y} p_k (p_j − p_k), where nearly equal
    # classes cancel. Their gaps to the largest of them, by expm1, keep what p_j − p_k loses.
    top = jnp.where(p.is_label, -jnp.inf, z).max(-1, keepdims=True)
    below = jnp.where(p.is_label | (top == -jnp.inf), 0, z - top)
    gap = -jnp.expm1(below) * jnp.where(p.is_label, 0, p.probs).max(-1, keepdims=True)
    others, label_prob = p.others[..., None], jnp.where(p.is_label, p.probs, 0).sum(-1, keepdims=True)
    spread = sum_except(p.probs * gap, labels)[..., None] - gap * others
    of_others = 2 * p.probs * (label_prob * (others + p.probs) + spread)
    return value, jnp.where(p.is_label, -2 * label_prob * value[..., None], of_others)


def _wrong_class_and_grad(z: Array, labels: Array) -> tuple[Array, Array]:
    knowable = (labels >= 0) & (labels < z.shape[-1]) & ~jnp.isnan(z).any(-1)
    value = jnp.where(knowable, (z.argmax(-1) != labels).astype(z.dtype), jnp.nan)
    return value, jnp.broadcast_to(jnp.where(knowable, 0, value)[..., None], z.shape)


def _wrong_component_and_grad(z: Array, y: Array) -> tuple[Array, Array]:
    value = jnp.where(jnp.isnan(z), jnp.nan, ((z > 0) != (y > 0)).astype(z.dtype))
    return value, jnp.where(jnp.isnan(z), jnp.nan, jnp.zeros_like(z))


_squared = closed_form(_squared_and_grad)
_brier = closed_form(_brier_and_grad)
_wrong_class = closed_form(_wrong_class_and_grad)
_wrong_component = closed_form(_wrong_component_and_grad)


# The checks: from what the user gave to the arguments of row_loss and component_loss.


def _squared_arguments(predictions: Any, targets: Any) -> tuple[Array, Array]:
    predictions = validation.as_floating("predictions", predictions)
    targets = jnp.zeros_like(predictions) if targets is None else validation.as_real("targets", targets)
    validation.check_same_shape("targets", targets, "predictions", predictions.shape)
    return predictions, targets


def _label_arguments(logits: Any, labels: Any) -> tuple[Any, ...]:
    logits = validation.as_floating("logits", logits)
    axes = validation.normalize_axes(-1, logits.ndim)
    labels = validation.as_integer_labels(labels, logits.shape[-1])
    validation.check_integer_labels_shape(labels, logits, axes)
    return axes, logits, None, labels


def _binary_arguments(logits: jax.Array, labels: Any) -> tuple[Array, Array]:
    labels = validation.as_real("labels", labels)
    numbers = validation.concrete(labels)
    if numbers is not None and not ((numbers == 0) | (numbers == 1)).all():
        raise ValueError(
            "labels of the logits' own shape must be 0 or 1: use labels > 0.5 for probabilities, "
            f"or labels of shape {logits.shape[:-1]} for class numbers"
        )
    return logits, labels
