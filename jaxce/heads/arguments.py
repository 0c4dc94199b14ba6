"""What the heads check before they compute: features, kernel, labels, masks and weights as flat rows."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxce.losses import checks
from jaxce.losses.numerics import computed_dtype
from jaxce.losses.softmax import OPTIONS

REDUCTIONS = ("mean", "sum", "none")


class Head(NamedTuple):
    """A linear head on flat rows.

    Attributes:
        features: [N, D].
        kernel: [D, C].
        bias: [C] or None.
        batch: The shape that the N rows had.
    """

    features: Array
    kernel: Array
    bias: Array | None
    batch: tuple[int, ...]


def as_head(features: Any, kernel: Any, bias: Any) -> Head:
    """The head, checked.

    Raises:
        ValueError: Shapes that do not fit.
        TypeError: What is not floating-point.
    """
    features = checks.as_floating("features", features)
    kernel = checks.as_kernel(features, kernel)
    if kernel.shape[1] == 0:
        raise ValueError(f"kernel has shape {kernel.shape}, but there must be a class")
    if bias is not None:
        bias = checks.as_floating("bias", bias)
        if bias.shape != kernel.shape[1:]:
            raise ValueError(
                f"bias has shape {bias.shape} but kernel {kernel.shape}: bias must have one number per class, "
                f"{kernel.shape[1:]}"
            )
    batch = features.shape[:-1]
    return Head(features.reshape(math.prod(batch), features.shape[-1]), kernel, bias, batch)


def as_softmax_labels(
    labels: Any, batch: tuple[int, ...], num_classes: int, keep: Array | None, hint: str
) -> Array:
    """Class numbers [N], those not kept set to 0, or distributions [N, C]."""
    dtype = jnp.asarray(labels).dtype
    if jnp.issubdtype(dtype, jnp.floating):
        labels = checks.as_array(labels)
        checks.check_same_shape("labels", labels, "the logits would have", (*batch, num_classes))
        return labels.reshape(-1, num_classes)
    return as_class_numbers(labels, batch, num_classes, keep, hint)


def kept_rows(
    labels: Any, batch: tuple[int, ...], rows: Array | None, ignore_index: Any, weights: Array | None = None
) -> Array | None:
    """Which rows count [N]: by a mask, a label that is ignored, and weights; None for all.

    Raises:
        ValueError: An ignore_index beside labels that are no class numbers, or that is not one integer.
    """
    parts = [part for part in (rows, None if weights is None else weights != 0) if part is not None]
    if ignore_index is not None:
        labels = checks.as_array(labels)
        if labels.shape != batch or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(
                f"ignore_index is {ignore_index}, but labels has shape {labels.shape} and dtype "
                f"{labels.dtype}: it is for integers of shape {batch}"
            )
        checks.check_ignore_index(ignore_index, labels.dtype)
        parts.append(checks.differ(labels, ignore_index).reshape(-1))
    return functools.reduce(operator.and_, parts) if parts else None


def as_class_numbers(
    labels: Any, batch: tuple[int, ...], num_classes: int, keep: Array | None, hint: str
) -> Array:
    """Class numbers [N], those not kept set to 0; `hint` says how the caller leaves examples out.

    Raises:
        ValueError: A shape that is not that of the batch, or a label kept that names no class.
        TypeError: Labels that are not integers.
    """
    array: Any = checks.as_array(labels)
    if array.shape != batch and jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
            f"labels has shape {array.shape} but features has {batch} without their last axis: "
            f"{checks.fix('labels', array.shape, batch)}"
        )
    if keep is not None and jnp.issubdtype(array.dtype, jnp.integer):
        kept, values = checks.concrete(keep), checks.concrete(array)
        if kept is None or values is None:
            array = jnp.where(keep.reshape(batch), array, 0)
        else:  # so that inside jit too a label that counts can still be seen
            array = np.where(kept.reshape(batch), values, 0)
    return checks.as_integer_labels(array, num_classes, hint=hint).reshape(-1)


def split_where(
    where: Any, batch: tuple[int, ...], num_classes: int
) -> tuple[Array | None, Array | None, Array | None]:
    """A mask as (rows [N], classes of each row [N, C], classes of all rows [1, C]), one of them not None."""
    if where is None:
        return None, None, None
    mask = checks.as_mask(where)
    if mask.shape == batch:
        return mask.reshape(-1), None, None
    logits = (*batch, num_classes)
    if mask.ndim != len(logits) or any(a not in (1, b) for a, b in zip(mask.shape, logits, strict=True)):
        of_all = "; where[None] masks classes" if mask.shape == (num_classes,) and len(batch) == 1 else ""
        raise ValueError(
            f"where has shape {mask.shape}, but the logits would have {logits}: give {batch} to mask examples, "
            f"or {logits} to mask classes, of which any axis may have length 1 to repeat{of_all}"
        )
    if mask.shape[-1] == 1:
        return jnp.broadcast_to(mask[..., 0], batch).reshape(-1), None, None
    if all(length == 1 for length in mask.shape[:-1]):
        return None, None, mask.reshape(1, num_classes)
    return None, jnp.broadcast_to(mask, logits).reshape(-1, num_classes), None


def check_one_per_row(loss: Callable[[Array, Array], Array], head: Head, labels: Array) -> None:
    """ValueError unless `loss` gives one number for each of a few rows."""
    few = 3
    z = jax.ShapeDtypeStruct((few, head.kernel.shape[1]), computed_dtype(head.kernel))
    found = jax.eval_shape(loss, z, jax.ShapeDtypeStruct((few, *labels.shape[1:]), labels.dtype))
    if getattr(found, "shape", None) != (few,):
        advice = (
            "add .sum(-1) or .mean(-1)" if getattr(found, "ndim", 0) == 2 else "leave out .mean() or .sum()"
        )
        raise ValueError(
            f"loss gives {found} for logits of shape {z.shape}, but must give one number per row, ({few},): "
            f"{advice}"
        )


def as_weights(weights: Any, batch: tuple[int, ...]) -> Array | None:
    """One finite, non-negative weight per row, [N], or None."""
    if weights is None:
        return None
    weights = checks.as_weights("weights", weights, batch, "one weight per example")
    return weights.reshape(-1).astype(computed_dtype(weights))


def as_reduction(reduction: str) -> str:
    """One of REDUCTIONS."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, but must be one of {', '.join(map(repr, REDUCTIONS))}")
    return reduction


def as_chunk(chunk_size: Any) -> int | None:
    """A number of rows, known when tracing, or None."""
    if chunk_size is None:
        return None
    try:
        chunk = operator.index(chunk_size)
    except TypeError as error:
        raise TypeError(f"chunk_size is {chunk_size}, but must be a Python integer or None") from error
    if chunk < 1:
        raise ValueError(f"chunk_size is {chunk}, but must be at or above 1")
    return chunk


def softmax_options(num_classes: int, soft_cap: Any, **given: Any) -> dict[str, Any]:
    """The options of a softmax head that do something, by name: those of the softmax losses, and the cap."""
    checked = {name: check(name, given[name], num_classes) for name, check in OPTIONS.items()}
    options = {
        name: value
        for name, value in checked.items()
        if value is not None and not OPTIONS[name].is_fixed(value)
    }
    if "class_weights" in options:
        options["class_weights"] = options["class_weights"].astype(computed_dtype(options["class_weights"]))
    if soft_cap is not None:
        options["soft_cap"] = checks.Number(positive=True)("soft_cap", soft_cap)
    return options
