"""Comparisons in float64: differences of the value and of the closed form, Hessians, convexity."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxce.losses import Loss
from jaxce.verification import samples
from jaxce.verification.exact import Example
from jaxce.verification.findings import Tally
from jaxce.verification.measured import BatchLoss, central, hessians

LIMIT = 1e-8  # of differences, relative to the largest entry of an example
CONVEX = 1e-12  # how negative rounding may make an eigenvalue, relative to the largest entry of all Hessians
NOT_CONVEX = -1e-4  # and how negative it certainly cannot
STEP = 2.0**-9


def differences(loss: Loss, case: Mapping[str, Any], rng: np.random.Generator, tally: Tally) -> None:
    """Hold the closed form against differences of the value, the Hessian against those of the closed form."""
    (num_classes,) = samples.class_counts(case, few_and_many=False)
    rows = samples.tame(loss.inputs, rng, 6, num_classes)
    if loss.inputs == "logits":
        rows = np.concatenate([rows, np.zeros((1, num_classes))])  # all tied
    x, y = samples.with_labels(loss, rows, rng, np.float64)
    by_rows = samples.by_rows(loss)
    value, grad = _as_one_number(loss, case)
    slopes = _moved(value, x, y, loss.inputs, by_rows)
    _hold("central", _in_float64(grad)(x, y), slopes, x, y, tally)
    curves = _moved(grad, x, y, loss.inputs, by_rows)
    _hold("hessian", hessians(value, x, y, by_rows), curves, x, y, tally)


def _as_one_number(loss: Loss, case: Mapping[str, Any]) -> tuple[BatchLoss, BatchLoss]:
    """Value and gradient; of a head, those of the sum of its logits."""
    value, grad = samples.functions(loss, case)
    if loss.returns == "losses":
        return value, grad

    def grad_of_sum(x: Array, y: Array) -> Array:
        found = grad(x, y)
        return found if found.ndim == x.ndim else found.sum(-2)  # each logit's in its own entry, or Jacobians

    return lambda x, y: value(x, y).sum(-1), grad_of_sum


def convexity(loss: Loss, rng: np.random.Generator, tally: Tally) -> None:
    """Look for a Hessian with a negative eigenvalue: none where the loss says convex, one where it says not."""
    rows = samples.tame(loss.inputs, rng, 200, 3)
    if loss.inputs == "logits":
        rows = np.concatenate([rows, 3 * rows, rows / 10, np.zeros((1, 3))])
    x, y = samples.with_labels(loss, rows, rng, np.float64)
    if loss.labels == "distribution":
        y /= y.sum(-1, keepdims=True)
    value, _ = samples.functions(loss, {})
    hessian = hessians(value, x, y, samples.by_rows(loss))
    if samples.by_rows(loss):
        smallest = np.linalg.eigvalsh(hessian)[:, 0]
    else:
        x, y, smallest = x.ravel(), y.ravel(), hessian.ravel()
    worst = int(np.argmin(np.nan_to_num(smallest, nan=-np.inf)))
    relative = float(smallest[worst]) / max(float(np.abs(hessian).max()), 1e-300)
    point = Example(loss.definition, x[worst], samples.arguments(loss, x[worst], y[worst])[1:], {})
    what = f"{point}: the Hessian has eigenvalue {smallest[worst]:.6g}"
    if loss.convex:
        tally.add("convexity", max(-relative, 0.0) if relative == relative else math.inf, CONVEX, lambda: what)
    elif relative < NOT_CONVEX:
        tally.add("convexity", 0.0, CONVEX, lambda: f"not convex at {what}")
    else:
        _above_a_chord(loss, x, y, tally)


def _above_a_chord(loss: Loss, x: np.ndarray, y: np.ndarray, tally: Tally) -> None:
    """A loss of steps has no curvature to see: look for two points between which it exceeds their mean."""
    value = _in_float64(samples.functions(loss, {})[0])
    other = np.roll(x, 1, 0)
    mean, between = (value(x, y) + value(other, y)) / 2, value((x + other) / 2, y)
    worst = int(np.argmax(between - mean))
    where = (
        f"label {y[worst]}: at {x[worst]} and {other[worst]} the loss is {mean[worst]:.6g} on average, "
        f"half-way between {between[worst]:.6g}"
    )
    if between[worst] > mean[worst] - NOT_CONVEX:
        tally.add("convexity", 0.0, CONVEX, lambda: f"not convex with {where}")
    else:
        nothing = f"says that it is not convex, but {len(x)} points show nothing of it"
        tally.add("convexity", math.inf, CONVEX, lambda: nothing)


def _moved(
    function: BatchLoss, x: np.ndarray, y: np.ndarray, kind: str, by_rows: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Differences [batch, *out, classes] of `function` along each input in turn, with their uncertainty."""
    room = {"probs": np.abs(x), "cosines": 1 - np.abs(x)}.get(kind, np.ones_like(x))  # within the domain
    steps = STEP * room
    if not by_rows:
        return central(lambda x: _in_float64(function)(x, y), x, steps, steps)
    num_classes = x.shape[-1]
    copies, labels = np.repeat(x, num_classes, 0), np.repeat(y, num_classes, 0)
    moves = steps.reshape(-1, 1) * np.tile(np.eye(num_classes), (len(x), 1))
    found = central(lambda x: _in_float64(function)(x, labels), copies, moves)
    out = found[0].shape[1:]
    per_step = steps.reshape(*x.shape, *(1 for _ in out))
    slopes, off = (np.moveaxis(each.reshape(*x.shape, *out) / per_step, 1, -1) for each in found)
    return slopes, off


def _hold(
    comparison: str,
    found: np.ndarray,
    differences: tuple[np.ndarray, np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    tally: Tally,
) -> None:
    """Hold entries against those differences that have settled, relative to the largest of their example."""
    slopes, uncertainty = differences
    axes = tuple(range(1, slopes.ndim))
    size = np.maximum(np.abs(slopes).max(axes, keepdims=True), 1e-3)
    settled = uncertainty <= LIMIT * size
    if settled.mean() < 0.5:
        tally.add(comparison, math.inf, LIMIT, lambda: f"only {settled.mean():.0%} of the differences settle")
    errors = np.where(settled, np.abs(found - slopes) / size, 0).max(axes)
    worst = int(np.argmax(np.nan_to_num(errors, nan=np.inf)))
    where = f"({x[worst]}, {y[worst]}): {found[worst]}, not {slopes[worst]}".replace("\n", "")
    tally.add(comparison, float(errors[worst]), LIMIT, lambda: where)


def _in_float64(function: BatchLoss) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(function(jnp.asarray(x), jnp.asarray(y)))

    return run
