"""A loss evaluated: its value and gradient on rows, and the rule by which JAX differentiates the value."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from jaxce.losses.arguments import Layout
from jaxce.losses.numerics import computed_dtype

# (inputs, labels, options...) -> (value, d value / d inputs)
ValueAndGrad = Callable[..., tuple[Array, Array]]

Part = Literal["value", "grad", "both"]


@partial(jax.jit, static_argnums=(0, 1, 2))
def evaluate(
    body: ValueAndGrad,
    part: Part,
    layout: Layout,
    inputs: Array,
    kernel: Array | None,
    labels: Any,
    mask: Array | None,
    keep: Array | None,
    options: dict[str, Any],
) -> Any:
    """The value of `body` on rows, its gradient in the layout and dtype of the inputs, or both."""
    dtype = computed_dtype(inputs) if kernel is None else computed_dtype(inputs, kernel)
    rows, axes = inputs, layout.axes
    if kernel is not None:
        kernel = kernel.astype(dtype)
    of_classes = labels is not None and labels.ndim == inputs.ndim  # as many labels as inputs
    if mask is not None:
        rows = jnp.where(mask, rows, -jnp.inf)
        if of_classes:
            labels = jnp.where(mask, labels, -jnp.inf if layout.labels == "log_distribution" else 0)
    if axes is not None:
        rows = to_rows(rows, axes)
        labels = to_rows(labels, axes) if of_classes else labels
    rows = rows if layout.own_dtype else rows.astype(dtype)
    labels = labels.astype(dtype) if of_classes else labels
    options = {name: option.astype(dtype) for name, option in options.items()}
    if keep is not None:  # zeros are harmless wherever an example does not count, also to derivatives
        of_rows = keep if keep.ndim == inputs.ndim else keep[..., None]
        rows = jnp.where(of_rows, rows, 0)
        labels = jnp.where(of_rows if of_classes else keep, labels, 0)

    def evaluated(rows: Array, kernel: Array | None, labels: Array | None, options: dict[str, Any]) -> Any:
        arrays = [each for each in (rows, kernel, labels) if each is not None]
        return body(*arrays, **options, **dict(layout.fixed))

    if part == "value":
        # Of features, JAX's own derivative is as exact, and needs no Jacobian.
        function = closed_form(evaluated) if kernel is None else lambda *arrays: evaluated(*arrays)[0]
        value = function(rows, kernel, labels, options)
        return value if keep is None else jnp.where(keep, value, 0)
    value, grad = evaluated(rows, kernel, labels, options)
    if keep is not None:
        value, grad = jnp.where(keep, value, 0), jnp.where(of_rows, grad, 0)
    if axes is not None:
        grad = from_rows(grad, axes, inputs.shape)
    grad = grad.astype(inputs.dtype) if mask is None else jnp.where(mask, grad, 0).astype(inputs.dtype)
    return grad if part == "grad" else (value, grad)


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


def closed_form(value_and_grad: ValueAndGrad) -> Callable[..., Array]:
    """The value of `value_and_grad`, differentiated in its first argument by the gradient that it returns.

    Autodiff of a loss loses what its value keeps: of a label that is almost certain, the derivative comes
    out as (1 − tiny) − 1 = 0 where −tiny is exact. All other arguments (labels, masks, options) are
    differentiated as JAX differentiates the value. A custom JVP, and never a custom VJP, so that forward mode
    and Hessians work too.
    """

    @jax.custom_jvp
    def value(inputs: Array, *rest: Any) -> Array:
        # Without the barrier XLA's CPU backend fuses a user's .mean() into the row sums and repeats them.
        return jax.lax.optimization_barrier(value_and_grad(inputs, *rest)[0])

    def jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
        inputs, *rest = primals
        result = value(*primals)
        tangent = jnp.zeros_like(result)
        if not isinstance(tangents[0], SymbolicZero):
            terms = value_and_grad(inputs, *rest)[1] * tangents[0].astype(result.dtype)
            tangent += terms.sum(range(result.ndim, terms.ndim))

        leaves, structure = jax.tree.flatten(rest)
        directions = jax.tree.leaves(tangents[1:], is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        moving = [i for i, d in enumerate(directions) if not isinstance(d, SymbolicZero)]
        if moving:

            def of_moving(*values: Array) -> Array:
                now = list(leaves)
                for i, leaf in zip(moving, values, strict=True):
                    now[i] = leaf
                return value_and_grad(inputs, *jax.tree.unflatten(structure, now))[0]

            moved = tuple(leaves[i] for i in moving), tuple(directions[i] for i in moving)
            tangent += jax.jvp(of_moving, *moved)[1]
        return result, tangent

    value.defjvp(jvp, symbolic_zeros=True)
    return value
