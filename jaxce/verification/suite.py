"""Every comparison of a loss of LOSSES: mpmath, automatic differentiation, differences, Hessians, convexity."""

import dataclasses
import inspect
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxce.losses import Loss
from jaxce.verification import formulas, samples
from jaxce.verification.curvature import convexity, differences
from jaxce.verification.exact import Exact, Example, Number, Truth, error, is_floating, truth
from jaxce.verification.findings import (
    Finding,
    Tally,
    gradient_limit,
    smallest_entry,
    smallest_value,
    value_limit,
)
from jaxce.verification.measured import Measured, measure

WIDE = ("float32", "float64")
DTYPES = (*WIDE, "bfloat16", "float16")

# name of the points -> (inputs, labels)
Points = dict[str, tuple[np.ndarray, np.ndarray]]


def verify_loss(loss: Loss, dtype: str, *, thorough: bool = True) -> list[Finding]:
    """The largest errors of a loss in one dtype, at its default options and at each of its cases.

    Args:
        loss: What to verify; everything about it is read from this record.
        dtype: Of the inputs: float32, float64, bfloat16 or float16.
        thorough: More points of each kind, and few and many classes too.

    Returns:
        One finding for each setting and comparison.
    """
    settings = ({}, *loss.cases)
    return [each for case in settings for each in verify_setting(loss, case, dtype, thorough=thorough)]


def verify_setting(loss: Loss, case: Mapping[str, Any], dtype: str, *, thorough: bool = True) -> list[Finding]:
    """The same at one setting of the options."""
    rng = np.random.default_rng(zlib.crc32(loss.name.encode()))
    setting = ", ".join(f"{name}={value}" for name, value in case.items())
    tally = Tally(loss.name, setting, dtype)
    try:
        for num_classes in samples.class_counts(case, few_and_many=thorough and not case and dtype in WIDE):
            points = _points(loss, num_classes, jnp.dtype(dtype), rng, thorough=thorough)
            (against_truth if formula_of(loss) else against_definition)(loss, case, points, tally)
        if dtype == "float64":
            differences(loss, case, rng, tally)
            if not case and loss.convex is not None:
                convexity(loss, rng, tally)
        for comparison in {"value", "gradient"} - tally.worst.keys():
            tally.add(comparison, math.inf, 1.0, lambda: "the definition gives a number at no point")
    except Exception as problem:  # whatever a loss raises where it should not is what is wrong with it
        message = f"{type(problem).__name__}: {problem}"
        tally.add("runs", math.inf, 1.0, lambda: message)
    return list(tally.worst.values())


def _points(loss: Loss, num_classes: int, dtype: Any, rng: np.random.Generator, *, thorough: bool) -> Points:
    per_kind = 2 if thorough and num_classes <= samples.FEW else 1
    tame = samples.tame(loss.inputs, rng, 2 * per_kind, num_classes)
    rows = np.concatenate([tame, samples.hostile(loss.inputs, rng, per_kind, num_classes)])
    if num_classes > samples.FEW:
        rows = rng.permutation(rows)[:3]  # exact arithmetic takes its time
    points = {"any": samples.with_labels(loss, rows, rng, dtype)}
    if loss.inputs == "logits" and loss.returns == "losses" and num_classes <= samples.FEW:
        points["hard"] = samples.hard(loss, num_classes, dtype)
        if samples.by_rows(loss):
            points["masked"] = samples.masked(loss, rng, num_classes, dtype)
            points["all masked"] = samples.all_masked(loss, num_classes, dtype)
        else:
            points["infinite"] = samples.infinite(num_classes, dtype)
    return points


def against_truth(loss: Loss, case: Mapping[str, Any], points: Points, tally: Tally) -> None:
    """Hold values and gradients against mpmath, and the gradients against each other."""
    inputs, labels = (np.concatenate(each) for each in zip(*points.values(), strict=True))
    dtype, by_rows = inputs.dtype, samples.by_rows(loss)
    found = measure(*samples.functions(loss, case), inputs, labels, by_rows)
    everything = list(examples(loss, case, inputs, labels))
    names = np.repeat(list(points), [len(x) * len(everything) // len(inputs) for x, _ in points.values()])
    sums_to_zero = by_rows and loss.returns == "losses" and shift_invariant(everything[0])
    for n, (name, example) in enumerate(zip(names, everything, strict=True)):
        at = found.at(n)
        true = truth(example, smallest_value(dtype))
        if loss.inputs == "features":
            true = along_the_whole(true)
        # the hard cases that the specification names are measured by relative error and nothing else
        compare(at, true, example, dtype, tally, extreme=name != "any", strict=name == "hard" and not case)
        if sums_to_zero:
            row_sum(at.closed, true, example, dtype, tally)


def formula_of(loss: Loss) -> Callable[..., Any] | None:
    """The definition in arithmetic of any precision; None for a loss that has none yet."""
    return getattr(formulas, loss.name, None)


def against_definition(loss: Loss, case: Mapping[str, Any], points: Points, tally: Tally) -> None:
    """Hold values and gradients against the definition in float64, relative to the largest of an example."""
    inputs, labels = points["any"]
    by_rows, limit = samples.by_rows(loss), max(gradient_limit(inputs.dtype), 1e-9)
    found = measure(*samples.functions(loss, case), inputs, labels, by_rows)
    if not by_rows:
        inputs, labels = inputs.ravel(), labels.ravel()

    def definition(x: Any, y: Any) -> Any:
        return jnp.ravel(loss.definition(*samples.arguments(loss, x, y), **case))

    with jax.enable_x64(True):
        wide = inputs.astype(np.float64), labels.astype(np.float64) if is_floating(labels) else labels
        values = np.asarray(jax.vmap(definition)(*wide))
        jacobians = np.asarray(jax.vmap(jax.jacrev(definition))(*wide)).reshape(*values.shape, -1)
    for n, (right, jacobian) in enumerate(zip(values, jacobians, strict=True)):
        at, slopes = found.at(n), np.array([jacobian[entry] for entry in found.entries])
        pairs = {"value": (at.values, right), "gradient": (at.closed, slopes)}
        for name, (got, true) in {
            **pairs,
            "reverse": (at.reverse, slopes),
            "forward": (at.forward, slopes),
        }.items():
            # What float64 rounds is no error; where the formula has no number, nothing can be said.
            size = np.nanmax(np.abs(true), initial=0.0) + 1e-12 / limit
            off = np.nanmax(np.where(np.isnan(true), 0, np.abs(got - true)), initial=0.0) / size
            where = f"({inputs[n]}, {labels[n]}): {name} {got}, not {true}"
            tally.add(name, float(off), limit, partial(str, where))


def along_the_whole(true: Truth) -> Truth:
    """The truth, with entries as parts of their gradient: the axes of features mean nothing, directions do."""

    def parts_of_entry(k: int, i: int) -> Number:
        return max(*(abs(entry) for entry in true.jacobian[k]), true.parts_of_entry(k, i))

    return dataclasses.replace(true, parts_of_entry=parts_of_entry)


def examples(loss: Loss, case: Mapping[str, Any], inputs: np.ndarray, labels: np.ndarray) -> Iterator[Example]:
    """The examples of a batch: its rows, or where each component has a loss of its own, its components.

    Options are rounded as a loss that computes in the inputs' dtype, but at least in float32, rounds them.
    """
    formula = formula_of(loss)
    assert formula is not None
    takes = inspect.signature(formula).parameters
    wide = jnp.promote_types(inputs.dtype, jnp.float32)
    options = {
        name: np.asarray(value, wide) if is_floating(value) else value
        for name, value in {**loss.options, **case}.items()
        if name in takes
    }
    if samples.by_rows(loss):
        for row, label in zip(inputs, labels, strict=True):
            rest = samples.arguments(loss, row, label)[1:]
            origin = float(row.max()) if loss.inputs == "logits" else None
            yield Example(formula, row, rest, options, origin)
        return
    for i, (component, label) in enumerate(zip(inputs.ravel(), labels.ravel(), strict=True)):
        # an option with one number per class holds one number for a component
        own = {name: v[i % len(v)] if np.ndim(v) else v for name, v in options.items()}
        yield Example(formula, np.asarray(component), (label,), own)


def compare(
    found: Measured,
    true: Truth,
    example: Example,
    dtype: Any,
    tally: Tally,
    *,
    extreme: bool = False,
    strict: bool = False,
) -> None:
    """Hold what was measured at one example against the truth.

    Args:
        found: The values of this example, and the entries of its derivatives.
        true: The same, exactly.
        example: Where.
        dtype: Of the inputs.
        tally: Where the errors go.
        extreme: Whether they count for the comparison of this name.
        strict: Errors are relative to the truth, even where it is what is left of parts that cancel.
    """

    def check(
        comparison: str,
        what: str,
        got: float,
        right: Any,
        limit: float,
        tiny: float,
        parts: Callable[[], Number],
    ) -> None:
        off = error(got, right, (lambda: 0) if strict else parts, limit, tiny)
        name = "extremes" if extreme else comparison
        tally.add(name, off, limit, lambda: f"{example}: {what} {got:.9g}, not {float(right):.9g}")

    for k, right in enumerate(true.values):
        parts = partial(true.parts_of_value, k)
        check("value", f"value {k}", found.values[k], right, value_limit(dtype), smallest_value(dtype), parts)
    tiny, limit = smallest_entry(dtype), gradient_limit(dtype)
    for e, (k, i) in enumerate(found.entries):
        parts, right = partial(true.parts_of_entry, k, i), true.jacobian[k][i]
        check("gradient", f"closed form {k, i}", found.closed[e], right, limit, tiny, parts)
        for comparison, by_mode in (("reverse", found.reverse[e]), ("forward", found.forward[e])):
            check(comparison, f"{comparison} mode {k, i}", by_mode, right, limit, tiny, parts)
            if np.isfinite(by_mode):
                check("autodiff", f"closed form {k, i}", found.closed[e], by_mode, 2 * limit, tiny, parts)


def row_sum(gradient: np.ndarray, true: Truth, example: Example, dtype: Any, tally: Tally) -> None:
    """Entries of a gradient that sum to zero do so to the rounding of each, or of the parts of each."""
    total, size = float(abs(gradient.sum())), float(np.abs(gradient).sum())
    limit, tiny = gradient_limit(dtype), smallest_entry(dtype)
    if total > limit * size:
        size = max(size, sum(float(true.parts_of_entry(0, i)) for i in range(len(gradient))))
    off = 0.0 if total <= len(gradient) * tiny else total / size
    tally.add("row sums", off, limit, lambda: f"{example}: the gradient sums to {total:.9g}")


def shift_invariant(example: Example) -> bool:
    """Whether adding a number to all inputs leaves the definition as it is: then its gradient sums to 0."""
    exact = Exact(example, 100)
    moved = [v + 1 if i < exact.num_inputs else v for i, v in enumerate(exact.numbers)]
    (here,), (there,) = exact.at(exact.numbers), exact.at(moved)
    return bool(abs(here - there) < 1e-40 * (1 + abs(here)))
