"""Arrays of balls: NumPy arrays of objects."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxce.ball_arithmetic.balls import NAN, Ball, ball_of

Value = Any  # an array of balls where a program has floats, a NumPy or JAX array elsewhere


def array_of(balls: Iterable[Any], shape: Sequence[int], dtype: Any = object) -> np.ndarray:
    """An array of the balls, row by row."""
    result = np.empty(math.prod(shape), dtype)
    result[:] = list(balls)
    return result.reshape(shape)


def holds_balls(value: Value) -> bool:
    """Whether an array is one of balls."""
    return isinstance(value, np.ndarray) and value.dtype == object


def entering(value: Any, dtype: Any) -> Value:
    """What enters a program: floats as the exact numbers that `dtype` holds, everything else as it is.

    Equal numbers become one object, and so are known to be equal after operations too.
    """
    if holds_balls(value) or not jnp.issubdtype(dtype, jnp.floating):
        return value
    numbers = np.asarray(value, dtype).astype(np.float64).ravel().tolist()
    known = {number: ball_of(number) for number in set(numbers)}
    return array_of([known.get(number, NAN) for number in numbers], np.shape(value))


def elementwise(function: Callable[..., Any], *operands: np.ndarray, dtype: Any = object) -> np.ndarray:
    """`function` of balls, entry by entry. Of the same objects it is one and the same object again."""
    arrays = np.broadcast_arrays(*operands)
    known: dict[tuple[int, ...], Any] = {}
    found = []
    for balls in zip(*(each.ravel().tolist() for each in arrays), strict=True):
        key = tuple(map(id, balls))
        if key not in known:
            known[key] = function(*balls)
        found.append(known[key])
    return array_of(found, arrays[0].shape, dtype)


def rows_of(array: np.ndarray, axes: Sequence[int]) -> tuple[list[list[Ball]], tuple[int, ...]]:
    """The entries along `axes` as rows, and the shape of the other axes."""
    others = [axis for axis in range(array.ndim) if axis not in axes]
    shape = tuple(array.shape[axis] for axis in others)
    count = math.prod(array.shape[axis] for axis in axes)
    return array.transpose(*others, *axes).reshape(math.prod(shape), count).tolist(), shape
