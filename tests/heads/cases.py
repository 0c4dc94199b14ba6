"""What the tests of heads share: arrays, comparisons, and what a compiled program holds."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

import jaxce

# for comparisons of formulas in float64
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

LABEL_LOSS = jaxce.softmax_cross_entropy_with_integer_labels

# What linear_loss takes as it is.
LOSSES_OF_ROWS = {
    name: loss
    for name, loss in jaxce.LOSSES.items()
    if loss.inputs in ("logits", "predictions", "log_probs") and loss.returns == "losses"
}


def arrays(rng, n=77, d=6, c=203, dtype=np.float32):
    return (
        jnp.asarray(rng.normal(size=(n, d)), dtype),
        jnp.asarray(rng.normal(size=(d, c)), dtype),
        jnp.asarray(rng.normal(size=c), dtype),
        rng.integers(0, c, n),
    )


def assert_near(found, expected, tolerance=2e-6):
    """Each array, relative to its largest entry."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        scale = np.abs(np.asarray(b, np.float64)).max() if b.size else 0.0
        assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=0, atol=tolerance * scale)


def plain(x, w, b, y, *, soft_cap=None, where=None, reduction="mean", **options):
    z = x @ w + b[None]
    if soft_cap is not None:
        z = jaxce.soft_cap(z, soft_cap)
    loss = LABEL_LOSS if y.ndim == 1 else jaxce.softmax_cross_entropy
    losses = loss(z, y, where=where, **options)
    if reduction == "mean":
        return jaxce.weighted_mean(losses, where if where is not None and where.ndim == 1 else None)
    return losses.sum() if reduction == "sum" else losses


def shapes_in(program):
    """Of every array in a compiled program, on one device."""
    shapes = re.findall(r"[a-z]\d+\[([\d,]+)\]", program.as_text())
    return [tuple(int(length) for length in shape.split(",")) for shape in shapes]


def longest_axis(program):
    """Of any array that a device holds at any time."""
    shapes = shapes_in(program)
    assert len(shapes) > 100
    return max(max(shape) for shape in shapes)
