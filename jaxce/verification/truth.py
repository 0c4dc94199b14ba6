"""What is true of a loss: values and derivatives without rounding, and how far rounding moves them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxce.ball_arithmetic.enclosures import Enclosures
from jaxce.ball_arithmetic.program import Program
from jaxce.verification.tolerances import DIFFERENCES

BatchLoss = Callable[[Any, Any], Array]

STEP = 2.0**-200  # of differences, in arithmetic without rounding
DIGITS = 20
MOST_COLUMNS = 32  # of an example that are moved apart; more are moved together


class Slopes(NamedTuple):
    """Slopes of the values along a random direction, by differences, beside the gradient's, without rounding.

    Attributes:
        exist: Of which examples both one-sided slopes are one finite number [examples].
        error: The largest difference from the gradient, relative to the sizes of its parts.
        worst: The example that has it.
    """

    exist: np.ndarray
    error: float
    worst: int


class Doubts(NamedTuple):
    """Where a truth is not the last word.

    Attributes:
        asked: The examples of which this is known [examples].
        slopes_exist: Whether both one-sided slopes are one finite number [examples].
        moved: How far values and gradient move, added up, as each number of an example moves by an ulp of its
            size: where parts cancel, no error is smaller than that.
    """

    asked: np.ndarray
    slopes_exist: np.ndarray
    moved: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Truth:
    """A loss without rounding.

    Attributes:
        function: The loss itself, or its definition, of batches, in plain JAX.
        x: The inputs, whose dtype programs of the loss itself are traced with.
        numbers: The numbers to take for them.
        y: Labels, any tree of arrays.
        cotangents: The weights c of the values; gradients are those of Σ c·loss.
        by_example: Whether there is a loss for each example alone.
        is_own: Whether it is the loss itself, so that constants are what its dtype holds.
        sizes: Of the inputs: an ulp of that counts as unknown.
        eps: That ulp, of 1.
        smallest: An absolute error that is none.
        rng: Of directions and signs.
    """

    function: BatchLoss
    x: np.ndarray
    numbers: np.ndarray
    y: Any
    cotangents: np.ndarray
    by_example: bool
    is_own: bool
    sizes: np.ndarray
    eps: float
    smallest: float
    rng: np.random.Generator

    def grad(self, x: Any, y: Any) -> Array:
        """d Σ c·loss / d x, in plain JAX."""
        return jax.grad(lambda x: weighed(self.function, self.cotangents, x, y))(x)

    @cached_property
    def value_and_grad(self) -> tuple[Enclosures, Enclosures]:
        """The values, and the gradient of their weighed sum."""
        return self.at(self.numbers)

    @cached_property
    def slopes(self) -> Slopes:
        """The gradient held against differences of the values: a second way to it, without any derivative."""
        v = self.rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], self.x.shape).astype(self.x.dtype)

        sums = partial(per_example, by_example=self.by_example)

        def along(x: Any, y: Any, e: Any) -> Any:
            ahead, here, behind = (self.function(x + k * e * v, y) for k in (1, 0, -1))
            c = self.cotangents.astype(here.dtype)
            to_right = sums(c * (ahead - here) / e)
            to_left = sums(c * (here - behind) / e)
            parts = self.grad(x, y) * v
            off = (to_right + to_left) / 2 - sums(parts)
            return to_right - to_left, off, sums(jnp.abs(parts))

        jump, off, size = (
            each.nearest()
            for each in self._traced(along, 1)(
                self.numbers, self.y, np.float64(STEP), digits=5, smallest=self.smallest * 1e-10
            )
        )
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.abs(size) + self.smallest
            is_smooth = ~(np.abs(jump) > DIFFERENCES * size)
            errors = np.where(is_smooth & np.isfinite(off), np.abs(off) / size, 0)
        is_finite = np.isfinite(self.value_and_grad[0].nearest()).reshape(len(errors), -1).all(1)
        return Slopes(is_smooth & is_finite, float(errors.max(initial=0)), int(np.argmax(errors)))

    def grads_slopes(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the gradient along `v` to the right and to the left, by differences, all in float64."""

        def along(x: Any, y: Any, e: Any) -> Any:
            ahead, here, behind = (self.grad(x + k * e * v, y) for k in (1, 0, -1))
            return (ahead - here) / e, (here - behind) / e

        x, y = widened(self.x), jax.tree.map(widened, self.y)
        with jax.enable_x64(True):
            program = Program(along, x, y, np.float64(1))
        right, left = program(x, y, np.float64(STEP), digits=12, smallest=1e-30)
        return right.nearest(), left.nearest()

    def doubts(self, examples: np.ndarray) -> "Doubts":
        """What excuses errors in these examples; of others nothing is said."""
        doubts = self._doubts
        new = examples[~doubts.asked[examples]]
        if len(new):
            part, where = (self._only(new), new) if self.by_example else (self, slice(None))
            doubts.asked[new] = True
            doubts.slopes_exist[new] = part.slopes.exist
            for whole, some in zip(doubts.moved, part._movements(), strict=True):
                whole[where if whole.ndim else ()] = some
        return doubts

    @cached_property
    def _doubts(self) -> "Doubts":
        count = len(self.x) if self.by_example else 1
        moved = np.zeros(self.value_and_grad[0].shape), np.zeros(self.value_and_grad[1].shape)
        return Doubts(np.zeros(count, bool), np.ones(count, bool), moved)

    def _only(self, examples: np.ndarray) -> "Truth":
        def some(leaf: np.ndarray) -> np.ndarray:
            return leaf[examples]

        of_examples = {"x": self.x, "numbers": self.numbers, "cotangents": self.cotangents, "sizes": self.sizes}
        return replace(self, y=jax.tree.map(some, self.y), **jax.tree.map(some, of_examples))

    def _movements(self) -> tuple[np.ndarray, np.ndarray]:
        by = np.zeros(self.value_and_grad[0].shape), np.zeros(self.value_and_grad[1].shape)
        for x, y in self._nudged():
            for sum_of, true, other in zip(by, self.value_and_grad, self.at(x, y), strict=True):
                distance = np.abs((other - true).nearest())
                sum_of += np.where(np.isfinite(distance), distance, 0)
        return by

    def _nudged(self) -> Iterator[tuple[np.ndarray, Any]]:
        """The arguments with one number of every example moved, one after the other; not rounded again."""
        leaves, structure = jax.tree.flatten((self.numbers, self.y))
        for n, (leaf, sizes) in enumerate(zip(leaves, [self.sizes, *map(_sizes_of, leaves[1:])], strict=True)):
            of_example = leaf[0].size if leaf.ndim > 1 else 1
            column = (np.arange(leaf.size) % of_example % MOST_COLUMNS).reshape(leaf.shape)
            ulp = self.eps * np.where(np.isfinite(sizes), sizes, 0) * self.rng.choice([-1.0, 1.0], leaf.shape)
            for i in range(min(of_example, MOST_COLUMNS)):
                by = np.where(column == i, ulp, 0)
                if by.any():
                    yield jax.tree.unflatten(
                        structure, [*leaves[:n], leaf.astype(np.float64) + by, *leaves[n + 1 :]]
                    )

    @cached_property
    def _program(self) -> Program:
        return self._traced(lambda x, y: (self.function(x, y), self.grad(x, y)))

    def at(self, x: np.ndarray, y: Any = None) -> tuple[Enclosures, Enclosures]:
        """The same at other numbers."""
        return self._program(x, self.y if y is None else y, digits=DIGITS, smallest=self.smallest)

    def _traced(self, function: Callable[..., Any], *rest: Any) -> Program:
        x, y = (self.x, self.y) if self.is_own else (widened(self.x), jax.tree.map(widened, self.y))
        with jax.enable_x64(x.dtype == np.float64):
            return Program(function, x, y, *(np.asarray(each, x.dtype) for each in rest))


def _sizes_of(labels: np.ndarray) -> np.ndarray:
    """Of labels: their absolute values. Whole numbers, as of one-hot labels, are exact."""
    sizes = np.abs(labels.astype(np.float64))
    return np.where(sizes == np.round(sizes), 0, sizes)


def per_example(array: Any, by_example: bool) -> Any:
    """Sums over what belongs to an example, of an array that has the examples first; else over all [1]."""
    return array.reshape(len(array), -1).sum(1) if by_example else array.sum()[None]


def weighed(loss: BatchLoss, weights: np.ndarray, x: Any, y: Any) -> Array:
    """Σ weights·loss."""
    found = loss(x, y)
    return (found * weights.astype(found.dtype)).sum()


def widened(array: np.ndarray) -> np.ndarray:
    """In float64, if it holds floating-point numbers."""
    return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def far_out(definition: BatchLoss, x: np.ndarray, y: Any) -> np.ndarray | None:
    """The inputs, large where they are infinite and the definition is 0·∞; None if all are finite."""
    if np.isfinite(x.astype(np.float64)).all():
        return None
    wide = widened(x)
    with jax.enable_x64(True):
        undefined = np.isnan(np.asarray(definition(wide, jax.tree.map(widened, y))))
    undefined = undefined.reshape(undefined.shape + (1,) * (x.ndim - undefined.ndim))
    largest = 4 * max(np.abs(wide[np.isfinite(wide)]).max(initial=0), 1e4)
    return np.where(undefined, np.clip(wide, -largest, largest), wide)
