"""Losses over some of the classes: the batch's own and a random sample of the others."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, ArrayLike, Bool, Float, Integer, Num, PRNGKeyArray

from jaxce.heads import arguments
from jaxce.heads.arguments import Head
from jaxce.heads.linear import linear_loss, reduced
from jaxce.heads.mesh import ClassParallel, manual
from jaxce.losses import softmax_cross_entropy_with_integer_labels, unit_vectors
from jaxce.losses.numerics import computed_dtype, spec_of

LEFT_OUT = "weights of 0 leave examples out"


class SampledClasses(NamedTuple):
    """Some of the classes, each once, and where among them the labels are.

    Attributes:
        classes: Class numbers in order.
        labels: Of each example, the place of its label in `classes`.
    """

    classes: Integer[Array, "sampled"]
    labels: Integer[Array, "*batch"]


def sample_classes(
    key: PRNGKeyArray,
    labels: Integer[ArrayLike, "*batch"],
    num_classes: int,
    num_sampled: int,
    *,
    parallel: ClassParallel | None = None,
) -> SampledClasses:
    """The classes of a batch and, uniformly, others at random: `num_sampled` different ones.

    For a step that touches only these: the loss of `kernel[:, classes]` has a gradient of that shape, where
    that of partial_fc has the kernel's.

    Args:
        key: A random key, a new one each step.
        labels: The true class of each example.
        num_classes: How many there are, C.
        num_sampled: How many to take: no fewer than there may be different labels.
        parallel: Each device along the class axis takes as many as the others, of its own classes.

    Returns:
        A SampledClasses.

    Raises:
        ValueError: A number of classes that does not fit, or labels that name no class.
        TypeError: Labels that are not integers.

    Source:
        An et al. 2022, Partial FC, arXiv:2203.15565.

    >>> found = sample_classes(jax.random.key(0), jnp.array([70, 3]), 100, 5)
    >>> print(len(found.classes), found.classes[found.labels])
    5 [70  3]
    """
    labels = jnp.asarray(labels) if not isinstance(labels, jax.Array) else labels
    labels = arguments.as_class_numbers(labels, labels.shape, num_classes, None, "").reshape(labels.shape)
    num_sampled = as_sample(num_sampled, labels.size, num_classes, parallel)
    return SampledClasses(*_sample(parallel, num_classes, num_sampled, key, labels))


def partial_fc(
    features: Float[ArrayLike, "*batch features"],
    kernel: Float[ArrayLike, "features classes"],
    labels: Integer[ArrayLike, "*batch"],
    key: PRNGKeyArray,
    *,
    num_sampled: int,
    loss: Callable[[Array, Array], Array] = softmax_cross_entropy_with_integer_labels,
    cosines: bool = False,
    bias: Float[ArrayLike, "classes"] | None = None,
    weights: Num[ArrayLike, "*batch"] | Bool[ArrayLike, "*batch"] | None = None,
    reduction: str = "mean",
    chunk_size: int | None = None,
    parallel: ClassParallel | None = None,
) -> Float[Array, "..."]:
    """A loss of the logits of the batch's classes and a random sample of the others, and of no others.

    With `num_sampled` = C it is linear_loss. With fewer it is less by about log of the share taken, as the
    denominator lacks the rest; the authors find features as good with a share of 0.1 on a large data set.

    Args:
        features: One vector per example.
        kernel: One column per class; the gradient of those not sampled is zero.
        labels: The true class of each example.
        key: A random key, a new one each step.
        num_sampled: How many classes, the batch's own included: no fewer than there may be different labels;
            with `parallel`, of a batch that falls to one device.
        loss: (logits [n, sampled], labels [n]) -> losses [n], each of its own row alone; labels are positions
            among the sampled classes.
        cosines: Whether features and sampled columns are made unit vectors first, as margins want it.
        bias: One number per class.
        weights: A number, or a mask, for each example, not negative: the mean is Σ w ℓ / Σ w. What has weight
            0 contributes nothing, even if it is not finite or its label no class.
        reduction: "mean", "sum", or "none" for one loss per example.
        chunk_size: Examples whose logits exist at one time. None: as many as make 30 MiB of logits, no fewer
            than 240, and no more than make 512 MiB (256 MiB, 2048 and 1 GiB on accelerators).
        parallel: The axes of a mesh over which classes and examples are spread; each device samples of its own
            classes. None: no mesh.

    Returns:
        The mean, the sum, or the losses [*batch].

    Raises:
        ValueError: Shapes or numbers that do not fit, or labels that name no class.
        TypeError: What is not floating-point or integers where it must be.

    Source:
        An et al. 2022, Partial FC, arXiv:2203.15565.

    >>> features, kernel, labels = jnp.ones((2, 1)), jnp.zeros((1, 100)), jnp.array([70, 3])
    >>> print(partial_fc(features, kernel, labels, jax.random.key(0), num_sampled=10))  # log 10
    2.3025851
    """
    head = arguments.as_head(features, kernel, bias)
    counted = arguments.as_weights(weights, head.batch)
    keep = arguments.kept_rows(labels, head.batch, None, None, counted)
    labels = arguments.as_class_numbers(labels, head.batch, head.kernel.shape[1], keep, LEFT_OUT)
    found = sample_classes(key, labels, head.kernel.shape[1], num_sampled, parallel=parallel)
    kernel = columns(parallel, head.kernel, found.classes)
    bias = None if head.bias is None else columns(parallel, head.bias[None], found.classes)[0]
    features = jnp.asarray(features)
    if cosines:
        features, kernel = unit_vectors(features), unit_vectors(kernel, axis=0)
    return linear_loss(
        loss,
        features,
        kernel,
        found.labels.reshape(head.batch),
        bias=bias,
        weights=weights,
        reduction=reduction,
        chunk_size=chunk_size,
        parallel=parallel,
    )


def sampled_softmax(
    features: Float[ArrayLike, "*batch features"],
    kernel: Float[ArrayLike, "features classes"],
    labels: Integer[ArrayLike, "*batch"],
    key: PRNGKeyArray,
    *,
    num_sampled: int,
    bias: Float[ArrayLike, "classes"] | None = None,
    weights: Num[ArrayLike, "*batch"] | Bool[ArrayLike, "*batch"] | None = None,
    reduction: str = "mean",
    chunk_size: int | None = None,
    parallel: ClassParallel | None = None,
) -> Float[Array, "..."]:
    """Softmax cross-entropy whose denominator is estimated from log-uniform samples, in nats.

    −log [exp z_y / (exp z_y + Σ_s exp(z_s − log(S·Q(s))))], over the samples s ≠ y of S drawn, with
    replacement, with probability Q(s) ∝ log((s + 2) / (s + 1)): classes must be numbered from the most frequent
    down. The sum is an unbiased estimate of that over all j ≠ y of exp z_j; loss and gradient tend to those of
    the full softmax as S grows. (The label is always there, and so not corrected. TensorFlow's corrects it too,
    and tends to something else.)

    Args:
        features: One vector per example.
        kernel: One column per class.
        labels: The true class of each example.
        key: A random key, a new one each step.
        num_sampled: Samples S, shared by all examples.
        bias: One number per class.
        weights: A number, or a mask, for each example, not negative: the mean is Σ w ℓ / Σ w. What has weight
            0 contributes nothing, even if it is not finite or its label no class.
        reduction: "mean", "sum", or "none" for one loss per example.
        chunk_size: Examples whose logits exist at one time. None: as many as make 30 MiB of logits, no fewer
            than 240, and no more than make 512 MiB (256 MiB, 2048 and 1 GiB on accelerators).
        parallel: The axes of a mesh over which classes and examples are spread; each device draws as many as
            the others, among its own classes. None: no mesh.

    Returns:
        The mean, the sum, or the losses [*batch].

    Raises:
        ValueError: Shapes or numbers that do not fit, or labels that name no class.
        TypeError: What is not floating-point or integers where it must be.

    Source:
        Bengio and Senécal 2008, Adaptive Importance Sampling, doi:10.1109/TNN.2007.912312; Jean et al. 2015,
        arXiv:1412.2007, section 3.

    >>> features, kernel, labels = jnp.ones((1, 1)), jnp.zeros((1, 100)), jnp.array([70])
    >>> mean = sampled_softmax(features, kernel, labels, jax.random.key(0), num_sampled=100_000)
    >>> print(mean.round(1))  # log 100
    4.6
    """
    head = arguments.as_head(features, kernel, bias)
    num_classes = head.kernel.shape[1]
    weights = arguments.as_weights(weights, head.batch)
    keep = arguments.kept_rows(labels, head.batch, None, None, weights)
    labels = arguments.as_class_numbers(labels, head.batch, num_classes, keep, LEFT_OUT)
    num_sampled = as_sample(num_sampled, 1, None, parallel)
    classes, correction = _propose(parallel, num_classes, num_sampled, key)
    of_label = columns(parallel, head.kernel, labels, of_everybody=True)
    dtype = computed_dtype(head.features, head.kernel)
    label_logit = (head.features.astype(dtype) * of_label.T.astype(dtype)).sum(-1)
    if head.bias is not None:
        label_logit += columns(parallel, head.bias[None], labels, of_everybody=True)[0].astype(dtype)
        correction += columns(parallel, head.bias[None], classes)[0].astype(dtype)
    sampled = Head(head.features, columns(parallel, head.kernel, classes), None, head.batch)
    return reduced(
        _estimated_loss,
        sampled,
        weights,
        (labels, label_logit),
        (classes, correction),
        arguments.as_reduction(reduction),
        arguments.as_chunk(chunk_size),
        parallel,
    )


def _estimated_loss(z: Array, labels: Array, label_logit: Array, classes: Array, correction: Array) -> Array:
    """log(1 + Σ_s exp(z_s + correction_s − z_y)), which keeps its accuracy where it is tiny."""
    z = z + correction[None] - label_logit[:, None]
    z = jnp.where(classes[None] == labels[:, None], -jnp.inf, z)
    shift = jax.lax.stop_gradient(jnp.maximum(z.max(-1), 0))
    return shift + jnp.log1p(jnp.expm1(-shift) + jnp.exp(z - shift[:, None]).sum(-1))


def as_sample(
    num_sampled: Any, num_labels: int, num_classes: int | None, parallel: ClassParallel | None
) -> int:
    """A number of classes that holds all labels, and that the devices share evenly; `num_classes`: at most."""
    sample = operator.index(num_sampled)
    _, over = _devices(parallel)
    if sample % over:
        raise ValueError(f"num_sampled is {sample}, but {over} devices share it: use a multiple of {over}")
    if num_classes is not None and sample > num_classes:
        raise ValueError(f"num_sampled is {sample}, but there are {num_classes} classes")
    least = over * (num_labels if num_classes is None else min(num_labels, num_classes // over))
    if sample < least:
        raise ValueError(
            f"num_sampled is {sample}, but must be at or above {least}: {num_labels} labels may all differ"
            + (f", and all be of the classes of one of {over} devices" if over > 1 else "")
        )
    return sample


# Each device along the class axis does these for its own classes.


def _own_classes(axes: tuple[str, ...], num_classes: int, over: int) -> tuple[Any, int]:
    """The first class of this device, and how many it has."""
    return _index(axes) * (num_classes // over), num_classes // over


def _index(axes: tuple[str, ...]) -> Any:
    return jax.lax.axis_index(axes) if axes else 0


def _total(axes: tuple[str, ...], x: Array) -> Array:
    return jax.lax.psum(x, axes) if axes else x


def _devices(parallel: ClassParallel | None) -> tuple[tuple[str, ...], int]:
    """The axis that classes are spread over, if they are, and over how many devices."""
    return ((), 1) if parallel is None else (parallel.class_axes, parallel.mesh.shape[parallel.classes])


@partial(jax.jit, static_argnums=(0, 1, 2))
def _sample(
    parallel: ClassParallel | None, num_classes: int, num_sampled: int, key: PRNGKeyArray, labels: Array
) -> tuple[Array, Array]:
    def of_device(key: PRNGKeyArray, labels: Array) -> tuple[Array, Array]:
        first, count = _own_classes(axes, num_classes, over)
        sample = num_sampled // over
        own = labels - first
        # the half of the numbers above those drawn is for labels
        rank = jax.random.bits(jax.random.fold_in(key, _index(axes)), (count,)) >> 1
        rank = rank.at[jnp.where(own < 0, count, own)].set(jnp.uint32(2**32 - 1), mode="drop")
        classes = jnp.sort(jax.lax.top_k(rank, sample)[1])
        place = jnp.minimum(jnp.searchsorted(classes, own), sample - 1)
        is_here = classes[place] == own
        start = _index(axes) * sample
        place = _total(axes, jnp.where(is_here, start + place + 1, 0)) - 1  # −1: no class
        return first + classes, place

    axes, over = _devices(parallel)
    spec = P(*spec_of(labels))
    classes, place = manual(parallel, axes, of_device, (P(), P()), (P(axes), P()))(key, replicated(labels))
    return classes, jax.sharding.reshard(place, spec) if any(spec) else place


@partial(jax.jit, static_argnums=(0, 1, 2))
def _propose(
    parallel: ClassParallel | None, num_classes: int, num_sampled: int, key: PRNGKeyArray
) -> tuple[Array, Array]:
    """Classes drawn log-uniformly, and −log of how often each is expected."""

    def of_device(key: PRNGKeyArray) -> tuple[Array, Array]:
        first, count = _own_classes(axes, num_classes, over)
        low = jnp.log1p(jnp.float32(first))
        span = jnp.log1p(jnp.float32(first + count)) - low
        sample = num_sampled // over
        drawn = jnp.exp(low + span * jax.random.uniform(jax.random.fold_in(key, _index(axes)), (sample,)))
        classes = jnp.clip(drawn.astype(int) - 1, first, first + count - 1)
        return classes, -jnp.log(sample * jnp.log1p(1 / (classes + 1)) / span)

    axes, over = _devices(parallel)
    return manual(parallel, axes, of_device, P(), (P(axes), P(axes)))(key)


def replicated(array: Array) -> Array:
    """An array that is spread over explicit axes, on each of their devices."""
    return jax.sharding.reshard(array, P()) if any(spec_of(array)) else array


@partial(jax.jit, static_argnums=0, static_argnames="of_everybody")
def columns(
    parallel: ClassParallel | None, kernel: Array, classes: Array, *, of_everybody: bool = False
) -> Array:
    """kernel[:, classes], NaN where it names no class.

    With `parallel` each device has an equal share of `classes`, all its own; or, `of_everybody`, each device
    asks for the same classes, on whichever device they lie.
    """

    def of_device(kernel: Array, classes: Array) -> Array:
        first, count = _own_classes(axes, num_classes, over)
        own = classes - first
        own = jnp.where(own < 0, count, own)  # a negative index would count from the end
        if not (axes and of_everybody):
            out = P(None, *spec_of(own)) if any(spec_of(own)) else None
            return replicated(kernel).at[:, own].get(mode="fill", fill_value=jnp.nan, out_sharding=out)
        found = _total(axes, kernel.at[:, own].get(mode="fill", fill_value=0))
        is_class = (classes >= 0) & (classes < num_classes)
        return jnp.where(is_class[None], found, jnp.nan)

    num_classes = kernel.shape[1]
    axes, over = _devices(parallel)
    of_classes, of_columns = (P(), P()) if of_everybody else (P(axes), P(None, axes))
    return manual(parallel, axes, of_device, (P(None, axes), of_classes), of_columns)(kernel, classes)
