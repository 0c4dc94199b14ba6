"""Pure loss functions of logits, their closed-form gradients, and LOSSES, the one list of them all."""

import jax
import jax.numpy as jnp

from jaxce.losses.registry import Loss


def softmax_cross_entropy_with_integer_labels(logits, labels, axis=-1, where=None, *, label_smoothing=0.0):
    """Placeholder."""
    lp = jax.nn.log_softmax(logits)
    nll = -jnp.take_along_axis(lp, labels[..., None], -1)[..., 0]
    return (1 - label_smoothing) * nll - label_smoothing * lp.mean(-1)


def sigmoid_binary_cross_entropy(logits, labels, *, pos_weight=None, label_smoothing=0.0):
    """Placeholder."""
    return -labels * jax.nn.log_sigmoid(logits) - (1 - labels) * jax.nn.log_sigmoid(-logits)


LOSSES = {
    "softmax_cross_entropy_with_integer_labels": Loss(softmax_cross_entropy_with_integer_labels, None, "integer", True, "", ""),
    "sigmoid_binary_cross_entropy": Loss(sigmoid_binary_cross_entropy, None, "binary", True, "", ""),
}
