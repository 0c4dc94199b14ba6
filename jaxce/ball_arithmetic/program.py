"""A JAX function as a program in ball arithmetic, with as many bits as its results need."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flint import ctx

from jaxce.ball_arithmetic.arrays import Value, entering, holds_balls
from jaxce.ball_arithmetic.balls import Ball, Undecided, Unsupported
from jaxce.ball_arithmetic.enclosures import Enclosures
from jaxce.ball_arithmetic.interpreter import evaluate

MOST_BITS = 2**17


class Program:
    """A function of arrays as a program, to be evaluated without rounding at any numbers of the same shapes."""

    def __init__(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Trace it."""
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            raise TypeError(
                "exact needs numbers, but is called inside jit, vmap or grad: apply these to f itself"
            )
        self.program, shapes = jax.make_jaxpr(f, return_shape=True)(*args, **kwargs)
        self.structure = jax.tree.structure(shapes)
        self.x64 = bool(jax.config.read("jax_enable_x64"))

    def __call__(self, *args: Any, digits: int, smallest: float = 0.0, **kwargs: Any) -> Any:
        """The results, as in jaxce.exact.

        Args:
            *args: Arguments. NumPy arrays count as they are, in whatever dtype they come.
            digits: To which results are known, relative to each.
            smallest: Absolute errors below this do not matter either.
            **kwargs: Further arguments.
        """
        variables = self.program.jaxpr.invars
        leaves = [
            (leaf, getattr(leaf, "dtype", variable.aval.dtype))
            for leaf, variable in zip(jax.tree.leaves((args, kwargs)), variables, strict=True)
        ]
        results = self._evaluate(leaves, 4 * digits, Ball(max(smallest, 2.0**-1074)) * Ball(2) ** -126)
        found = [Enclosures(each) if holds_balls(each) else np.asarray(each) for each in results]
        return jax.tree.unflatten(self.structure, found)

    def _evaluate(self, leaves: list[tuple[Any, Any]], needed: int, smallest: Ball) -> list[Value]:
        bits = needed
        try:
            while True:
                bits = min(2 * bits, MOST_BITS)
                try:
                    with ctx.workprec(bits), jax.enable_x64(self.x64):
                        results = evaluate(self.program, [entering(*leaf) for leaf in leaves])
                    if bits == MOST_BITS or all(_is_known(each, needed, smallest) for each in results):
                        return results
                except Undecided:
                    if bits == MOST_BITS:
                        raise
        except Undecided as error:
            raise ArithmeticError(
                f"exact cannot decide {' at '.join(error.args)}: what it compares agrees to {MOST_BITS} bits"
            ) from None
        except Unsupported as error:
            raise Unsupported(f"exact has no rule for the primitive {' at '.join(error.args)}") from None
        except OverflowError as error:
            raise OverflowError(f"a number is too large for exact: {' at '.join(error.args)}") from None


def _is_known(value: Value, bits: int, smallest: Ball) -> bool:
    return not holds_balls(value) or all(
        ball.is_exact() or ball.is_nan() or ball.rel_accuracy_bits() >= bits or ball.rad() < smallest
        for ball in value.flat
    )
