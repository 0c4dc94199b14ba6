"""What the code under test gives: values, and derivatives by every way there is to them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# loss(inputs, labels) -> one number per row, or per component; of heads one logit per class
BatchLoss = Callable[[Array, Array], Array]

# Steps of central differences.
OFFSETS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Measured:
    """A loss at a batch, as float64, which holds the numbers of every dtype exactly.

    A component counts as an example with one input. Of heads whose logits each depend on their own input, the
    Jacobian has its diagonal alone.
    """

    entries: list[tuple[int, int]]  # (value, input) of each entry of the Jacobian
    values: Float[np.ndarray, "examples values"]
    closed: Float[np.ndarray, "examples entries"]
    reverse: Float[np.ndarray, "examples entries"]
    forward: Float[np.ndarray, "examples entries"]

    def at(self, n: int) -> "Measured":
        """Example number `n` alone."""
        return Measured(self.entries, self.values[n], self.closed[n], self.reverse[n], self.forward[n])


def measure(
    value: BatchLoss, grad: BatchLoss, inputs: np.ndarray, labels: np.ndarray, by_rows: bool
) -> Measured:
    """Values, and derivatives by closed form, reverse and forward mode, in the dtype of the inputs."""
    with jax.enable_x64(inputs.dtype == np.float64):
        x, y = jnp.asarray(inputs), jnp.asarray(labels)
        values, closed = value(x, y), grad(x, y)
        backwards, forwards = reverse(value, x, y, by_rows), np.asarray(forward(value, x, y, by_rows))
    num_examples = len(x) if by_rows else x.size
    num_inputs = x.size // num_examples
    num_values = values.size // num_examples

    def wide(array: Any, *shape: int) -> np.ndarray:
        return np.asarray(array).astype(np.float64).reshape(num_examples, *shape)

    if by_rows:
        forwards = np.moveaxis(forwards, 1, -1)
    if closed.size == num_examples * num_values * num_inputs:
        entries = [(k, i) for k in range(num_values) for i in range(num_inputs)]
    else:
        entries = [(k, k) for k in range(num_values)]
    ks, inputs_of = (np.array(each) for each in zip(*entries, strict=True))
    return Measured(
        entries,
        wide(values, num_values),
        wide(closed, len(entries)),
        wide(backwards, num_values, num_inputs)[:, ks, inputs_of],
        wide(forwards, num_values, num_inputs)[:, ks, inputs_of],
    )


def reverse(function: BatchLoss, x: Array, y: Array, by_rows: bool) -> Array:
    """The Jacobian [batch, *out, classes] in reverse mode: for heads, one copy of the batch for each logit."""
    out = jax.eval_shape(function, x, y)
    if not by_rows or out.ndim < x.ndim:
        return jax.grad(lambda x: function(x, y).sum())(x)
    num_rows, num_values = out.shape
    copies, labels = jnp.repeat(x, num_values, 0), jnp.repeat(y, num_values, 0)
    logits, pull = jax.vjp(lambda x: function(x, labels), copies)
    (found,) = pull(jnp.tile(jnp.eye(num_values, dtype=logits.dtype), (num_rows, 1)))
    return found.reshape(num_rows, num_values, -1)


def forward(function: BatchLoss, x: Array, y: Array, by_rows: bool) -> Array:
    """The Jacobian [batch, classes, *out] in forward mode: for rows, one copy of the batch for each class."""
    if not by_rows:
        return jax.jvp(lambda x: function(x, y), (x,), (jnp.ones_like(x),))[1]
    num_rows, num_classes = x.shape
    copies, labels = jnp.repeat(x, num_classes, 0), jnp.repeat(y, num_classes, 0)
    directions = jnp.tile(jnp.eye(num_classes, dtype=x.dtype), (num_rows, 1))
    tangent = jax.jvp(lambda x: function(x, labels), (copies,), (directions,))[1]
    return tangent.reshape(num_rows, num_classes, *tangent.shape[1:])


def hessians(function: BatchLoss, inputs: np.ndarray, labels: np.ndarray, by_rows: bool) -> np.ndarray:
    """The Hessian of every row [batch, classes, classes], or second derivative of every component, in float64.

    Forward over reverse, as jax.hessian takes it.
    """

    def gradient(x: Array, y: Array) -> Array:
        return jax.grad(lambda x: function(x, y).sum())(x)

    with jax.enable_x64(True):
        return np.asarray(forward(gradient, jnp.asarray(inputs), jnp.asarray(labels), by_rows))


def central(
    function: Callable[[np.ndarray], np.ndarray],
    at: np.ndarray,
    move: np.ndarray | float,
    size: np.ndarray | float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The change of `function` for each `move` of its argument, over `size`, in the limit of small moves.

    Args:
        function: From an array like `at` to values.
        at: Where.
        move: One step of the argument.
        size: Length of the step, of the values' shape: the derivative along `move` is what results.

    Returns:
        The five-point rule's derivatives, and how much each changed when the step was halved: near a kink, or
        where rounding drowns the difference, that is much.
    """
    values = {k: np.asarray(function(at + k * move), np.float64) for k in OFFSETS}

    def five_points(h: float) -> np.ndarray:
        return (8 * (values[h] - values[-h]) - (values[2 * h] - values[-2 * h])) / (12 * h * size)

    coarse, fine = five_points(1.0), five_points(0.5)
    return fine, np.abs(fine - coarse)
