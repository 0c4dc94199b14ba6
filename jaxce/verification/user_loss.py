"""`jaxce.verify`: a loss of one's own and its derivatives checked in one call, half precision too."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree

if TYPE_CHECKING:
    from jaxce.verification.checks import Check

UserLoss = Callable[[Any, Any], Array]


@dataclass(frozen=True, repr=False)
class Verdict:
    """What `verify` found. True when all is right; prints as a table, which a failing `assert` shows."""

    checks: tuple["Check", ...]

    @property
    def ok(self) -> bool:
        """Whether every check is within its limit."""
        return all(check.ok for check in self.checks)

    def __bool__(self) -> bool:
        """The same."""
        return self.ok

    def __repr__(self) -> str:
        """A line for each check: its largest error and where that is."""
        return "\n".join(
            f"{'ok   ' if c.ok else 'WRONG'} {c.name:18} {c.error:.3g} {c.unit}".rstrip()
            + f", limit {c.limit:.3g}: {c.note}"
            for c in self.checks
        )


def verify(
    loss: UserLoss,
    inputs: ArrayLike,
    labels: PyTree[ArrayLike],
    *,
    grad: UserLoss | None = None,
    definition: UserLoss | None = None,
    modes: Sequence[str] = ("reverse", "forward"),
    independent: bool = True,
) -> Verdict:
    """Check a loss: its value, its gradient by every way there is, its second derivative, masks and batches.

    The loss is run as it is, in the dtype of the inputs. What it should have given is what the same program
    gives without rounding (jaxce.exact), or a `definition`: so a mistake in the formula itself shows only
    against a definition. Without rounding, too, its gradient is held against differences of its values, and its
    second derivatives against differences of the gradient. Cotangents and tangents are random and differ from
    example to example.

    Errors are relative, and counted in ulp, units in the last place: 84 of them in float32 are 1e-5. They are
    relative to the true value; of an entry of a gradient, to the largest of its example (with a `definition`,
    to itself). Where parts cancel, an ulp is no less than what it does to the truth to move each input and each
    label by one of its own. The limits, with reasons, are in jaxce/verification/tolerances.py.

    Args:
        loss: `loss(inputs, labels)`: one number for each example, or their mean or sum.
        inputs: Logits, predictions, …, of a batch: examples along the first axis. Good ones hold examples that
            are almost certain, badly wrong and tied, and masked entries (−inf) if the loss allows them.
        labels: What the loss takes second: an array, or a tree of them.
        grad: A closed form to check, with the same arguments: d loss / d inputs.
        definition: The formula for one number of the loss, in plain JAX: `definition(row, label)`, or of a loss
            of components `definition(component, label)`, as in jaxce/losses/definitions.py. Where it is 0·∞ at
            infinite inputs, what it tends to is the truth.
        modes: The modes of automatic differentiation that have to work; without "forward" a custom_vjp passes.
        independent: Whether each example has its own loss. False for a loss that compares examples.

    Returns:
        A verdict: true when all is right, and printed as a table.

    Raises:
        ImportError: python-flint, of the extra "verify", is not installed.
        TypeError: Inputs that are no floating-point array.
        ValueError: No examples, labels of another number of them, a mode that there is not, or a definition for
            a loss that is already reduced.

    >>> import jax.numpy as jnp
    >>> def cross_entropy(logits, labels):
    ...     return jax.nn.logsumexp(logits, -1) - (logits * labels).sum(-1)
    >>> bool(verify(cross_entropy, jnp.array([[0.0, 1.0], [2.0, -5.0]]), jnp.eye(2)))
    True
    >>> certain = jnp.array([[0.0, -20.0]]), jnp.array([[1.0, 0.0]])
    >>> [check.name for check in verify(cross_entropy, *certain).checks if not check.ok]  # 2e-9 comes out as 0
    ['value', 'reverse', 'forward']
    """
    try:
        from jaxce.verification.checks import Check
        from jaxce.verification.engine import MODES, Examination
        from jaxce.verification.truth import far_out
    except ModuleNotFoundError as error:
        raise ImportError('verify needs the extra "verify": pip install "jaxce[verify]"') from error

    x, y = as_array(inputs), jax.tree.map(np.asarray, labels)
    if unknown := set(modes) - set(MODES):
        raise ValueError(f"modes holds {sorted(unknown)}, but there are {list(MODES)}")
    if not x.size:
        raise ValueError(f"inputs has shape {x.shape} and holds no example: give at least one")
    for leaf in jax.tree.leaves(y):
        if independent and x.ndim and leaf.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"inputs has shape {x.shape} but labels {leaf.shape}: give as many labels as examples, or "
                "independent=False if the loss compares examples"
            )
    with jax.enable_x64(x.dtype == np.float64):
        shape = getattr(jax.eval_shape(loss, x, y), "shape", None)
    if shape is None:
        raise TypeError("the loss returns several results: verify a function that returns one array of losses")
    if independent and shape and (math.prod(shape) > x.size or shape[0] != x.shape[0]):
        note = f"the loss has shape {shape} for inputs of shape {x.shape}, not one number per example"
        return Verdict((Check("batch", math.inf, 0.0, note, ""),))
    if definition is not None and not shape and x.ndim:
        raise ValueError("a definition is of one example: give the loss unreduced, one number for each")
    truth = definition
    if truth is not None:
        for _ in shape:
            truth = jax.vmap(truth)
    examination = Examination(
        loss,
        x,
        y,
        truth,
        np.random.default_rng(0),
        independent=independent,
        whole=definition is None,
        stand_in=None if truth is None else far_out(truth, x, y),
        modes=modes,
        grads={"closed form": grad} if grad else {},
    )
    return Verdict(tuple(examination.checks()))


def as_array(inputs: Any) -> np.ndarray:
    """The inputs as one floating-point array.

    >>> as_array(([0.0], [1.0, 2.0]))
    Traceback (most recent call last):
    TypeError: inputs must be one array, but is a tuple: put what is not differentiated into labels
    """
    if isinstance(inputs, tuple | dict):
        kind = type(inputs).__name__
        raise TypeError(
            f"inputs must be one array, but is a {kind}: put what is not differentiated into labels"
        )
    x = np.asarray(inputs)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"inputs must be floating-point, but has dtype {x.dtype}: use inputs.astype(float)")
    return x
