"""`jaxce.verify`: a loss of one's own and its derivatives checked in one call, half precision too."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from jaxce.verification.reference import CURVATURE_LIMIT, ByDefinition, InFloat64, UserLoss

MOST_ENTRIES = 256  # of a gradient that are looked at; where there are more, so many drawn at random
MOST_EXAMPLES = 16  # that are also tried one by one


@dataclass(frozen=True)
class Check:
    """One property of a loss: its largest error, the limit, and where the error is or what went wrong."""

    name: str
    error: float
    limit: float
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the error is within its limit."""
        return self.error <= self.limit


@dataclass(frozen=True, repr=False)
class Verdict:
    """What `verify` found. True when all is right; prints as a table, which a failing `assert` shows."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check is within its limit."""
        return all(check.ok for check in self.checks)

    def __bool__(self) -> bool:
        """The same."""
        return self.ok

    def __repr__(self) -> str:
        """A line for each check, with a note on what is wrong."""
        return "\n".join(
            f"{'ok   ' if c.ok else 'WRONG'} {c.name:18} {c.error:7.1e}, limit {c.limit:.1e}"
            + (f": {c.note}" if not c.ok else "")
            for c in self.checks
        )


def verify(
    loss: UserLoss,
    inputs: ArrayLike,
    labels: PyTree[ArrayLike],
    *,
    grad: UserLoss | None = None,
    definition: Callable[..., Any] | None = None,
    modes: Sequence[str] = ("reverse", "forward"),
    independent: bool = True,
) -> Verdict:
    """Check a loss: its value, its gradient by every way there is, its second derivative, masks and batches.

    The loss is run as it is, in the dtype of the inputs. What it should have given comes from the same function
    in float64 on the same numbers, and from central differences there, whether or not jax_enable_x64 is set: so
    float16 and bfloat16 are held to what they can do. A mistake in the formula itself, or digits that float64
    loses too, show only against a `definition`.

    Errors are relative: of a value to itself, of an entry of a gradient to the largest of its example (with a
    `definition`, to itself). What rounding the inputs would change is nobody's fault and not counted.

    Args:
        loss: `loss(inputs, labels)`: one number for each example, or their mean or sum.
        inputs: Logits, predictions, …, of a batch: examples along the first axis. Good ones hold examples that
            are almost certain, badly wrong and tied, and masked entries (−inf) if the loss allows them.
        labels: What the loss takes second: an array, or a tree of them.
        grad: A closed form to check, with the same arguments: d loss / d inputs.
        definition: The formula for one row, or one component, in the functions of mpmath:
            `definition(mpmath, row, label)`.
        modes: The modes of automatic differentiation that have to work; without "forward" a custom_vjp passes.
        independent: Whether each example has its own loss. False for a loss that compares examples.

    Returns:
        A verdict: true when all is right, and printed as a table.

    Raises:
        TypeError: Inputs that are not floating-point.
        ValueError: A mode that there is not, or a definition for a loss that is already reduced.

    >>> def cross_entropy(logits, labels):
    ...     return jax.nn.logsumexp(logits, -1) - (logits * labels).sum(-1)
    >>> bool(verify(cross_entropy, jnp.array([[0.0, 1.0], [2.0, -5.0]]), jnp.eye(2)))
    True
    >>> certain = jnp.array([[0.0, -20.0]]), jnp.array([[1.0, 0.0]])
    >>> [check.name for check in verify(cross_entropy, *certain).checks if not check.ok]  # 2e-9 comes out as 0
    ['value', 'reverse', 'forward']
    """
    x, y = np.asarray(inputs), jax.tree.map(np.asarray, labels)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"inputs must be floating-point, but has dtype {x.dtype}: use inputs.astype(float)")
    if unknown := set(modes) - set(MODES):
        raise ValueError(f"modes holds {sorted(unknown)}, but there are {list(MODES)}")
    value = _in_own_dtype(jax.jit(loss), x, y)
    if independent and value.ndim and (value.size > x.size or value.shape[0] != x.shape[0]):
        note = f"the loss has shape {value.shape} for inputs of shape {x.shape}, not one number per example"
        return Verdict((Check("batch", math.inf, 0.0, note),))

    chosen = np.flatnonzero(np.isfinite(x.astype(np.float64)))
    if len(chosen) > MOST_ENTRIES:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MOST_ENTRIES, replace=False))
    in_float64 = InFloat64(loss, x, y, value, chosen)
    right = ByDefinition(definition, x, y, value, chosen) if definition else in_float64
    checks = [_largest("value", right.value_errors(_wide(value)).ravel(), right.value_limit, value.shape)]
    ways = {mode: MODES[mode](loss) for mode in modes} | ({"closed form": _closed_form(grad)} if grad else {})
    for name, entries in ways.items():
        checks += _gradient_checks(name, entries, x, y, chosen, right)
    checks += _attempt("second derivative", in_float64.curvature_error, CURVATURE_LIMIT)
    if independent and (value.ndim or x.ndim > 1):
        checks += _attempt("batch", lambda: _batch_error(loss, x, y), right.value_limit)
    return Verdict(tuple(checks))


# (inputs, labels, indices into the flat inputs) -> those entries of the gradient
Entries = Callable[[np.ndarray, Any, np.ndarray], np.ndarray]


def _reverse(loss: UserLoss) -> Entries:
    return _closed_form(jax.grad(lambda x, y: loss(x, y).sum()))


def _closed_form(grad: UserLoss) -> Entries:
    def entries(x: np.ndarray, y: Any, indices: np.ndarray) -> np.ndarray:
        gradient = _in_own_dtype(grad, x, y)
        if gradient.shape != x.shape:
            raise ValueError(f"the gradient has shape {gradient.shape}, but the inputs {x.shape}")
        return _wide(gradient).ravel()[indices]

    return entries


def _forward(loss: UserLoss) -> Entries:
    @jax.jit
    def along(x: jax.Array, y: Any, direction: jax.Array) -> jax.Array:
        return jax.jvp(lambda x: loss(x, y), (x,), (direction,))[1].sum()

    def entries(x: np.ndarray, y: Any, indices: np.ndarray) -> np.ndarray:
        units = ((np.arange(x.size) == i).reshape(x.shape).astype(x.dtype) for i in indices)
        return np.array([float(_in_own_dtype(along, x, y, unit)) for unit in units])

    return entries


MODES: dict[str, Callable[[UserLoss], Entries]] = {"reverse": _reverse, "forward": _forward}


def _gradient_checks(
    name: str, entries: Entries, x: np.ndarray, y: Any, chosen: np.ndarray, right: InFloat64 | ByDefinition
) -> list[Check]:
    try:
        errors = right.gradient_errors(entries(x, y, chosen))
        checks = [_largest(name, errors, right.gradient_limit, x.shape, chosen)]
        masked = np.flatnonzero(x == -np.inf)[:MOST_ENTRIES]
        if masked.size:
            checks.append(_largest(f"{name}, masked", np.abs(entries(x, y, masked)), 0.0, x.shape, masked))
    except Exception as problem:  # whatever a user's function raises is what is wrong with it
        return [_raised(name, problem)]
    return checks


def _batch_error(loss: UserLoss, x: np.ndarray, y: Any) -> float:
    """How far the loss of a batch is from the losses of its examples; reduced, from their mean or their sum."""
    few = min(len(x), MOST_EXAMPLES)

    def part(start: int, stop: int) -> np.ndarray:
        return _wide(_in_own_dtype(loss, x[start:stop], jax.tree.map(lambda leaf: leaf[start:stop], y)))

    together = part(0, few)
    alone = np.stack([part(i, i + 1) for i in range(few)])
    if not together.ndim:
        return min(_relative(together, np.mean(alone)), _relative(together, np.sum(alone)))
    alone = alone.reshape(-1, *together.shape[1:])
    return _relative(together, alone) if alone.shape == together.shape else math.inf


def _relative(found: Any, right: Any) -> float:
    with np.errstate(invalid="ignore"):
        off = np.where(found == right, 0, np.abs(found - right))
    return float((off / (np.abs(right).max() + 1e-30)).max())


def _attempt(name: str, error: Callable[[], float], limit: float) -> list[Check]:
    try:
        found = error()
    except Exception as problem:  # as above
        return [_raised(name, problem)]
    return [Check(name, math.inf if math.isnan(found) else found, limit)]


def _raised(name: str, problem: Exception) -> Check:
    first_line = (str(problem).splitlines() or [""])[0]
    return Check(name, math.inf, 0.0, f"{type(problem).__name__}: {first_line}")


def _largest(
    name: str, errors: np.ndarray, limit: float, shape: tuple[int, ...], indices: np.ndarray | None = None
) -> Check:
    """The largest of the errors of entries of an array of this shape, and where it is; NaN is the largest."""
    errors = np.where(np.isnan(errors), np.inf, errors)
    if not errors.size:
        return Check(name, 0.0, limit)
    worst = int(np.argmax(errors))
    entry = np.unravel_index(worst if indices is None else indices[worst], shape)
    return Check(name, float(errors[worst]), limit, f"largest at [{', '.join(map(str, entry))}]")


def _in_own_dtype(function: Callable[..., Any], x: np.ndarray, *rest: Any) -> jax.Array:
    with jax.enable_x64(x.dtype == np.float64):
        return function(jnp.asarray(x), *jax.tree.map(jnp.asarray, rest))


def _wide(array: jax.Array) -> np.ndarray:
    return np.asarray(array).astype(np.float64)
