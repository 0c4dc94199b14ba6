"""The rules of JAX's primitives on arrays of balls, by name."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flint import arb_mat
from jax import lax

from jaxce.ball_arithmetic import balls
from jaxce.ball_arithmetic.arrays import Value, array_of, elementwise, holds_balls, rows_of
from jaxce.ball_arithmetic.balls import Ball

# (parameters of the operation, operands...) -> result, or results
Rule = Callable[..., Any]


def as_balls(value: Value) -> np.ndarray:
    """Integers as balls too."""
    return value if holds_balls(value) else array_of((Ball(int(n)) for n in np.ravel(value)), np.shape(value))


def convert(value: Value, dtype: Any) -> Value:
    """A change of dtype. Between floats, and from integers to floats, nothing is rounded."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise balls.Unsupported  # Arb has complex balls, and no loss needs them
    if jnp.issubdtype(dtype, jnp.floating):
        return as_balls(value)
    if not holds_balls(value):
        return lax.convert_element_type(value, dtype)
    if jnp.issubdtype(dtype, jnp.bool_):
        return elementwise(lambda a: not balls.is_equal(a, balls.ZERO), value, dtype=bool)
    low, high = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)

    def to_integer(a: Ball) -> int:
        if a.is_nan():
            return 0
        if not a.is_finite():
            return high if a > 0 else low
        return min(max(balls.whole(balls.truncate(a)), low), high)

    return elementwise(to_integer, value, dtype=dtype)


# Data movement


def broadcast_in_dim(params: dict[str, Any], operand: Value, *_: Value) -> np.ndarray:
    """The operand along new axes."""
    shape, axes = params["shape"], params["broadcast_dimensions"]
    lengths = [1] * len(shape)
    for axis, length in zip(axes, np.shape(operand), strict=True):
        lengths[axis] = length
    return np.broadcast_to(np.reshape(operand, lengths), shape)


def slice_of(params: dict[str, Any], operand: Value) -> np.ndarray:
    """Part of the operand."""
    starts, stops = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(starts)
    return np.asarray(operand)[tuple(map(slice, starts, stops, steps))]


def select(params: dict[str, Any], which: Value, *cases: Value) -> np.ndarray:
    """The case that `which` names, entry by entry."""
    which = np.asarray(which)
    result = np.array(cases[0])
    for i, case in enumerate(cases[1:], 1):
        result[...] = np.where(which == i, case, result)
    return result


def by_positions(primitive: Any, params: dict[str, Any], *operands: Value) -> np.ndarray:
    """Any other operation that only moves numbers about: done by JAX to their positions."""
    table: list[Ball] = []
    positions = []
    for operand in operands:
        if holds_balls(operand):
            start, stop = len(table), len(table) + operand.size
            positions.append(np.arange(start, stop, dtype=np.int32).reshape(operand.shape))
            table += operand.ravel().tolist()
        else:
            positions.append(operand)
    if "fill_value" in params:  # of a gather; None is NaN, and −1 the last entry of the table
        fill, params = params["fill_value"], {**params, "fill_value": -1}
        table.append(balls.NAN if fill is None else balls.ball_of(float(fill)))
    moved = primitive.bind(*positions, **params)
    return array_of((table[position] for position in np.ravel(moved).tolist()), np.shape(moved))


BY_POSITIONS = {"dynamic_slice", "dynamic_update_slice", "gather", "pad"}

# Of arrays of any kind, by NumPy, which need not compile them.
MOVES: dict[str, Rule] = {
    "broadcast_in_dim": broadcast_in_dim,
    "reshape": lambda params, x: np.reshape(x, params["new_sizes"]),
    "squeeze": lambda params, x: np.squeeze(np.asarray(x), params["dimensions"]),
    "transpose": lambda params, x: np.transpose(x, params["permutation"]),
    "rev": lambda params, x: np.flip(x, params["dimensions"]),
    "slice": slice_of,
    "concatenate": lambda params, *xs: np.concatenate(list(map(np.asarray, xs)), params["dimension"]),
    "split": lambda params, x: np.split(np.asarray(x), np.cumsum(params["sizes"])[:-1], params["axis"]),
    "stack": lambda params, *xs: np.stack(list(map(np.asarray, xs)), params["axis"]),
    "unstack": lambda params, x: [
        row[..., 0] for row in np.moveaxis(np.asarray(x)[..., None], params["axis"], 0)
    ],
    "tile": lambda params, x: np.tile(x, params["reps"]),
    "select_n": select,
}


def scatter(function: Callable[[Ball, Ball], Ball]) -> Rule:
    """`function` of an entry and each update that meets it, in their order."""

    def rule(params: dict[str, Any], operand: Value, indices: Value, updates: Value) -> np.ndarray:
        operand = as_balls(operand)
        where = params["dimension_numbers"]
        inserted = (*where.inserted_window_dims, *where.operand_batching_dims)
        window = iter(where.update_window_dims)
        sizes = [1 if axis in inserted else updates.shape[next(window)] for axis in range(operand.ndim)]
        positions = lax.gather(
            np.arange(operand.size, dtype=np.int32).reshape(operand.shape),
            indices,
            lax.GatherDimensionNumbers(
                offset_dims=where.update_window_dims,
                collapsed_slice_dims=where.inserted_window_dims,
                start_index_map=where.scatter_dims_to_operand_dims,
                operand_batching_dims=where.operand_batching_dims,
                start_indices_batching_dims=where.scatter_indices_batching_dims,
            ),
            sizes,
            mode=params["mode"],
            fill_value=-1,
        )
        result = operand.flatten()
        for position, update in zip(
            np.ravel(positions).tolist(), as_balls(updates).ravel().tolist(), strict=True
        ):
            if position >= 0:
                result[position] = function(result[position], update)
        return result.reshape(operand.shape)

    return rule


# Reductions


def reduction(function: Callable[[Ball, Ball], Ball], initial: Ball) -> Rule:
    """`function` of all entries along axes."""

    def rule(params: dict[str, Any], operand: np.ndarray) -> np.ndarray:
        rows, shape = rows_of(operand, params["axes"])
        return array_of((functools.reduce(function, row) if row else initial for row in rows), shape)

    return rule


def cumulative(function: Callable[[Ball, Ball], Ball]) -> Rule:
    """`function` of all entries up to each one."""

    def rule(params: dict[str, Any], operand: np.ndarray) -> np.ndarray:
        moved = np.moveaxis(operand, params["axis"], -1)
        way = slice(None, None, -1 if params["reverse"] else 1)
        rows = moved[..., way].reshape(-1, moved.shape[-1]).tolist()
        found = [each for row in rows for each in itertools.accumulate(row, function)]
        return np.moveaxis(array_of(found, moved.shape)[..., way], -1, params["axis"])

    return rule


def log_add(a: Ball, b: Ball) -> Ball:
    """log(exp(a) + exp(b))."""
    top = balls.larger(a, b)
    if not top.is_finite():
        return top
    return top + balls.FUNCTIONS["log1p"](balls.exp(balls.smaller(a, b) - top))


def arg_extremum(is_better: Callable[[Ball, Ball], bool]) -> Rule:
    """Where the first of the best entries is; NaN is better than all."""

    def rule(params: dict[str, Any], operand: np.ndarray) -> np.ndarray:
        rows, shape = rows_of(operand, params["axes"])
        found = []
        for row in rows:
            best = 0
            for i, each in enumerate(row):
                if not row[best].is_nan() and (each.is_nan() or is_better(each, row[best])):
                    best = i
            found.append(best)
        return np.array(found, params["index_dtype"]).reshape(shape)

    return rule


def order_of(one: tuple[Any, ...], other: tuple[Any, ...]) -> int:
    """How two rows compare, key by key: NaN comes last, as in JAX."""
    for a, b in zip(one, other, strict=True):
        if not isinstance(a, Ball):
            if a != b:
                return -1 if a < b else 1
        elif a.is_nan() or b.is_nan():
            if a.is_nan() != b.is_nan():
                return 1 if a.is_nan() else -1
        elif not balls.is_equal(a, b):
            return -1 if balls.is_less(a, b) else 1
    return 0


def sort(params: dict[str, Any], *operands: Value) -> list[Value]:
    """Operands in the order of the first of them, ties as they come."""
    moved = [np.moveaxis(np.asarray(each), params["dimension"], -1) for each in operands]
    order = np.empty(moved[0].shape, int)
    for at in np.ndindex(order.shape[:-1]):
        keys = list(zip(*(each[at].tolist() for each in moved[: params["num_keys"]]), strict=True))
        numbered = [(*key, i) for i, key in enumerate(keys)]
        order[at] = [key[-1] for key in sorted(numbered, key=functools.cmp_to_key(order_of))]
    return [np.moveaxis(np.take_along_axis(each, order, -1), -1, params["dimension"]) for each in moved]


def top_k(params: dict[str, Any], operand: np.ndarray) -> list[Value]:
    """The k largest along the last axis, and where they are."""
    numbers = np.broadcast_to(np.arange(operand.shape[-1], dtype=np.int32), operand.shape)
    negative = elementwise(lambda a: -a, operand)
    _, order = sort({"dimension": operand.ndim - 1, "num_keys": 1}, negative, numbers)
    order = order[..., : params["k"]]
    return [np.take_along_axis(operand, order, -1), order]


def dot_general(params: dict[str, Any], a: Value, b: Value) -> np.ndarray:
    """Products of matrices, by Arb where all numbers are finite."""
    a, b = as_balls(a), as_balls(b)
    (a_sum, b_sum), (a_batch, b_batch) = params["dimension_numbers"]
    a_free = [axis for axis in range(a.ndim) if axis not in (*a_sum, *a_batch)]
    b_free = [axis for axis in range(b.ndim) if axis not in (*b_sum, *b_batch)]
    batch, rows, columns = (
        [array.shape[axis] for axis in axes] for array, axes in ((a, a_batch), (a, a_free), (b, b_free))
    )
    m, n, k = math.prod(rows), math.prod(columns), math.prod(a.shape[axis] for axis in a_sum)
    left = a.transpose(*a_batch, *a_free, *a_sum).reshape(math.prod(batch), m, k)
    right = b.transpose(*b_batch, *b_sum, *b_free).reshape(math.prod(batch), k, n)
    found: list[Ball] = []
    for x, y in zip(left, right, strict=True):
        if m * n * k > 2**16 and all(each.is_finite() for each in (*x.flat, *y.flat)):
            found += (arb_mat(m, k, x.ravel().tolist()) * arb_mat(k, n, y.ravel().tolist())).entries()
        else:  # exactly, if the precision allows: so equal products are known to be equal
            columns_of_y = list(y.T)
            found += (sum(map(balls.multiply, row, column), balls.ZERO) for row in x for column in columns_of_y)
    return array_of(found, [*batch, *rows, *columns])


def comparison(function: Callable[[Ball, Ball], bool]) -> Rule:
    """True or false of each pair."""
    return lambda params, a, b: elementwise(function, as_balls(a), as_balls(b), dtype=bool)


def unchanged(params: dict[str, Any], *operands: Value) -> Any:
    """What rounds, places or orders numbers, and has no other effect."""
    return operands[0]


RULES: dict[str, Rule] = {
    "eq": comparison(balls.is_equal),
    "ne": comparison(lambda a, b: not balls.is_equal(a, b)),
    "lt": comparison(balls.is_less),
    "le": comparison(balls.is_at_most),
    "gt": comparison(lambda a, b: balls.is_less(b, a)),
    "ge": comparison(lambda a, b: balls.is_at_most(b, a)),
    "is_finite": lambda params, a: elementwise(lambda x: x.is_finite(), a, dtype=bool),
    "integer_pow": lambda params, a: elementwise(lambda x: balls.integer_power(x, params["y"]), a),
    "round": lambda params, a: elementwise(balls.ROUNDINGS[params["rounding_method"].name], a),
    "clamp": lambda params, low, x, high: elementwise(
        lambda a, b, c: balls.smaller(balls.larger(b, a), c), *map(as_balls, (low, x, high))
    ),
    "copy": unchanged,
    "reduce_precision": unchanged,
    "stop_gradient": unchanged,
    "pvary": unchanged,
    "pcast": unchanged,
    "sharding_constraint": unchanged,
    "mesh_cast": unchanged,
    "reshard": unchanged,
    "layout_constraint": unchanged,
    "name": unchanged,
    "device_put": lambda params, *operands: list(operands),
    "optimization_barrier": lambda params, *operands: list(operands),
    "reduce_sum": reduction(lambda a, b: a + b, balls.ZERO),
    "reduce_prod": reduction(balls.multiply, balls.ONE),
    "reduce_max": reduction(balls.larger, -balls.INF),
    "reduce_min": reduction(balls.smaller, balls.INF),
    "argmax": arg_extremum(lambda a, b: balls.is_less(b, a)),
    "argmin": arg_extremum(balls.is_less),
    "cumsum": cumulative(lambda a, b: a + b),
    "cumprod": cumulative(balls.multiply),
    "cummax": cumulative(balls.larger),
    "cummin": cumulative(balls.smaller),
    "cumlogsumexp": cumulative(log_add),
    "sort": sort,
    "top_k": top_k,
    "dot_general": dot_general,
    "scatter": scatter(lambda old, new: new),
    "scatter-add": scatter(lambda old, new: old + new),
    "scatter-sub": scatter(lambda old, new: old - new),
    "scatter-mul": scatter(balls.multiply),
    "scatter-max": scatter(balls.larger),
    "scatter-min": scatter(balls.smaller),
}
