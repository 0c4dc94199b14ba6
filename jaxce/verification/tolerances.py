"""How large errors may be, in one table, each with its reason."""

from typing import Any, NamedTuple

import jax.numpy as jnp

# The gradient of a program against differences of its values, both without rounding: what is left is the square
# of the step, 2⁻⁴⁰⁰, times a third derivative.
DIFFERENCES = 1e-15

# Second derivatives in float64, relative to the largest of the example: autodiff of a closed form loses digits,
# and an error of formula is seen all the same.
CURVATURE = 1e-5


class Limits(NamedTuple):
    """The largest relative errors that are right, in eps of the dtype that each comes in.

    Attributes:
        value: Of a value.
        gradient: Of an entry of a gradient.
        computed: Of what the loss computes in.
        smallest: An absolute error that is none: 32 of the smallest normal numbers. A number so small is a
            product of which one factor may have underflowed, and XLA has no subnormal numbers.
    """

    value: float
    gradient: float
    computed: float
    smallest: float


# dtype -> the largest relative error in eps
FROM = {
    "float64": 450.0,  # 1e-13: XLA's exponential and logarithm are good to some ulp, and errors of sums add up
    "float32": 84.0,  # 1e-5, the specification's; the same reasons
    "bfloat16": 0.5 + 1e-5 / 2**-7,  # that of float32, in which it is computed, and one rounding
    "float16": 0.5 + 1e-5 / 2**-10,  # the same
}
IN_HALF = 2  # as much for a user's loss that computes in half precision: done well, it ends within an ulp


def limits_of(inputs: Any, value: Any, is_own: bool) -> Limits:
    """The limits for inputs and values of these dtypes; the gradient has the dtype of the inputs."""
    wide = jnp.promote_types(inputs, jnp.float32)
    smallest = max(32 * float(jnp.finfo(wide).tiny), float(jnp.finfo(inputs).tiny))
    of_value, of_gradient = (
        FROM[jnp.dtype(each).name] * (IN_HALF if is_own and jnp.finfo(each).bits == 16 else 1)
        for each in (value, inputs)
    )
    return Limits(of_value, of_gradient, max(of_value, of_gradient), smallest)
