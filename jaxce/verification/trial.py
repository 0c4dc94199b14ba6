"""One trial of an implementation of a loss: at which points, and how a case of it is judged."""

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxce.losses import Loss
from jaxce.verification import samples
from jaxce.verification.checks import Check, attempt, relative
from jaxce.verification.engine import Examination
from jaxce.verification.implementations import Implementation
from jaxce.verification.suite import examination, sizes_of

CLASSES = samples.FEW
CLOSE = 1e-5  # relative, of numbers that are the same but for rounding in float32
RIGHT = Check("", 0.0, 0.0, "", "")

Cases = Iterator[Check]


@dataclass(frozen=True)
class Trial:
    """An implementation and the loss of jaxce whose definition it should follow."""

    implementation: Implementation
    loss: Loss

    @property
    def rng(self) -> np.random.Generator:
        """A new one each time, seeded by the loss: every implementation of it is tried at the same points."""
        return np.random.default_rng(zlib.crc32(self.loss.name.encode()))

    @cached_property
    def fast(self) -> Implementation:
        """Under jit, unless it cannot be compiled."""
        try:
            self.implementation.compiled.value(*self.points("tame", np.float32))
        except Exception:  # the area "jit" says which
            return self.implementation
        return self.implementation.compiled

    @property
    def by_rows(self) -> bool:
        """Whether there is a loss for each row."""
        return samples.by_rows(self.loss)

    def shape_of(self, x: Any) -> tuple[int, ...]:
        """That of the losses of inputs."""
        return x.shape[:1] if self.by_rows else x.shape

    def points(self, kind: str, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of a kind: tame, hostile, certain or masked."""
        dtype = jnp.dtype(dtype)
        if kind == "certain":
            return samples.hard(self.loss, CLASSES, dtype)
        if kind == "masked":
            return samples.masked(self.loss, self.rng, CLASSES, dtype)
        rows = getattr(samples, kind)(self.loss.inputs, self.rng, 4, CLASSES)
        return samples.with_labels(self.loss, rows, self.rng, dtype)

    def examination(self, x: np.ndarray, y: np.ndarray, dtype: Any, *, exactly: bool = False) -> Examination:
        """The truth at points, and how far from it results of this dtype may be."""

        def of_dtype(x: Any, y: Any) -> Any:
            return jnp.zeros(self.shape_of(x), dtype)

        sizes = np.zeros(x.shape) if exactly else sizes_of(self.loss, x)
        return examination(self.loss, {}, of_dtype, x, y, self.rng, sizes=sizes, grads={})


def case(name: str, find: Callable[..., Check], *args: Any) -> Check:
    """A check under the name of its case; what the implementation raises is what is wrong with it."""
    return replace(attempt(name, lambda: [find(*args)])[0], name=name)


def same(found: Callable[[], np.ndarray], right: Callable[[], np.ndarray]) -> Check:
    """Numbers that differ in nothing but how they were come by."""
    theirs, ours = found(), right()
    if theirs.shape != ours.shape:
        return Check("", math.inf, 0.0, f"the shape is {theirs.shape}, not {ours.shape}", "")
    return Check("", relative(theirs.astype(np.float64), ours.astype(np.float64)), CLOSE, "not the same", "")


def refused(run: Callable[[], np.ndarray]) -> Check:
    """An error, and nothing else."""
    try:
        found = run()
    except Exception:
        return RIGHT
    return Check("", math.inf, 0.0, f"gives losses of shape {found.shape}, no error", "")


def no_number(run: Callable[[], np.ndarray]) -> Check:
    """An error, or NaN: what a mistake should give."""
    try:
        found = run().astype(np.float64)
    except Exception:
        return RIGHT
    if found.size and np.isnan(found).all():
        return RIGHT
    shown = np.array2string(found, precision=4, threshold=8)
    return Check("", math.inf, 0.0, f"gives {shown}, neither an error nor NaN", "")


def error_or(right: np.ndarray, run: Callable[[], np.ndarray]) -> Check:
    """An error, or what is meant."""
    try:
        found = run()
    except Exception:
        return RIGHT
    return same(lambda: found, lambda: right)
