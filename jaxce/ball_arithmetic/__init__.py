"""The true values of JAX programs, with proven bounds, and how far floats are from them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from jaxce.ball_arithmetic.enclosures import Enclosures

__all__ = ["assert_close_in_ulp", "exact"]

MISSING = 'exact needs the extra "verify": pip install "jaxce[verify]"'


def exact(f: Callable[..., Any], *, digits: int = 30) -> Callable[..., Any]:
    """The function f without rounding: its true values, in balls that are proven to hold them.

    Arguments and constants count as the exact numbers that their dtype holds; conversions between floating
    dtypes do not round. Derivatives are those of the program: take them inside, `exact(jax.grad(f))`. Each
    operation is done in ball arithmetic (Arb), and all of them again with more bits, up to 131,072, until every
    result is known to `digits` or a comparison is decided. Infinities and NaN mean what IEEE 754 says; zero has
    no sign, so 1/0 is +inf. Integers and booleans are computed by JAX.

    Args:
        f: A function of arrays, or of trees of them, that `jax.make_jaxpr` can trace: bind options that must be
            Python numbers or strings with functools.partial.
        digits: Decimal digits, relative to each result. What is below 2⁻¹²⁰⁰ in size need not have them.

    Returns:
        A function of the same arguments. Where f returns floating-point arrays it returns Enclosures, with
        `lower`, `upper`, `mid`, `nearest(dtype)` and `errors_in_ulp(array)`; elsewhere NumPy arrays.

    Raises:
        ImportError: python-flint, of the extra "verify", is not installed.
        ArithmeticError: A comparison of two numbers that agree to 131,072 bits, or numbers beyond 2^(2^62).
        TypeError: A primitive that has no rule; the message names it and the line that it is from. Or a call
            inside jit, vmap or grad, which belong inside: `exact(jax.vmap(f))`.

    Source:
        Johansson 2017, Arb: efficient arbitrary-precision midpoint-radius interval arithmetic, IEEE
        Transactions on Computers 66(8).

    >>> import jax.numpy as jnp
    >>> def loss(logits):
    ...     return -jax.nn.log_softmax(logits)[0]
    >>> logits = jnp.array([0.0, -20.0])
    >>> exact(loss)(logits)
    Enclosures(2.06115362031438e-9)
    >>> exact(jax.grad(loss))(logits)
    Enclosures([-2.06115361819020e-9, 2.06115361819020e-9])
    >>> print(f"{exact(loss)(logits).errors_in_ulp(loss(logits)):.1e}")  # -log_softmax gives 0
    9.3e+06
    """

    def enclosed(*args: Any, **kwargs: Any) -> Any:
        try:
            from jaxce.ball_arithmetic.program import Program
        except ModuleNotFoundError as error:
            raise ImportError(MISSING) from error
        return Program(f, *args, **kwargs)(*args, digits=digits, **kwargs)

    return enclosed


def assert_close_in_ulp(result: Any, exact_result: "Enclosures | Any", ulp: float) -> None:
    """Assert that floats are within `ulp` units in the last place of the true values. For tests.

    Args:
        result: An array of floats, or a tree of them: the unit is that of its dtype, at the true value.
        exact_result: What `exact` gives for the same function and arguments.
        ulp: The largest error that is right. An error is counted with the width of the enclosure.

    Raises:
        AssertionError: Errors are larger: the message says how many, and shows the largest.
        ValueError: The shapes differ.

    >>> import jax.numpy as jnp
    >>> x = jnp.linspace(-5, 5, 11)
    >>> assert_close_in_ulp(jnp.tanh(x), exact(jnp.tanh)(x), 8)
    """
    for found, true in zip(*map(jax.tree.leaves, (result, exact_result)), strict=True):
        errors = np.asarray(true.errors_in_ulp(found))
        wrong = errors > ulp
        if wrong.any():
            worst = np.unravel_index(int(np.argmax(errors)), errors.shape)
            raise AssertionError(
                f"{wrong.sum()} of {errors.size} numbers are further than {ulp} ulp from the true ones, the "
                f"furthest {errors[worst]:.6g} ulp: at [{', '.join(map(str, worst))}] "
                f"{np.asarray(found)[worst]}, "
                f"not {true.mid[worst].str(20, radius=False)}"
            )
