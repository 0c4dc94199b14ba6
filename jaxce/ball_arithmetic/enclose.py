"""The results of a JAX function in ball arithmetic, of as many bits as they need."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flint import ctx

from jaxce.ball_arithmetic.arrays import Value, entering, holds_balls
from jaxce.ball_arithmetic.balls import Undecided, arb
from jaxce.ball_arithmetic.enclosures import Enclosures
from jaxce.ball_arithmetic.interpreter import evaluate

MOST_BITS = 2**13
NOTHING = arb(2) ** -1200  # below every float


def enclose(f: Callable[..., Any], digits: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """See jaxce.exact."""
    leaves = jax.tree.leaves((args, kwargs))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise TypeError("exact needs numbers, but is called inside jit, vmap or grad: apply these to f itself")
    program, shapes = jax.make_jaxpr(f, return_shape=True)(*args, **kwargs)
    # NumPy's float64 counts as it is, even where JAX would round it to float32.
    dtypes = [getattr(leaf, "dtype", var.aval.dtype) for leaf, var in zip(leaves, program.jaxpr.invars, strict=True)]
    bits = needed = 4 * digits
    try:
        while True:
            bits = min(2 * bits, MOST_BITS)
            try:
                with ctx.workprec(bits):
                    results = evaluate(program, list(map(entering, leaves, dtypes)))
                if bits == MOST_BITS or all(_is_known(each, needed) for each in results):
                    break
            except Undecided:
                if bits == MOST_BITS:
                    raise
    except Undecided as error:
        raise ArithmeticError(
            f"exact cannot decide {' at '.join(error.args)}: what it compares agrees to {MOST_BITS} bits"
        ) from None
    except NotImplementedError as error:
        raise NotImplementedError(f"exact has no rule for the primitive {' at '.join(error.args)}") from None
    except OverflowError as error:
        raise OverflowError(f"a number is too large for exact: {' at '.join(error.args)}") from None
    found = [Enclosures(each) if holds_balls(each) else np.asarray(each) for each in results]
    return jax.tree.unflatten(jax.tree.structure(shapes), found)


def _is_known(value: Value, bits: int) -> bool:
    return not holds_balls(value) or all(
        ball.is_exact() or ball.is_nan() or ball.rel_accuracy_bits() >= bits or ball.rad() < NOTHING
        for ball in value.flat
    )
