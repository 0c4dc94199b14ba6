"""What every loss checks before it computes: dtypes, shapes and ranges, each with a sentence for the caller."""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxce.losses.numerics import computed_dtype


def concrete(value: Any) -> np.ndarray | None:
    """The numbers of `value`, or None inside a trace (jit, vmap, grad), where there are none to look at."""
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def as_array(value: Any) -> Array:
    """`value` as a JAX array; what is one already is passed on, which costs a tenth of jnp.asarray."""
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


def as_floating(name: str, value: Any) -> Array:
    """`value` as a JAX array; TypeError unless it holds floating-point numbers."""
    array = as_array(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating-point, but has dtype {array.dtype}: use {name}.astype(float)")
    return array


def as_real(name: str, value: Any) -> Array:
    """`value` as a JAX array; TypeError unless it holds floating-point numbers, integers or booleans."""
    array = as_array(value)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be real, but has dtype {array.dtype}")
    return array


def as_integer_labels(
    labels: Any, num_classes: int, ignore_index: Any = None, keep: Any = None, *, hint: str = ""
) -> Array:
    """`labels` as wide integers; ValueError for one that names no class, where its value can be seen.

    Labels of examples not in `keep` may be anything; `hint` says how the caller leaves examples out.
    """
    dtype = labels.dtype if isinstance(labels, jax.Array) else np.asarray(labels).dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(
            f"labels must be integers, but has dtype {dtype}: use labels.argmax(-1) if they are one-hot, "
            "labels.astype(int) if they are class numbers"
        )
    ignored = None if ignore_index is None else concrete(ignore_index)
    if ignore_index is not None:
        check_ignore_index(ignore_index, dtype)
    values, kept = concrete(labels), None if keep is None else concrete(keep)
    sees_all = keep is None or kept is not None
    if sees_all and values is not None and values.size and (values.min() < 0 or values.max() >= num_classes):
        wrong = (values < 0) | (values >= num_classes)
        if kept is not None and kept.shape == values.shape:
            wrong &= kept
        if ignore_index is not None:
            if ignored is None:  # traced: which labels it leaves out shows only when the program runs
                return as_wide(labels)
            wrong &= values != ignored
            hint = f"only ignore_index = {ignored} may lie outside"
        if wrong.any():
            raise ValueError(
                f"labels holds {values[wrong][0]}, but there are {num_classes} classes: "
                f"labels must lie in [0, {num_classes}){hint and '; '}{hint}"
            )
    return as_wide(labels)


def check_ignore_index(ignore_index: Any, dtype: Any) -> None:
    """ValueError unless it is one integer that labels of this dtype can be, where its value can be seen."""
    ignored = concrete(ignore_index)
    if ignored is None:
        return
    if ignored.ndim != 0 or not jnp.issubdtype(ignored.dtype, jnp.integer):
        raise ValueError(
            f"ignore_index is {ignore_index!r}, but must be one integer: for several, use "
            "where=~jnp.isin(labels, jnp.array([...]))"
        )
    if not jnp.iinfo(dtype).min <= ignored <= jnp.iinfo(dtype).max:
        raise ValueError(
            f"ignore_index is {ignored}, but labels has dtype {dtype}, whose numbers lie in "
            f"[{jnp.iinfo(dtype).min}, {jnp.iinfo(dtype).max}]: none of them can be ignored by it"
        )


def differ(labels: Any, ignore_index: Any) -> Array:
    """Where labels are not this one, in their own dtype."""
    array, ignored = as_array(labels), concrete(ignore_index)
    return array != (ignore_index if ignored is None else ignored.astype(array.dtype))


def as_wide(labels: Any) -> Array:
    """Integers as a JAX array with a sign, of 32 bits or more: class numbers are compared with the classes'.

    A number too large for it turns negative, and is no class either.
    """
    array = as_array(labels)
    return array.astype(jnp.int64 if array.dtype.itemsize == 8 else jnp.int32)


class Option(ABC):
    """How one option of a loss is checked; calling it gives the value to compute with.

    Attributes:
        neutral: The number with which the option does nothing. It stays a plain number, so that what it would
            do is left out of the program.
        static: Whether the option must be a Python number, known when tracing.
    """

    neutral: float | None = None
    static: bool = False

    @abstractmethod
    def __call__(self, name: str, value: Any, num_classes: int) -> Any:
        """The checked value; ValueError or TypeError with a sentence otherwise."""

    def is_fixed(self, value: Any) -> bool:
        """Whether a checked value shapes the program rather than entering it."""
        return self.static or (isinstance(value, float) and value == self.neutral)


def does_something(option: Any) -> bool:
    """Whether an option has to be computed with: a neutral one reaches a loss as a plain number, or as None."""
    return isinstance(option, jax.Array)


@dataclass(frozen=True)
class Number(Option):
    """One number in [low, high]; with `positive`, above 0 and finite."""

    low: float = 0.0
    high: float = math.inf
    neutral: float | None = None
    positive: bool = False

    def __call__(self, name: str, value: Any, num_classes: int = 0) -> Any:
        """The number; a neutral one as a Python float."""
        if np.shape(value) != () or value is None:
            what = "is None" if value is None else f"has shape {np.shape(value)}"
            raise ValueError(f"{name} must be one number, but {what}")
        number = concrete(value)
        if number is None:
            return value
        if self.positive:
            if not 0 < number < math.inf:  # NaN fails too
                raise ValueError(f"{name} is {number}, but must be positive and finite")
        elif not self.low <= number <= self.high:
            limit = f"in [{self.low:g}, {self.high:g}]" if self.high < math.inf else f"at or above {self.low:g}"
            raise ValueError(f"{name} is {number}, but must lie {limit}")
        return float(number) if number == self.neutral else value


@dataclass(frozen=True)
class PerClass(Option):
    """One finite weight per class, of either sign, or up to `high` from 0; with `or_number`, or one for all."""

    or_number: bool = False
    high: float | None = None

    def __call__(self, name: str, value: Any, num_classes: int) -> Any:
        """The weights as an array; None stays None."""
        if value is None:
            return None
        shape = () if self.or_number and np.ndim(value) == 0 else (num_classes,)
        meaning = f"{'one number, or ' * self.or_number}one weight per class"
        weights = as_weights(name, value, shape, meaning, any_sign=True)
        if self.high is not None:
            check_range(name, weights, 0.0, self.high, f"it must lie in [0, {self.high:g}]")
        return weights


@dataclass(frozen=True)
class Degree(Option):
    """A Python integer of 1 or more: the degree of a polynomial."""

    static = True

    def __call__(self, name: str, value: Any, num_classes: int = 0) -> int:
        """The integer."""
        try:
            degree = operator.index(value)
        except TypeError as error:
            raise TypeError(
                f"{name} is {value}, but must be a Python integer, the degree of a polynomial: inside jit make "
                "it static (static_argnames)"
            ) from error
        if degree < 1:
            raise ValueError(f"{name} is {degree}, but must be at or above 1")
        return degree


def as_weights(
    name: str, weights: Any, shape: tuple[int, ...], meaning: str, *, any_sign: bool = False
) -> Array:
    """Finite weights of just this shape, not negative unless they may have `any_sign`."""
    array = as_real(name, weights)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, but must have {shape}: {meaning}")
    numbers = concrete(array)
    if numbers is not None and not (np.isfinite(numbers).all() and (any_sign or (numbers >= 0).all())):
        wanted = "finite" if any_sign else "finite and not negative"
        raise ValueError(f"{name} must be {wanted}, but holds {numbers.min()} to {numbers.max()}")
    return array


def check_range(name: str, array: Array, low: float, high: float, advice: str) -> None:
    """ValueError where the numbers can be seen and leave [low, high]; NaN is left to show in the result."""
    numbers = concrete(array)
    if numbers is not None and numbers.size and (numbers.min() < low or numbers.max() > high):
        raise ValueError(f"{name} ranges from {numbers.min()} to {numbers.max()}: {advice}")


def check_same_shape(name: str, array: Array, other: str, shape: Sequence[int]) -> None:
    """ValueError unless `array` has just this shape, that of `other`: nothing broadcasts by accident."""
    if array.shape != tuple(shape):
        raise ValueError(
            f"{name} has shape {array.shape} but {other} {tuple(shape)}: {fix(name, array.shape, shape)}"
        )


def as_component_labels(
    name: str, labels: Any, other: str, inputs: Array, kind: str, keep: Array | None
) -> Array:
    """Labels of single components, of the inputs' shape: `real`, `binary`, or 0 and 1 beside `integer`.

    Those not in `keep` may be anything.
    """
    if labels is None:
        return jnp.zeros_like(inputs)
    labels = as_real(name, labels)
    check_same_shape(name, labels, other, inputs.shape)
    values, kept = concrete(labels), None if keep is None else concrete(keep)
    if kept is not None and values is not None:
        values = values[kept]
    if (
        (values is None or (keep is not None and kept is None)) and kind == "binary" and labels.dtype != bool
    ):  # inside jit a mistake shows as NaN
        labels = labels if jnp.issubdtype(labels.dtype, jnp.floating) else labels.astype(computed_dtype(inputs))
        return jnp.where((labels >= 0) & (labels <= 1), labels, jnp.nan)
    if kind == "real" or values is None or not values.size:
        return labels
    if kind == "integer" and not ((values == 0) | (values == 1)).all():
        raise ValueError(
            f"{name} of the {other}' own shape must be 0 or 1: use {name} > 0.5 for probabilities, or "
            f"{name} of shape {inputs.shape[:-1]} for class numbers"
        )
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"{name} ranges from {values.min()} to {values.max()}, but must lie in [0, 1]: "
            + advice_for(name, values)
        )
    return labels


def advice_for(name: str, values: np.ndarray) -> str:
    """What to do with labels outside [0, 1]."""
    if np.isin(values, (-1, 1)).all():
        return f"use ({name} + 1) / 2 if they are −1 and 1"
    if np.isin(values, (-1, 0, 1)).all():
        return f"use where={name} >= 0 if −1 is unknown"
    if (values == np.round(values)).all():
        return "for class numbers, take softmax_cross_entropy_with_integer_labels"
    return f"{name} are probabilities, or 0 and 1"


def as_distributions(name: str, labels: Any, other: str, inputs: Array, kind: str) -> Array:
    """Distributions over the classes, or their logarithms, of the inputs' shape."""
    labels = as_floating(name, labels) if kind == "log_distribution" else as_real(name, labels)
    check_same_shape(name, labels, other, inputs.shape)
    if name == "targets":
        advice = "targets must not be negative; of log-probabilities, use kl_divergence_with_log_targets"
        check_range("targets", labels, 0.0, math.inf, advice)
    return labels


def check_probabilities(name: str, probs: Array) -> None:
    """ValueError where the numbers can be seen and are no probabilities."""
    advice = "probabilities lie in [0, 1]; of logits, take jax.nn.softmax first"
    check_range(name, probs, 0.0, 1 + 1e-3, advice)  # a sum that rounds may pass 1


def as_kernel(features: Array, kernel: Any) -> Array:
    """The kernel [features, classes] of a linear layer on `features` [*batch, features]."""
    kernel = as_floating("kernel", kernel)
    if features.ndim < 1 or kernel.ndim != 2 or features.shape[-1] != kernel.shape[0]:
        hint = ": use kernel.T" if kernel.ndim == 2 and features.shape[-1:] == kernel.shape[-1:] else ""
        raise ValueError(
            f"features has shape {features.shape} but kernel {kernel.shape}: the last axis of features must be "
            f"as long as the first of kernel's two{hint}"
        )
    return kernel


def check_integer_labels_shape(
    labels: Array, logits: Array, axes: tuple[int, ...], name: str = "logits"
) -> None:
    """ValueError unless integer labels have the shape of the logits without their class axes."""
    wanted = tuple(n for a, n in enumerate(logits.shape) if a not in axes)
    if labels.shape != wanted:
        if labels.shape == logits.shape:
            advice = "use labels.argmax(-1), or the loss that takes distributions"
        else:
            advice = fix("labels", labels.shape, wanted)
        raise ValueError(
            f"labels has shape {labels.shape} but {name} {logits.shape} with classes along axis "
            f"{axes if len(axes) > 1 else axes[0]}, which takes labels of shape {wanted}: {advice}"
        )


def fix(name: str, shape: Sequence[int], wanted: Sequence[int]) -> str:
    """The likely way from one shape to the other, as advice."""
    shape, wanted = tuple(shape), tuple(wanted)
    if math.prod(shape) == math.prod(wanted):
        return f"use {name}.reshape{wanted}"
    if len(shape) <= len(wanted) and all(a in (1, b) for a, b in zip(shape[::-1], wanted[::-1], strict=False)):
        return f"if you mean to repeat it, use jnp.broadcast_to({name}, {wanted})"
    return f"{name} must have shape {wanted}"


def split_where(
    where: Any, logits: Array, axes: tuple[int, ...], name: str = "logits"
) -> tuple[Array | None, Array | None]:
    """A mask as (examples [*batch] or None, classes [logits' shape] or None), by its shape."""
    mask = as_mask(where)
    batch = tuple(n for a, n in enumerate(logits.shape) if a not in axes)
    if mask.shape == batch:
        return mask, None
    if mask.ndim != logits.ndim or any(a not in (1, b) for a, b in zip(mask.shape, logits.shape, strict=True)):
        raise ValueError(
            f"where has shape {mask.shape} but {name} {logits.shape}: give {batch} to mask examples or "
            f"{logits.shape} to mask classes, of which either may have length 1 to repeat"
        )
    if all(mask.shape[a] == 1 for a in axes):
        return jnp.broadcast_to(mask.squeeze(axes), batch), None
    return None, jnp.broadcast_to(mask, logits.shape)


def as_mask(where: Any) -> Array:
    """`where` as a JAX array; TypeError unless it is boolean."""
    mask = as_array(where)
    if mask.dtype != bool:
        raise TypeError(f"where must be boolean, but has dtype {mask.dtype}: compare it, as in where > 0")
    return mask


def split_components(where: Any, inputs: Array, name: str) -> Array:
    """A mask of components, of the inputs' shape, of which any axis may have length 1 to repeat."""
    mask = as_mask(where)
    if mask.ndim != inputs.ndim or any(a not in (1, b) for a, b in zip(mask.shape, inputs.shape, strict=True)):
        raise ValueError(
            f"where has shape {mask.shape} but {name} {inputs.shape}: give {inputs.shape} to mask components; "
            "any axis may have length 1 to repeat"
        )
    return jnp.broadcast_to(mask, inputs.shape)


def normalize_axes(axis: int | Sequence[int], ndim: int, name: str = "logits") -> tuple[int, ...]:
    """`axis` as a tuple of different axes in [0, ndim)."""
    axes: Any = (axis,) if np.ndim(axis) == 0 else axis
    axes = tuple(operator.index(a) for a in axes)
    if not axes or any(not -ndim <= a < ndim for a in axes) or len({a % ndim for a in axes}) < len(axes):
        raise ValueError(
            f"axis is {axis}, but {name} has {ndim} axes: give different ones in [{-ndim}, {ndim})"
        )
    return tuple(a % ndim for a in axes)
