"""Losses that are differentiated by their closed-form gradient, in every mode: jvp, vjp, Hessians, vmap."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

# (inputs, labels, ...) -> (value, d value / d inputs)
ValueAndGrad = Callable[..., tuple[jax.Array, jax.Array]]


def closed_form(value_and_grad: ValueAndGrad) -> Callable[..., jax.Array]:
    """The value of `value_and_grad`, differentiated in its first argument by the gradient that it returns.

    Autodiff of a loss loses what its value keeps: of a label that is almost certain, the derivative comes
    out as (1 − tiny) − 1 = 0 where −tiny is exact. All other arguments (labels, masks, options) are
    differentiated as JAX differentiates the value. A custom JVP, and never a custom VJP, so that forward mode
    and Hessians work too.
    """

    @jax.custom_jvp
    def loss(inputs: jax.Array, *rest: Any) -> jax.Array:
        # Without the barrier XLA's CPU backend fuses a user's .mean() into the row sums and repeats them.
        return jax.lax.optimization_barrier(value_and_grad(inputs, *rest)[0])

    def jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        inputs, *rest = primals
        value = loss(*primals)
        tangent = jnp.zeros_like(value)
        if not isinstance(tangents[0], SymbolicZero):
            terms = value_and_grad(inputs, *rest)[1] * tangents[0]
            tangent += terms.sum(range(value.ndim, terms.ndim))

        leaves, structure = jax.tree.flatten(rest)
        directions = jax.tree.leaves(tangents[1:], is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        moving = [i for i, d in enumerate(directions) if not isinstance(d, SymbolicZero)]
        if moving:

            def of_moving(*values: jax.Array) -> jax.Array:
                now = list(leaves)
                for i, leaf in zip(moving, values, strict=True):
                    now[i] = leaf
                return value_and_grad(inputs, *jax.tree.unflatten(structure, now))[0]

            moved = tuple(leaves[i] for i in moving), tuple(directions[i] for i in moving)
            tangent += jax.jvp(of_moving, *moved)[1]
        return value, tangent

    loss.defjvp(jvp, symbolic_zeros=True)
    return loss


@partial(jax.jit, static_argnums=0)
def component_loss(
    loss: Callable[..., jax.Array], inputs: jax.Array, labels: jax.Array, *rest: Any
) -> jax.Array:
    """A loss of single components, in float32 or better: one number per component."""
    dtype = jnp.promote_types(inputs.dtype, jnp.float32)
    return loss(inputs.astype(dtype), labels.astype(dtype), *rest)


@partial(jax.jit, static_argnums=0)
def component_loss_grad(
    loss_and_grad: ValueAndGrad, inputs: jax.Array, labels: jax.Array, *rest: Any
) -> jax.Array:
    """The gradient of `component_loss`, in the dtype of the inputs."""
    dtype = jnp.promote_types(inputs.dtype, jnp.float32)
    return loss_and_grad(inputs.astype(dtype), labels.astype(dtype), *rest)[1].astype(inputs.dtype)
