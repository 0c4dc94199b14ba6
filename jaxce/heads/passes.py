"""Rows of logits, features @ kernel + bias, formed and used up a chunk at a time: never all of them at once."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec
from jaxtyping import Array

from jaxce.losses.numerics import computed_dtype, spec_of

# (logits [n, C], what each row has of its own [n, ...], what all share) -> one result, or several, per row
OfRows = Callable[..., Any]

BLOCK_BYTES = 2**23


def rows_per_chunk(num_rows: int, num_classes: int) -> int:
    """How many rows to take at a time; see linear_softmax_cross_entropy for the rule and its reason."""
    on_cpu = jax.default_backend() == "cpu"
    few, small, large = (240, 30 * 2**20, 2**29) if on_cpu else (2048, 2**28, 2**30)
    row = 4 * max(num_classes, 1)
    return max(1, min(num_rows, max(small // row, min(few, large // row))))


@partial(jax.jit, static_argnums=(0, 1, 2))
def weighted_sum(
    loss: OfRows,
    chunk: int,
    whole_rows: bool,
    features: Array,
    kernel: Array,
    bias: Array | None,
    weights: Array,
    rows: tuple[Array | None, ...],
    shared: tuple[Any, ...],
) -> Array:
    """Σ_i w_i · loss(features_i @ kernel + bias, rows_i, shared), in float32 or better.

    Its derivative forms, in the same pass and from the same logits, the gradients of whatever is
    differentiated, and returns their product with the tangents. That is linear in the tangents, so reverse
    mode needs no pass of its own: three products of the size of the logits give value and gradients. As the
    pass is made of ordinary operations, it is differentiated again like any other. `whole_rows`: whether one
    device has all classes.
    """
    dtype = computed_dtype(features, kernel)
    if not weights.size:
        return jnp.zeros((), dtype)
    passes = Chunks(len(weights), chunk, whole_rows)
    features, kernel, bias, weights, rows, shared = varying_alike(
        (features, kernel, bias, weights, rows, shared)
    )
    loss, hoisted = with_explicit_closure(loss, passes.length, dtype, kernel, rows, shared)
    _, hoisted = varying_alike((features, hoisted))

    @jax.custom_jvp
    def total(features: Array, kernel: Array, bias: Any, weights: Array, rows: Any, shared: Any) -> Array:
        x, w = in_one_dtype(features, kernel)

        def add(i: Array, so_far: Array) -> Array:
            mine, fresh = passes.at(i, (x, weights, rows))
            weight = jnp.where(fresh, mine[1], 0)
            return so_far + weigh(loss(logits_of(mine[0], w, bias), *mine[2], *shared), weight).sum()

        return jax.lax.fori_loop(0, passes.count, add, zeros((), dtype, features))

    def jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
        primals = tuple(primals)
        directions = jax.tree.leaves(tuple(tangents), is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        moving = [not isinstance(direction, SymbolicZero) for direction in directions]
        value, grads = value_and_gradients(loss, passes, moving, primals)
        tangent = jnp.zeros((), dtype)
        for grad, direction in zip(grads, directions, strict=True):
            if grad is not None:
                tangent += (grad * direction.astype(grad.dtype)).sum()
        return value, tangent

    total.defjvp(jvp, symbolic_zeros=True)
    return total(features, kernel, bias, weights, rows, (*shared, *hoisted))


def value_and_gradients(
    loss: OfRows, passes: "Chunks", moving: list[bool], primals: tuple[Any, ...]
) -> tuple[Array, list[Array | None]]:
    """The sum, and its gradient in each leaf of `primals` that is moving, in float32 or better.

    Computed in place, and differentiated as if chunks were computed apart and added: so reverse mode over
    reverse mode keeps no state of the sums.
    """

    @jax.custom_jvp
    def in_place(primals: tuple[Any, ...]) -> tuple[Array, list[Array | None]]:
        return _add_up(loss, passes, moving, True, primals)

    @in_place.defjvp
    def jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
        return jax.jvp(partial(_add_up, loss, passes, moving, False), primals, tangents)

    return in_place(primals)


def _add_up(
    loss: OfRows, passes: "Chunks", moving: list[bool], in_place: bool, primals: tuple[Any, ...]
) -> tuple[Array, list[Any]]:
    leaves, structure = jax.tree.flatten(primals)
    features, kernel, bias, *_, shared = primals
    dtype = computed_dtype(features, kernel)
    x, w = in_one_dtype(features, kernel)
    # leaves are numbered in the order features, kernel, bias, weights, rows, shared
    of_bias = 2 if bias is not None else None
    of_weights = 2 if bias is None else 3
    first_shared = len(leaves) - len(jax.tree.leaves(shared))
    others = [i for i in range(of_weights, len(leaves)) if moving[i]]

    def add(i: Array, carry: tuple[Array, list[Any]]) -> tuple[Array, list[Any]]:
        so_far, grads = carry
        grads = list(grads)
        own, fresh = passes.at(i, leaves[of_weights:first_shared])
        (x_rows,), _ = passes.at(i, (x,))

        def of_logits(z: Array, *values: Array) -> Array:
            now = [*own, *leaves[first_shared:]]
            for j, value in zip(others, values, strict=True):
                now[j - of_weights] = value
            all_leaves = [*leaves[:of_weights], *now]
            _, _, _, weights, rows, shared = jax.tree.unflatten(structure, all_leaves)
            return weigh(loss(z, *rows, *shared), jnp.where(fresh, weights, 0)).sum()

        counts = fresh & (own[0] != 0)

        z = logits_of(x_rows, w, bias)
        values = [own[j - of_weights] if j < first_shared else leaves[j] for j in others]
        value, (dz, *d_others) = jax.value_and_grad(of_logits, range(1 + len(others)))(z, *values)
        dz = jnp.where(counts[:, None], dz, 0)  # of what does not count, even if it is not finite
        half = dz.astype(w.dtype)
        if moving[0]:
            out = None if spec_of(half)[1] is None else PartitionSpec(spec_of(half)[0], None)
            across = jax.lax.dot_general(
                half, w, (((1,), (1,)), ((), ())), preferred_element_type=dtype, out_sharding=out
            )
            grads[0] = passes.add_to(grads[0], i, across)
        if moving[1]:
            grads[1] = add_product(grads[1], x_rows, half, passes.whole_rows)
        if of_bias is not None and moving[of_bias]:
            grads[of_bias] += dz.sum(0)
        for j, grad in zip(others, d_others, strict=True):
            if j >= first_shared:
                grads[j] += grad
            else:
                keep = fresh if j == of_weights else counts
                keep = keep.reshape(-1, *(1,) * (grad.ndim - 1))
                grads[j] = passes.add_to(grads[j], i, jnp.where(keep, grad, 0))
        return so_far + value, grads

    none_yet = [
        zeros(leaf.shape, computed_dtype(leaf), features, spec_of(leaf)) if moves else None
        for leaf, moves in zip(leaves, moving, strict=True)
    ]

    nothing = zeros((), dtype, features), none_yet

    def add_in_place(i: Array, sums: Any) -> Any:
        # The condition always holds. But JAX moves out of a loop, and keeps, what does not change in it, such
        # as the numbers of a chunk's columns to compare labels with; out of a condition it moves nothing.
        return jax.lax.cond(i >= 0, partial(add, i), lambda sums: sums, sums)

    def add_apart(i: Array, sums: Any) -> Any:
        part = jax.checkpoint(lambda i: add(i, nothing), prevent_cse=False)(i)
        return jax.tree.map(jnp.add, sums, part)

    return jax.lax.fori_loop(0, passes.count, add_in_place if in_place else add_apart, nothing)


@partial(jax.jit, static_argnums=(0, 1))
def map_rows(
    function: OfRows,
    chunk: int,
    features: Array,
    kernel: Array,
    bias: Array | None,
    rows: tuple[Array | None, ...],
    shared: tuple[Any, ...],
) -> Any:
    """function(features @ kernel + bias, rows, shared), whose results have an entry per row.

    Reverse mode computes each chunk again: four products for value and gradients.
    """
    dtype = computed_dtype(features, kernel)
    features, kernel, bias, rows, shared = varying_alike((features, kernel, bias, rows, shared))
    x, w = in_one_dtype(features, kernel)
    passes = Chunks(len(features), chunk)
    # float32 outside the loop, so that reverse mode adds up the chunks' gradients in float32
    wide = w.astype(dtype), None if bias is None else bias.astype(dtype)

    @partial(jax.checkpoint, prevent_cse=False)
    def of_chunk(i: Array, wide: tuple[Array, Array | None]) -> Any:
        (x_rows, own), _ = passes.at(i, (x, rows))
        return function(logits_of(x_rows, wide[0].astype(w.dtype), wide[1]), *own, *shared)

    def place(i: Array, results: Any) -> Any:
        return jax.tree.map(lambda whole, part: passes.put(whole, i, part), results, of_chunk(i, wide))

    if not len(features):
        return function(jnp.zeros((0, w.shape[1]), dtype), *rows, *shared)
    like = jax.eval_shape(of_chunk, jnp.zeros((), int), wide)
    results = jax.tree.map(lambda part: zeros((len(features), *part.shape[1:]), part.dtype, features), like)
    return jax.lax.fori_loop(0, passes.count, place, results)


def varying_alike(tree: Any) -> Any:
    """Arrays inside a user's shard_map that vary over the same axes of its mesh, all those over which one does.

    A loop carries what varies and what does not as different types. The transpose of this sums the gradients of
    what does not vary, as a kernel that all devices have, over the devices.
    """
    axes = frozenset[str]().union(*map(_axes_of, jax.tree.leaves(tree)))
    return jax.tree.map(lambda leaf: _varying(leaf, axes), tree)


def zeros(shape: tuple[int, ...], dtype: Any, like: Array, spec: tuple[Any, ...] = ()) -> Array:
    """Zeros that vary over the same axes as another array, spread over explicit ones as `spec` says."""
    array = jnp.zeros(shape, dtype)
    array = jax.sharding.reshard(array, PartitionSpec(*spec)) if any(spec) else array
    return _varying(array, _axes_of(like))


def _axes_of(array: Array) -> frozenset[str]:
    kind: Any = jax.typeof(array)
    return kind.mat.varying if hasattr(kind, "mat") else kind.vma  # so named until JAX 0.10


def _varying(array: Array, axes: frozenset[str]) -> Array:
    missing = tuple(sorted(axes - _axes_of(array)))
    return jax.lax.pcast(array, missing, to="varying") if missing else array


class Chunks:
    """N rows in passes of equal length. The last begins early enough to be full: some rows come twice."""

    def __init__(self, num_rows: int, chunk: int, whole_rows: bool = True) -> None:
        """As many passes as `chunk` needs, of as few rows as those passes need."""
        self.num_rows, self.whole_rows = num_rows, whole_rows
        self.count = math.ceil(num_rows / chunk)
        self.length = math.ceil(num_rows / max(self.count, 1))

    def _start(self, i: Array) -> Array:
        return jnp.minimum(i * self.length, self.num_rows - self.length)

    def at(self, i: Array, tree: Any) -> tuple[Any, Array]:
        """The rows of pass `i`, and which of them come for the first time."""
        start = self._start(i)
        rows = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, self.length), tree)
        return rows, start + jnp.arange(self.length) >= i * self.length

    def add_to(self, whole: Array, i: Array, part: Array) -> Array:
        """`whole` with `part` added to the rows of pass `i`."""
        start = self._start(i)
        before = jax.lax.dynamic_slice_in_dim(whole, start, self.length)
        return jax.lax.dynamic_update_slice_in_dim(whole, before + part, start, 0)

    def put(self, whole: Array, i: Array, part: Array) -> Array:
        """`whole` with `part` as the rows of pass `i`."""
        return jax.lax.dynamic_update_slice_in_dim(whole, part, self._start(i), 0)


def weigh(losses: Array, weights: Array) -> Array:
    """w ℓ, and 0 where w is, even if ℓ is not finite; the derivative in a zero weight stays ℓ."""
    return weights * jnp.where((weights == 0) & ~jnp.isfinite(losses), 0, losses)


def logits_of(x: Array, w: Array, bias: Array | None) -> Array:
    """x @ w + bias, added up in float32 or better."""
    dtype = computed_dtype(x, w)
    z = jnp.dot(x, w, preferred_element_type=dtype)
    return z if bias is None else z + bias.astype(dtype)[None]


def add_product(total: Array, x: Array, dz: Array, whole_rows: bool) -> Array:
    """total + xᵀ dz.

    XLA's CPU backend writes the product down before it adds it: there, block by block of columns, unless these
    are spread over devices. Other backends add in the product itself.
    """
    num_features, num_columns = total.shape
    block = max(1, BLOCK_BYTES // (total.dtype.itemsize * max(num_features, 1)))
    if jax.default_backend() != "cpu" or not whole_rows or block >= num_columns:
        return total + product(x.T, dz, total.dtype)
    whole = num_columns - num_columns % block

    def add(j: Array, total: Array) -> Array:
        columns = jax.lax.dynamic_slice_in_dim(dz, j * block, block, 1)
        before = jax.lax.dynamic_slice_in_dim(total, j * block, block, 1)
        after = before + product(x.T, columns, total.dtype)
        return jax.lax.dynamic_update_slice_in_dim(total, after, j * block, 1)

    total = jax.lax.fori_loop(0, num_columns // block, add, total)
    if whole == num_columns:
        return total
    return total.at[:, whole:].add(product(x.T, dz[:, whole:], total.dtype))


def product(a: Array, b: Array, dtype: Any) -> Array:
    """a @ b, added up and returned in `dtype`."""
    return jnp.dot(a, b, preferred_element_type=dtype)


def in_one_dtype(features: Array, kernel: Array) -> tuple[Array, Array]:
    """Both in the dtype of the products: bfloat16 stays so, for speed; others are too narrow for gradients."""
    dtype = kernel.dtype if features.dtype == kernel.dtype == jnp.bfloat16 else computed_dtype(features, kernel)
    return features.astype(dtype), kernel.astype(dtype)


def with_explicit_closure(
    loss: OfRows, length: int, dtype: Any, kernel: Array, rows: Any, shared: Any
) -> tuple[OfRows, list[Array]]:
    """`loss` as a function that takes, after its arguments, the values of its closure that have derivatives."""

    def like(row: Array) -> Array:
        return zeros((length, *row.shape[1:]), row.dtype, row)

    example = zeros((length, kernel.shape[1]), dtype, kernel), *jax.tree.map(like, rows), *shared
    return jax.closure_convert(lambda *arguments: loss(*arguments), *example)
