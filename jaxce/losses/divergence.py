"""Cross-entropy, entropy and divergences of distributions that are given as such, not as logits."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxce.losses import definitions
from jaxce.losses.loss import loss

__all__ = ["cross_entropy", "entropy", "js_divergence", "kl_divergence", "kl_divergence_with_log_targets"]


@loss(labels="distribution", definition=definitions.cross_entropy, convex=True)
def cross_entropy(
    probs: Float[ArrayLike, "*batch classes"],
    targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Cross-entropy from each target distribution to predicted probabilities, in nats.

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

    Formula:
        −Σ_j q_j log p_j

    Gradient:
        −q / p, and 0 where q = 0.

    Source:
        Bishop, Pattern Recognition and Machine Learning (2006), section 1.6.

    >>> print(cross_entropy(jnp.array([0.5, 0.2, 0.3]), jnp.array([1.0, 0.0, 0.0])))
    0.6931472
    >>> print(cross_entropy.grad(jnp.array([0.5, 0.5]), jnp.array([0.75, 0.25])))
    [-1.5 -0.5]
    """
    counts = targets != 0
    of_counted = jnp.where(counts, probs, 1)
    return (targets * -jnp.log(of_counted)).sum(-1), jnp.where(counts, -targets / of_counted, 0)


@loss(labels="none", definition=definitions.entropy, convex=False)
def entropy(
    probs: Float[ArrayLike, "*batch classes"], axis: int | Sequence[int] = -1
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Entropy of each distribution, in nats, with 0·log 0 = 0.

    Args:
        probs: Probabilities p.
        axis: The axis of the classes, or several that together number them.

    Returns:
        One number per distribution, float32 or float64: 0 where it is certain, log C where uniform.

    Raises:
        ValueError: Probs outside [0, 1], or an axis that is none.
        TypeError: Probs that are not floating-point.

    Formula:
        −Σ_j p_j log p_j

    Gradient:
        −1 − log p; at p = 0, where it is infinite, that of the smallest normal number, 86.3 in float32, so that
        the chain through a softmax that underflowed comes out as its limit 0 and not as inf·0.

    Source:
        Shannon 1948, A Mathematical Theory of Communication, section 6.

    >>> print(entropy(jnp.array([[0.5, 0.5], [1.0, 0.0]])))
    [0.6931472 0.       ]
    >>> print(entropy.grad(jnp.array([1.0, 0.0])).round(1))
    [-1.  86.3]
    """
    log_p = jnp.log(jnp.maximum(probs, jnp.finfo(jnp.result_type(probs)).tiny))
    return (probs * -log_p).sum(-1), -1 - log_p


@loss(labels="distribution", definition=definitions.kl_divergence, convex=True)
def kl_divergence(
    log_predictions: Float[ArrayLike, "*batch classes"],
    targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Kullback-Leibler divergence from exp(l) to targets q, in nats.

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

    Formula:
        Σ_j q_j (log q_j − l_j)

    Gradient:
        −q

    Source:
        Kullback and Leibler 1951, On Information and Sufficiency.

    >>> print(kl_divergence(jnp.log(jnp.array([0.25, 0.75])), jnp.array([0.0, 1.0])))  # −log ¾
    0.2876821
    >>> print(kl_divergence.grad(jnp.log(jnp.array([0.25, 0.75])), jnp.array([0.5, 0.5])))
    [-0.5 -0.5]
    """
    return _divergence(log_predictions, targets, jnp.log(jnp.where(targets == 0, 1, targets)))


@loss(labels="log_distribution", definition=definitions.kl_divergence_with_log_targets, convex=True)
def kl_divergence_with_log_targets(
    log_predictions: Float[ArrayLike, "*batch classes"],
    log_targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Kullback-Leibler divergence from exp(l) to exp(t), in nats.

    Args:
        log_predictions: Log-probabilities l. −inf is probability zero.
        log_targets: Logarithms t of the target distributions; −inf is zero.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what is summed: per example (the shape of the result), or per class (that of the
            predictions, either with length-1 axes to repeat). What is masked out costs 0.

    Returns:
        One divergence per example, not reduced, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit.
        TypeError: Predictions or targets that are not floating-point, or a mask that is not boolean.

    Formula:
        Σ_j exp(t_j) (t_j − l_j)

    Gradient:
        −exp(t)

    Source:
        Kullback and Leibler 1951, On Information and Sufficiency.

    >>> print(kl_divergence_with_log_targets(jnp.log(jnp.array([0.25, 0.75])), jnp.array([-jnp.inf, 0.0])))
    0.2876821
    >>> print(kl_divergence_with_log_targets.grad(jnp.log(jnp.array([0.25, 0.75])), jnp.zeros(2)))
    [-1. -1.]
    """
    return _divergence(log_predictions, jnp.exp(log_targets), log_targets)


@loss(labels="distribution", definition=definitions.js_divergence, convex=False)
def js_divergence(
    log_predictions: Float[ArrayLike, "*batch classes"],
    targets: Float[ArrayLike, "*batch classes"],
    axis: int | Sequence[int] = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    """Jensen-Shannon divergence of p = exp(l) and q, in nats.

    Symmetric, within [0, log 2] for distributions, and its square root is a metric.

    Args:
        log_predictions: Log-probabilities l, as of jax.nn.log_softmax. −inf is probability zero.
        targets: Target distributions q.
        axis: The axis of the classes, or several that together number them.
        where: Mask of what is summed: per example (the shape of the result), or per class (that of the
            predictions, either with length-1 axes to repeat). What is masked out costs 0.

    Returns:
        One divergence per example, not reduced, float32 or float64; never negative.

    Raises:
        ValueError: Shapes that do not fit, or negative targets.
        TypeError: Predictions that are not floating-point, or a mask that is not boolean.

    Formula:
        ½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q)

    Gradient:
        ½ p log(p / m)

    Source:
        Lin 1991, Divergence Measures Based on the Shannon Entropy, doi:10.1109/18.61115, with equal weights.

    >>> print(js_divergence(jnp.array([0.0, -jnp.inf]), jnp.array([0.0, 1.0])))  # log 2
    0.6931472
    >>> print(js_divergence.grad(jnp.array([0.0, -jnp.inf]), jnp.array([0.0, 1.0])))  # ½ log 2, 0
    [0.3465736 0.       ]
    """
    p, q = jnp.exp(log_predictions), targets
    total = jnp.where(p + q == 0, 1, p + q)  # 2 m
    # With δ = (p − q) / 2m a class costs m/2·[(1 + δ) log(1 + δ) + (1 − δ) log(1 − δ)]. Where p and q are close
    # that is a difference of nearly equal numbers, and turns negative; log(1 − δ²) + 2δ·artanh δ does not.
    delta = (p - q) / total
    close = jnp.abs(delta) < 0.5
    d = jnp.where(close, delta, 0)
    of_close = jnp.log1p(-(d**2)) + 2 * d * jnp.arctanh(d)
    log_m = jnp.log(total) - jnp.log(2.0)  # m itself may underflow where p does not
    of_far = jnp.where(p == 0, 0, log_predictions) - log_m
    p_log_ratio = p * jnp.where(close, jnp.log1p(d), of_far)
    q_log_ratio = q * (jnp.log(jnp.where(q == 0, 1, q)) - log_m)
    cost = jnp.where(close, total * of_close / 4, (p_log_ratio + q_log_ratio) / 2)
    return cost.sum(-1), p_log_ratio / 2


def _divergence(
    log_p: Float[ArrayLike, "*batch classes"],
    q: Float[ArrayLike, "*batch classes"],
    log_q: Float[ArrayLike, "*batch classes"],
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch classes"]]:
    counts = q != 0  # 0·∞ costs nothing
    gap = jnp.where(counts, log_q, 0) - jnp.where(counts, log_p, 0)
    return (q * gap).sum(-1), jnp.where(counts, -q, 0)
