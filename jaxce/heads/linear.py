"""Losses of features @ kernel + bias, exact in every derivative, without an array of all logits."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Integer, Num, Real

from jaxce.heads import arguments
from jaxce.heads.arguments import Head
from jaxce.heads.mesh import ClassParallel, local_shape, map_rows, weighted_sum
from jaxce.heads.passes import OfRows, rows_per_chunk, weigh
from jaxce.losses import adjustments
from jaxce.losses.numerics import computed_dtype, softmax
from jaxce.losses.softmax import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels


def linear_softmax_cross_entropy(
    features: Float[ArrayLike, "*batch features"],
    kernel: Float[ArrayLike, "features classes"],
    labels: Integer[ArrayLike, "*batch"] | Float[ArrayLike, "*batch classes"],
    *,
    bias: Float[ArrayLike, "classes"] | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
    weights: Num[ArrayLike, "*batch"] | Bool[ArrayLike, "*batch"] | None = None,
    ignore_index: ArrayLike | None = None,
    class_weights: Real[ArrayLike, "classes"] | None = None,
    label_smoothing: ArrayLike = 0.0,
    z_loss: ArrayLike = 0.0,
    soft_cap: ArrayLike | None = None,
    reduction: str = "mean",
    chunk_size: int | None = None,
    parallel: ClassParallel | None = None,
) -> Float[Array, "..."]:
    """Softmax cross-entropy of the logits features @ kernel + bias, in nats, never all of them at once.

    Equal to softmax_cross_entropy or its sibling with integer labels on those logits, in value and in every
    derivative: gradients, forward mode, Hessian-vector products. With `mean` and `sum` the gradients form
    together with the value, from the same logits: three large products; `none` takes a fourth.

    Args:
        features: One vector per example.
        kernel: One column per class.
        labels: The true class of each example, or a target distribution for each.
        bias: One number per class.
        where: Mask of what counts: per example (the shape of the losses; their labels may then lie outside the
            classes), or per class (the logits' rank, of which any axis may have length 1: mask[None] for all of
            [N, C]). The mean is over the examples that count, and that have a class that does.
        weights: A number, or a mask, for each example, not negative: the mean is Σ w ℓ / Σ w. What has weight 0
            may hold anything.
        ignore_index: Examples with this label do not count.
        class_weights: A factor for each class's share of the loss; the mean does not divide by it.
        label_smoothing: ε in [0, 1]: the targets become (1 − ε)·q + ε/C, over the C classes not masked.
        z_loss: Coefficient of lse(z)².
        soft_cap: Bound c of the logits: c·tanh(z / c).
        reduction: "mean", "sum", or "none" for one loss per example, times its weight.
        chunk_size: Examples whose logits exist at one time; that many times C, in float32, once or twice, is
            the memory that it takes. None: as many as make 30 MiB of logits, but no fewer than 240, for every
            chunk reads the kernel and its gradient once and with fewer rows that takes longer than the
            products; and no more than make 512 MiB. On accelerators 256 MiB, 2048 and 1 GiB. On a mesh, of
            the examples and classes that one device has.
        parallel: The axes of a mesh over which classes and examples are spread; None: no mesh.

    Returns:
        The mean, the sum, or the losses [*batch]; float32, or float64 where features or kernel are. A mean
        over nothing is 0.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Features, kernel or bias that are not floating-point, or a mask that is not boolean.

    Source:
        Gradients in the forward pass: Hsu et al. 2024, Liger Kernel, arXiv:2410.10989, section 3.2.

    >>> features, kernel = jnp.array([[0.0, 1.0]]), jnp.array([[3.0, 1.0], [0.0, -20.0]])
    >>> print(linear_softmax_cross_entropy(features, kernel, jnp.array([0])))
    2.0611537e-09
    """
    head = arguments.as_head(features, kernel, bias)
    reduction, chunk = arguments.as_reduction(reduction), arguments.as_chunk(chunk_size)
    num_classes = head.kernel.shape[1]
    rows, row_mask, class_mask = arguments.split_where(where, head.batch, num_classes)
    weights = arguments.as_weights(weights, head.batch)
    keep = arguments.kept_rows(labels, head.batch, rows, ignore_index, weights)
    left_out = "where, weights or ignore_index leave examples out"
    labels = arguments.as_softmax_labels(labels, head.batch, num_classes, keep, left_out)
    if row_mask is not None:
        keep = row_mask.any(-1) if keep is None else keep & row_mask.any(-1)
    options = arguments.softmax_options(
        num_classes, soft_cap, class_weights=class_weights, label_smoothing=label_smoothing, z_loss=z_loss
    )
    if keep is not None:
        ones = keep.astype(computed_dtype(head.features, head.kernel))
        weights = ones if weights is None else jnp.where(keep, weights, 0)
    return reduced(
        softmax_of_rows, head, weights, (labels, row_mask), (class_mask, options), reduction, chunk, parallel
    )


def linear_loss(
    loss: Callable[[Array, Array], Array],
    features: Float[ArrayLike, "*batch features"],
    kernel: Float[ArrayLike, "features classes"],
    labels: Num[ArrayLike, "..."],
    *,
    bias: Float[ArrayLike, "classes"] | None = None,
    weights: Num[ArrayLike, "*batch"] | Bool[ArrayLike, "*batch"] | None = None,
    reduction: str = "mean",
    chunk_size: int | None = None,
    parallel: ClassParallel | None = None,
) -> Float[Array, "..."]:
    """Any loss of the logits features @ kernel + bias that has one value per row, never all logits at once.

    Equal to `weighted_mean(loss(features @ kernel + bias, labels), weights)` in value and in every derivative,
    those in numbers that `loss` finds in its closure too.

    Args:
        loss: (logits [n, C], labels [n, ...]) -> losses [n], each of its own row alone: one of jaxce.LOSSES,
            with options by functools.partial or lambda, or your own. A margin stands inside it and takes
            cosines: see the example. Give the same function each time, rather than a new lambda, and outside
            of jit it is compiled once.
        features: One vector per example.
        kernel: One column per class.
        labels: Whatever the loss takes, with an entry per example.
        bias: One number per class.
        weights: A number, or a mask, for each example, not negative: the mean is Σ w ℓ / Σ w. What has weight
            0 contributes nothing, even if it is not finite.
        reduction: "mean", "sum", or "none" for one loss per example, times its weight.
        chunk_size: Examples whose logits exist at one time. None: as many as make 30 MiB of logits, no fewer
            than 240, and no more than make 512 MiB (256 MiB, 2048 and 1 GiB on accelerators).
        parallel: The axes of a mesh over which classes and examples are spread; None: no mesh.

    Returns:
        The mean, the sum, or the losses [*batch]. A mean over nothing is 0.

    Raises:
        ValueError: Shapes that do not fit, or a loss that does not give one number per row. What `loss` raises
            for labels that it can see it cannot raise here: a label that names no class makes the result NaN.
        TypeError: Features, kernel or bias that are not floating-point.

    Source:
        Gradients in the forward pass: Hsu et al. 2024, Liger Kernel, arXiv:2410.10989, section 3.2.

    >>> from jaxce import arcface, softmax_cross_entropy_with_integer_labels, unit_vectors
    >>> def loss(cosines, labels):
    ...     return softmax_cross_entropy_with_integer_labels(arcface(cosines, labels, scale=8.0), labels)
    >>> features, kernel, labels = jnp.array([[2.0, 0.0]]), jnp.eye(2), jnp.array([0])
    >>> mean = linear_loss(loss, unit_vectors(features), unit_vectors(kernel, axis=0), labels)
    >>> print(mean.round(6))  # log(1 + exp(−8 cos ½))
    0.000893
    """
    head = arguments.as_head(features, kernel, bias)
    reduction, chunk = arguments.as_reduction(reduction), arguments.as_chunk(chunk_size)
    weights = arguments.as_weights(weights, head.batch)
    labels = jnp.asarray(labels)
    if labels.shape[: len(head.batch)] != head.batch:
        raise ValueError(
            f"labels has shape {labels.shape} but features has {head.batch} without their last axis: labels "
            "must have an entry per example"
        )
    labels = labels.reshape(-1, *labels.shape[len(head.batch) :])
    arguments.check_one_per_row(loss, head, labels)
    return reduced(loss, head, weights, (labels,), (), reduction, chunk, parallel)


class TokenStatistics(NamedTuple):
    """What is asked of each token's logits z, with p = softmax(z), in nats.

    Attributes:
        loss: The cross-entropy, with every option.
        lse: log Σ exp z.
        label_log_prob: log p of the label.
        argmax: The most likely class.
        entropy: −Σ p log p.
    """

    loss: Float[Array, "*batch"]
    lse: Float[Array, "*batch"]
    label_log_prob: Float[Array, "*batch"]
    argmax: Integer[Array, "*batch"]
    entropy: Float[Array, "*batch"]


def linear_token_statistics(
    features: Float[ArrayLike, "*batch features"],
    kernel: Float[ArrayLike, "features classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    bias: Float[ArrayLike, "classes"] | None = None,
    where: Bool[ArrayLike, "..."] | None = None,
    ignore_index: ArrayLike | None = None,
    class_weights: Real[ArrayLike, "classes"] | None = None,
    label_smoothing: ArrayLike = 0.0,
    z_loss: ArrayLike = 0.0,
    soft_cap: ArrayLike | None = None,
    chunk_size: int | None = None,
    parallel: ClassParallel | None = None,
) -> TokenStatistics:
    """Loss, log-sum-exp, log-probability of the label, arg-max and entropy of each example, without its logits.

    All but the arg-max are differentiable, in every mode, in four large products.

    Args:
        features: One vector per example.
        kernel: One column per class.
        labels: The true class of each example.
        bias: One number per class.
        where: Mask per example (the shape of the losses; one masked out has loss and label_log_prob 0), or per
            class (the logits' rank, of which any axis may have length 1; one masked out has probability 0).
        ignore_index: Examples with this label have loss and label_log_prob 0.
        class_weights: A factor for each class's share of the loss; it is in `loss` alone, as are the next two.
        label_smoothing: ε in [0, 1]: the targets become (1 − ε)·q + ε/C, over the C classes not masked.
        z_loss: Coefficient of lse(z)².
        soft_cap: Bound c of the logits, c·tanh(z / c); it is part of the logits, and so in all the results.
        chunk_size: Examples whose logits exist at one time. None: as many as make 30 MiB of logits, no fewer
            than 240, and no more than make 512 MiB (256 MiB, 2048 and 1 GiB on accelerators).
        parallel: The axes of a mesh over which classes and examples are spread; None: no mesh.

    Returns:
        A TokenStatistics of arrays [*batch].

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: What is not floating-point, integers or boolean where it must be.

    Source:
        Liger-Kernel's users ask for these (#968, #678).

    >>> found = linear_token_statistics(jnp.ones((1, 1)), jnp.zeros((1, 4)), jnp.array([2]))
    >>> print(found.label_log_prob, found.entropy, found.argmax)
    [-1.3862944] [1.3862944] [0]
    """
    head = arguments.as_head(features, kernel, bias)
    chunk, num_classes = arguments.as_chunk(chunk_size), head.kernel.shape[1]
    rows, row_mask, class_mask = arguments.split_where(where, head.batch, num_classes)
    keep = arguments.kept_rows(labels, head.batch, rows, ignore_index)
    left_out = "where or ignore_index leave examples out"
    labels = arguments.as_class_numbers(labels, head.batch, num_classes, keep, left_out)
    options = arguments.softmax_options(
        num_classes, soft_cap, class_weights=class_weights, label_smoothing=label_smoothing, z_loss=z_loss
    )
    found = map_rows(
        parallel,
        _statistics_of_rows,
        chunk or rows_per_chunk(*local_shape(parallel, head.features, num_classes)),
        *head[:3],
        (labels, row_mask),
        (class_mask, options),
    )
    if keep is not None:
        loss, log_prob = (jnp.where(keep, x, 0) for x in (found.loss, found.label_log_prob))
        found = found._replace(loss=loss, label_log_prob=log_prob)
    return TokenStatistics(*(x.reshape(head.batch) for x in found))


def softmax_of_rows(
    z: Array, labels: Array, row_mask: Array | None, class_mask: Array | None, options: dict[str, Any]
) -> Array:
    """The softmax loss of each row, with every option."""
    options = dict(options)
    if "soft_cap" in options:
        z = adjustments.soft_cap(z, options.pop("soft_cap"))
    loss = softmax_cross_entropy if labels.ndim == z.ndim else softmax_cross_entropy_with_integer_labels
    where = class_mask if row_mask is None else row_mask
    return loss(z, labels, where=None if where is None else jnp.broadcast_to(where, z.shape), **options)


def _statistics_of_rows(
    z: Array, labels: Array, row_mask: Array | None, class_mask: Array | None, options: dict[str, Any]
) -> TokenStatistics:
    loss = softmax_of_rows(z, labels, row_mask, class_mask, options)
    capped = {"soft_cap": options["soft_cap"]} if "soft_cap" in options else {}
    nll = softmax_of_rows(z, labels, row_mask, class_mask, capped)
    if capped:
        z = adjustments.soft_cap(z, options["soft_cap"])
    where = class_mask if row_mask is None else row_mask
    if where is not None:
        z = jnp.where(where, z, -jnp.inf)
    p = softmax(z)
    finite = jnp.where(jnp.isfinite(p.nll), p.nll, 0)
    return TokenStatistics(loss, p.lse, -nll, z.argmax(-1), (p.probs * finite).sum(-1))


def reduced(
    loss: OfRows,
    head: Head,
    weights: Array | None,
    rows: tuple[Any, ...],
    shared: tuple[Any, ...],
    reduction: str,
    chunk: int | None,
    parallel: ClassParallel | None,
) -> Array:
    """The weighted mean, or the sum, of the losses of rows, or those themselves."""
    num_rows = len(head.features)
    if weights is not None:  # 0 times what is not finite is not 0, in the products of no derivative
        broken = (weights == 0) & ~jnp.isfinite(head.features).all(-1)
        head = head._replace(features=jnp.where(broken[:, None], 0, head.features))
    chunk = chunk or rows_per_chunk(*local_shape(parallel, head.features, head.kernel.shape[1]))
    if reduction == "none":
        losses = map_rows(parallel, loss, chunk, *head[:3], rows, shared)
        return (losses if weights is None else weigh(losses, weights)).reshape(head.batch)
    if weights is None:
        weights = jnp.ones(num_rows, computed_dtype(head.features, head.kernel))
    if reduction == "mean":  # before the gradients form, which a factor of the result would copy
        count = weights.sum()
        weights = jnp.where(count == 0, 0, weights / jnp.where(count == 0, 1, count))
    return weighted_sum(parallel, loss, chunk, *head[:3], weights, rows, shared)
