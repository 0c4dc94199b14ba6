"""Logits as rows, one per example with its classes last, and the exact parts of softmax on such rows."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxce.losses.closed_form import ValueAndGrad
from jaxce.losses.numerics import sum_except


def to_rows(array: Array, axes: tuple[int, ...]) -> Array:
    """`array` with `axes` moved to the end and made one."""
    batch = [a for a in range(array.ndim) if a not in axes]
    num_classes = math.prod(array.shape[a] for a in axes)  # not −1, which an empty batch cannot resolve
    return array.transpose(*batch, *axes).reshape(*(array.shape[a] for a in batch), num_classes)


def from_rows(rows: Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The inverse of `to_rows`: an array of `shape`."""
    order = [a for a in range(len(shape)) if a not in axes] + list(axes)
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return rows.reshape([shape[a] for a in order]).transpose(inverse)


class LabelSoftmax(NamedTuple):
    """Softmax of rows, as one label sees it. `nll` and `others` keep their relative accuracy when tiny."""

    probs: Float[Array, "*batch classes"]
    others: Float[Array, "*batch"]  # 1 − the label's probability
    nll: Float[Array, "*batch"]  # −log of the label's probability
    grad: Float[Array, "*batch classes"]  # of nll: probs − one-hot
    shift: Float[Array, "*batch"]  # the largest logit
    log_total: Float[Array, "*batch"]  # log-sum-exp − shift
    is_label: Bool[Array, "*batch classes"]
    left_out: Bool[Array, "*batch"]


def label_softmax(
    logits: Float[Array, "*batch classes"],
    labels: Integer[Array, "*batch"],
    keep: Bool[Array, "*batch"] | None,
) -> LabelSoftmax:
    """Softmax and −log p_label; where the label is the largest, log1p(Σ over the others of exp(z − max)).

    The textbook's lse − z_label cancels: of [1e4, 1e4 − 5] it keeps two digits, of [0, −20] none.
    A row of −inf alone, or one not kept, has loss and gradient 0; a label outside the classes makes both NaN.
    """
    num_classes = logits.shape[-1]
    largest = jax.lax.stop_gradient(logits.max(-1))
    left_out = largest == -jnp.inf
    if keep is not None:
        left_out |= ~keep
    shift = jnp.where(largest == -jnp.inf, 0, largest)
    exps = jnp.exp(logits - shift[..., None])
    # take_along_axis counts negative indices from the end, and a label −1 is no last class
    at_label = jnp.where(labels < 0, num_classes, labels)
    label_logit = jnp.take_along_axis(logits, at_label[..., None], -1, mode="fill", fill_value=jnp.nan)[..., 0]
    rest = sum_except(exps, labels)
    label_exp = jnp.exp(label_logit - shift)
    total = jnp.where(left_out, 1, rest + label_exp)
    # label_exp − 1 is 0 where it counts, but its derivative is not: without it Hessians are wrong
    above_one = jnp.where(left_out, 0, rest + (label_exp - 1))
    log_total = jnp.where(label_logit == largest, jnp.log1p(above_one), jnp.log(total))
    nll = jnp.where(left_out, 0, (shift - label_logit) + log_total)
    probs = exps / total[..., None]
    is_label = jax.nn.one_hot(labels, num_classes, dtype=bool)
    grad = jnp.where(is_label, -(rest / total)[..., None], probs)
    return LabelSoftmax(
        probs=probs,
        others=rest / total,
        nll=nll,
        grad=grad,
        shift=shift,
        log_total=jnp.where(left_out, 0, log_total),
        is_label=is_label,
        left_out=left_out,
    )


class Softmax(NamedTuple):
    """Softmax of rows. `others` and `nll` keep their relative accuracy when tiny."""

    probs: Float[Array, "*batch classes"]
    others: Float[Array, "*batch classes"]  # 1 − probs
    nll: Float[Array, "*batch classes"]  # −log probs
    lse: Float[Array, "*batch"]
    left_out: Bool[Array, "*batch"]


def softmax(logits: Float[Array, "*batch classes"], keep: Bool[Array, "*batch"] | None) -> Softmax:
    """`label_softmax` for all classes at once: the largest logit takes the label's place."""
    top = label_softmax(logits, logits.argmax(-1), keep)
    left_out = top.left_out
    nll = (top.shift[..., None] - logits) + top.log_total[..., None]
    return Softmax(
        probs=top.probs,
        others=jnp.where(top.is_label, top.others[..., None], 1 - top.probs),
        nll=jnp.where(left_out[..., None], 0, nll),
        lse=jnp.where(left_out, 0, top.shift + top.log_total),
        left_out=left_out,
    )


@partial(jax.jit, static_argnums=(0, 1))
def row_loss(
    loss: Callable[..., Array],
    axes: tuple[int, ...],
    logits: Array,
    classes: Array | None,
    labels: Array,
    *rest: Any,
) -> Float[Array, "*batch"]:
    """A loss of rows on logits of any layout: classes along `axes`, those not in the mask `classes` at −inf."""
    return loss(*_as_rows(axes, logits, classes, labels), *rest)


@partial(jax.jit, static_argnums=(0, 1))
def row_loss_grad(
    loss_and_grad: ValueAndGrad,
    axes: tuple[int, ...],
    logits: Array,
    classes: Array | None,
    labels: Array,
    *rest: Any,
) -> Array:
    """The gradient of `row_loss`, in the layout and dtype of the logits."""
    grad = loss_and_grad(*_as_rows(axes, logits, classes, labels), *rest)[1]
    grad = from_rows(grad, axes, logits.shape).astype(logits.dtype)
    return grad if classes is None else jnp.where(classes, grad, 0)


def _as_rows(axes: tuple[int, ...], logits: Array, classes: Array | None, labels: Array) -> tuple[Array, Array]:
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    if classes is not None:
        logits = jnp.where(classes, logits, -jnp.inf)
    if labels.ndim == logits.ndim:  # distributions
        labels = to_rows(labels, axes).astype(dtype)
    return to_rows(logits, axes).astype(dtype), labels
