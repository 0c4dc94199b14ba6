"""Sums, powers and masks that keep their accuracy, and their derivatives, where plain ones lose them."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer


def sum_except(x: Float[Array, "*batch classes"], index: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The sum of each row without its entry at `index`, without subtracting: exact where the rest is tiny."""
    num_classes = x.shape[-1]
    if num_classes > 2**24:  # float32 cannot count so far
        return jnp.where(jax.nn.one_hot(index, num_classes, dtype=bool), 0, x).sum(-1)
    # |column − index| capped at 1 is 0 at the index and 1 elsewhere. A comparison would say so more plainly,
    # but XLA's CPU backend does not vectorise it inside a sum: six times slower at 32,768 classes.
    columns = jax.lax.broadcasted_iota(jnp.float32, x.shape, x.ndim - 1)
    distance = jnp.abs(columns - jax.lax.optimization_barrier(index.astype(jnp.float32))[..., None])
    return (x * jnp.minimum(distance, 1).astype(x.dtype)).sum(-1)


def sums_of_others(x: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """Σ_{k≠j} x_k for every j, for non-negative x: without cancellation at the entry that dominates its row."""
    top = x.argmax(-1)
    rest = sum_except(x, top)[..., None]
    largest = jnp.take_along_axis(x, top[..., None], -1)
    return jnp.where(jax.nn.one_hot(top, x.shape[-1], dtype=bool), rest, rest + (largest - x))


def power(base: Array, exponent: Any) -> Array:
    """base^exponent for base ≥ 0, with finite derivatives at base 0."""
    positive = base > 0
    return jnp.where(positive, jnp.where(positive, base, 1) ** exponent, jnp.where(exponent == 0, 1.0, 0.0))
