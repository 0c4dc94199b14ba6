"""Whether a loss is as convex as its record says: eigenvalues of Hessians, or two points and their mean."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxce.losses import Loss
from jaxce.verification import samples
from jaxce.verification.checks import Check

CONVEX = 1e-12  # how negative rounding may make an eigenvalue, relative to the largest entry of all Hessians
NOT_CONVEX = -1e-4  # and how negative it certainly cannot


def convexity(loss: Loss, rng: np.random.Generator) -> Check:
    """Look for a Hessian with a negative eigenvalue: none where the loss says convex, one where it says not."""
    rows = samples.tame(loss.inputs, rng, 200, 3)
    if loss.inputs == "logits":
        rows = np.concatenate([rows, 3 * rows, rows / 10, np.zeros((1, 3))])
    x, y = samples.with_labels(loss, rows, rng, np.float64)
    if loss.labels == "distribution":
        y /= y.sum(-1, keepdims=True)
    value, _ = samples.functions(loss, {})
    with jax.enable_x64(True):
        hessian = np.asarray(jax.jit(lambda x, y: _hessians(value, x, y, samples.by_rows(loss)))(x, y))
    if samples.by_rows(loss):
        smallest = np.linalg.eigvalsh(hessian)[:, 0]
    else:
        x, y, smallest = x.ravel(), y.ravel(), hessian.ravel()
    worst = int(np.argmin(np.nan_to_num(smallest, nan=-np.inf)))
    relative = float(smallest[worst]) / max(float(np.abs(hessian).max()), 1e-300)
    note = f"at {x[worst]}, label {y[worst]}, the Hessian has eigenvalue {smallest[worst]:.6g}"
    if loss.convex:
        return Check("convexity", max(-relative, 0.0) if relative == relative else math.inf, CONVEX, note, "")
    if relative < NOT_CONVEX:
        return Check("convexity", 0.0, CONVEX, f"not convex {note}", "")
    return _above_a_chord(value, x, y)


def _hessians(value: Any, x: Array, y: Array, by_rows: bool) -> Array:
    def grad(x: Array) -> Array:
        return jax.grad(lambda x: value(x, y).sum())(x)

    if not by_rows:
        return jax.jvp(grad, (x,), (jnp.ones_like(x),))[1]
    columns = [jax.jvp(grad, (x,), (jnp.zeros_like(x).at[:, j].set(1),))[1] for j in range(x.shape[1])]
    return jnp.stack(columns, -1)


def _above_a_chord(value: Any, x: np.ndarray, y: np.ndarray) -> Check:
    """A loss of steps has no curvature to see: look for two points between which it exceeds their mean."""
    other = np.roll(x, 1, 0)
    with jax.enable_x64(True):
        here, there, between = (np.asarray(value(each, y)) for each in (x, other, (x + other) / 2))
    mean = (here + there) / 2
    worst = int(np.argmax(between - mean))
    if between[worst] > mean[worst] - NOT_CONVEX:
        note = f"not convex at {x[worst]} and {other[worst]}, label {y[worst]}: {mean[worst]:.6g} on average"
        return Check("convexity", 0.0, CONVEX, f"{note}, half-way between {between[worst]:.6g}", "")
    return Check(
        "convexity", math.inf, CONVEX, f"says that it is not convex, but {len(x)} points show nothing", ""
    )
