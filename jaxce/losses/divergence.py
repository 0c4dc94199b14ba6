"""Cross-entropy, entropy and divergences of distributions that are given as such, not as logits."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxce.losses import validation
from jaxce.losses.closed_form import closed_form
from jaxce.losses.rows import row_loss, row_loss_grad


def cross_entropy(
    probs: Float[ArrayLike, "*batch classes"],
    targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
) -> Float[Array, "*batch"]:
    """Cross-entropy from each target distribution to predicted probabilities, in nats: −Σ_j q_j log p_j.

    Of logits, use softmax_cross_entropy instead: a probability that rounds to 0 or 1 has lost its logarithm.

    Args:
        probs: Predicted probabilities p.
        targets: Target distributions q; used as they stand, whatever their sum.
        axis: The axis of the classes, or several that together number them.

    Returns:
        One loss per example, not reduced, float32 or float64. A class with q_j = 0 costs nothing, whatever
        p_j; one with q_j > 0 costs inf at p_j = 0, for which XLA also takes what is below the normal numbers.

    Raises:
        ValueError: Shapes that do not fit, probs outside [0, 1], negative targets.
        TypeError: Probs that are not floating-point.

    Source:
        Shannon 1948; Bishop, Pattern Recognition and Machine Learning (2006), section 1.6 (not read).

    >>> print(cross_entropy(jnp.array([0.5, 0.2, 0.3]), jnp.array([1.0, 0.0, 0.0])))
    0.6931472
    """
    return row_loss(_cross_entropy, *_cross_entropy_arguments(probs, targets, axis))


def cross_entropy_grad(
    probs: Float[ArrayLike, "*batch classes"],
    targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
) -> Float[Array, "*batch classes"]:
    """d cross_entropy / d probs = −q / p, and 0 where q = 0.

    >>> print(cross_entropy_grad(jnp.array([0.5, 0.5]), jnp.array([0.75, 0.25])))
    [-1.5 -0.5]
    """
    return row_loss_grad(_cross_entropy_and_grad, *_cross_entropy_arguments(probs, targets, axis))


def entropy(
    probs: Float[ArrayLike, "*batch classes"], axis: int | Sequence[int] = -1
) -> Float[Array, "*batch"]:
    """Entropy of each distribution, in nats: −Σ_j p_j log p_j, with 0·log 0 = 0.

    Args:
        probs: Probabilities p.
        axis: The axis of the classes, or several that together number them.

    Returns:
        One number per distribution, float32 or float64: 0 where it is certain, log C where uniform.

    Raises:
        ValueError: Probs outside [0, 1], or an axis that is none.
        TypeError: Probs that are not floating-point.

    Source:
        Shannon 1948, A Mathematical Theory of Communication, section 6 (not read).

    >>> print(entropy(jnp.array([[0.5, 0.5], [1.0, 0.0]])))
    [0.6931472 0.       ]
    """
    return row_loss(_entropy, *_entropy_arguments(probs, axis))


def entropy_grad(
    probs: Float[ArrayLike, "*batch classes"], axis: int | Sequence[int] = -1
) -> Float[Array, "*batch classes"]:
    """d entropy / d probs = −1 − log p.

    At p = 0 the slope is infinite; it is given as that of the smallest normal number, 86.3 in float32, so that
    the chain through a softmax that underflowed comes out as its limit 0 and not as inf·0.

    >>> print(entropy_grad(jnp.array([1.0, 0.0])).round(1))
    [-1.  86.3]
    """
    return row_loss_grad(_entropy_and_grad, *_entropy_arguments(probs, axis))


def kl_divergence(
    log_predictions: Float[ArrayLike, "*batch classes"],
    targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Kullback-Leibler divergence from exp(l) to targets q, in nats: Σ_j q_j (log q_j − l_j).

    Args:
        log_predictions: Log-probabilities l, as of jax.nn.log_softmax. −inf is probability zero.
        targets: Target distributions q.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what is summed: per example (the shape of the result), or per class (that of the
            predictions, either with length-1 axes to repeat). What is masked out costs 0.

    Returns:
        One divergence per example, not reduced, float32 or float64. A class with q_j = 0 costs nothing, even at
        l_j = −inf; one with q_j > 0 and l_j = −inf costs inf.

    Raises:
        ValueError: Shapes that do not fit, or negative targets.
        TypeError: Predictions that are not floating-point, or a mask that is not boolean.

    Source:
        Kullback and Leibler 1951, On Information and Sufficiency (not read).

    >>> print(kl_divergence(jnp.log(jnp.array([0.25, 0.75])), jnp.array([0.0, 1.0])))  # −log ¾
    0.2876821
    """
    return row_loss(_kl, *_kl_arguments(log_predictions, targets, axis, where))


def kl_divergence_grad(
    log_predictions: Float[ArrayLike, "*batch classes"],
    targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """d kl_divergence / d log_predictions = −q.

    >>> print(kl_divergence_grad(jnp.log(jnp.array([0.25, 0.75])), jnp.array([0.5, 0.5])))
    [-0.5 -0.5]
    """
    return row_loss_grad(_kl_and_grad, *_kl_arguments(log_predictions, targets, axis, where))


def kl_divergence_with_log_targets(
    log_predictions: Float[ArrayLike, "*batch classes"],
    log_targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """kl_divergence with targets as logarithms t, in nats: Σ_j exp(t_j) (t_j − l_j).

    Args:
        log_predictions: Log-probabilities l. −inf is probability zero.
        log_targets: Logarithms t of the target distributions; −inf is zero.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what is summed, as in kl_divergence.

    Returns:
        One divergence per example, not reduced, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit.
        TypeError: Predictions or targets that are not floating-point, or a mask that is not boolean.

    Source:
        Kullback and Leibler 1951, On Information and Sufficiency (not read).

    >>> print(kl_divergence_with_log_targets(jnp.log(jnp.array([0.25, 0.75])), jnp.array([-jnp.inf, 0.0])))
    0.2876821
    """
    return row_loss(_kl_log, *_kl_log_arguments(log_predictions, log_targets, axis, where))


def kl_divergence_with_log_targets_grad(
    log_predictions: Float[ArrayLike, "*batch classes"],
    log_targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """d kl_divergence_with_log_targets / d log_predictions = −exp(t).

    >>> print(kl_divergence_with_log_targets_grad(jnp.log(jnp.array([0.25, 0.75])), jnp.zeros(2)))
    [-1. -1.]
    """
    return row_loss_grad(_kl_log_and_grad, *_kl_log_arguments(log_predictions, log_targets, axis, where))


def js_divergence(
    log_predictions: Float[ArrayLike, "*batch classes"],
    targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Jensen-Shannon divergence of p = exp(l) and q, in nats: ½ KL(p‖m) + ½ KL(q‖m) with m = ½ (p + q).

    Symmetric, within [0, log 2] for distributions, and its square root is a metric.

    Args:
        log_predictions: Log-probabilities l, as of jax.nn.log_softmax. −inf is probability zero.
        targets: Target distributions q.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what is summed, as in kl_divergence.

    Returns:
        One divergence per example, not reduced, float32 or float64; never negative.

    Raises:
        ValueError: Shapes that do not fit, or negative targets.
        TypeError: Predictions that are not floating-point, or a mask that is not boolean.

    Source:
        Lin 1991, Divergence Measures Based on the Shannon Entropy, with equal weights (not read).

    >>> print(js_divergence(jnp.array([0.0, -jnp.inf]), jnp.array([0.0, 1.0])))  # log 2
    0.6931472
    """
    return row_loss(_js, *_kl_arguments(log_predictions, targets, axis, where))


def js_divergence_grad(
    log_predictions: Float[ArrayLike, "*batch classes"],
    targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    """d js_divergence / d log_predictions = ½ p log(p / m).

    >>> print(js_divergence_grad(jnp.array([0.0, -jnp.inf]), jnp.array([0.0, 1.0])))  # ½ log 2, 0
    [0.3465736 0.       ]
    """
    return row_loss_grad(_js_and_grad, *_kl_arguments(log_predictions, targets, axis, where))


# The rows' own functions: (inputs [*batch, C], targets, keep [*batch] or None) -> (value, gradient).


def _cross_entropy_and_grad(p: Array, q: Array, keep: Array | None) -> tuple[Array, Array]:
    counts = q != 0
    of_counted = jnp.where(counts, p, 1)
    return _kept((q * -jnp.log(of_counted)).sum(-1), jnp.where(counts, -q / of_counted, 0), keep)


def _entropy_and_grad(p: Array, _: Array, keep: Array | None) -> tuple[Array, Array]:
    log_p = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
    return _kept((p * -log_p).sum(-1), -1 - log_p, keep)


def _kl_and_grad(log_p: Array, q: Array, keep: Array | None) -> tuple[Array, Array]:
    return _divergence(log_p, q, jnp.log(jnp.where(q > 0, q, 1)), keep)


def _kl_log_and_grad(log_p: Array, log_q: Array, keep: Array | None) -> tuple[Array, Array]:
    return _divergence(log_p, jnp.exp(log_q), log_q, keep)


def _divergence(log_p: Array, q: Array, log_q: Array, keep: Array | None) -> tuple[Array, Array]:
    counts = q > 0  # 0·∞ costs nothing
    gap = jnp.where(counts, log_q, 0) - jnp.where(counts, log_p, 0)
    return _kept((q * gap).sum(-1), jnp.where(counts, -q, 0), keep)


def _js_and_grad(log_p: Array, q: Array, keep: Array | None) -> tuple[Array, Array]:
    p = jnp.exp(log_p)
    total = jnp.where(p + q > 0, p + q, 1)  # 2 m
    # With δ = (p − q) / 2m a class costs m/2·[(1 + δ) log(1 + δ) + (1 − δ) log(1 − δ)]. Where p and q are close
    # that is a difference of nearly equal numbers, and turns negative; log(1 − δ²) + 2δ·artanh δ does not.
    delta = (p - q) / total
    close = jnp.abs(delta) < 0.5
    d = jnp.where(close, delta, 0)
    of_close = jnp.log1p(-(d**2)) + 2 * d * jnp.arctanh(d)
    log_m = jnp.log(total / 2)
    p_log_ratio = jnp.where(p > 0, p, 0) * jnp.where(close, jnp.log1p(d), jnp.where(p > 0, log_p, 0) - log_m)
    q_log_ratio = q * (jnp.log(jnp.where(q > 0, q, 1)) - log_m)
    cost = jnp.where(close, total * of_close / 4, (p_log_ratio + q_log_ratio) / 2)
    return _kept(cost.sum(-1), p_log_ratio / 2, keep)


def _kept(value: Array, grad: Array, keep: Array | None) -> tuple[Array, Array]:
    if keep is None:
        return value, grad
    return jnp.where(keep, value, 0), jnp.where(keep[..., None], grad, 0)


_cross_entropy = closed_form(_cross_entropy_and_grad)
_entropy = closed_form(_entropy_and_grad)
_kl = closed_form(_kl_and_grad)
_kl_log = closed_form(_kl_log_and_grad)
_js = closed_form(_js_and_grad)


# The checks: from what the user gave to (axes, inputs, class mask, targets, keep).


def _cross_entropy_arguments(probs: Any, targets: Any, axis: Any) -> tuple[Any, ...]:
    axes, probs, *_ = _entropy_arguments(probs, axis)
    targets = validation.as_real("targets", targets)
    validation.check_same_shape("targets", targets, "probs", probs.shape)
    _check_not_negative(targets)
    return axes, probs, None, targets, None


def _entropy_arguments(probs: Any, axis: Any) -> tuple[Any, ...]:
    probs = validation.as_floating("probs", probs)
    advice = "probabilities lie in [0, 1]; of logits, take jax.nn.softmax first"
    validation.check_range("probs", probs, 0, 1 + 1e-3, advice)  # a sum that rounds may pass 1
    return validation.normalize_axes(axis, probs.ndim, "probs"), probs, None, probs, None


def _kl_arguments(log_predictions: Any, targets: Any, axis: Any, where: Any) -> tuple[Any, ...]:
    targets = validation.as_real("targets", targets)
    _check_not_negative(targets)
    return _masked("targets", log_predictions, targets, axis, where, nothing=0)


def _kl_log_arguments(log_predictions: Any, log_targets: Any, axis: Any, where: Any) -> tuple[Any, ...]:
    log_targets = validation.as_floating("log_targets", log_targets)
    return _masked("log_targets", log_predictions, log_targets, axis, where, nothing=-jnp.inf)


def _masked(
    name: str, log_predictions: Any, targets: Array, axis: Any, where: Any, nothing: float
) -> tuple[Any, ...]:
    log_predictions = validation.as_floating("log_predictions", log_predictions)
    validation.check_same_shape(name, targets, "log_predictions", log_predictions.shape)
    axes = validation.normalize_axes(axis, log_predictions.ndim, "log_predictions")
    keep = classes = None
    if where is not None:
        keep, classes = validation.split_where(where, log_predictions, axes, "log_predictions")
    if classes is not None:
        targets = jnp.where(classes, targets, nothing)
    return axes, log_predictions, classes, targets, keep


def _check_not_negative(targets: Array) -> None:
    advice = "targets must not be negative; of log-probabilities, use kl_divergence_with_log_targets"
    validation.check_range("targets", targets, 0, float("inf"), advice)
