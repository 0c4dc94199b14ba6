"""What a check of a loss finds: the largest error of one comparison, its limit, and where it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Check:
    """One property of a loss.

    Attributes:
        name: Which.
        error: The largest error, in `unit`; infinite where a number was not one, or something was raised.
        limit: The largest that is right.
        note: Where the error is, or what went wrong.
        unit: "ulp", or "" for a relative error.
    """

    name: str
    error: float
    limit: float
    note: str = ""
    unit: str = "ulp"

    @property
    def ok(self) -> bool:
        """Whether the error is within its limit."""
        return self.error <= self.limit


def attempt(name: str, checks: Callable[[], list[Check]]) -> list[Check]:
    """The checks, or one that says what was raised: whatever a loss raises is what is wrong with it."""
    try:
        return checks()
    except Exception as problem:
        first_line = (str(problem).splitlines() or [""])[0]
        return [Check(name, math.inf, 0.0, f"{type(problem).__name__}: {first_line}", "")]


def relative(found: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, relative to the largest number."""
    with np.errstate(invalid="ignore"):
        off = np.where(found == right, 0, np.abs(found - right))
        error = float((off / (np.abs(right).max() + 1e-30)).max())
    return math.inf if math.isnan(error) else error


def keep_worst(worst: dict[str, Check], check: Check) -> None:
    """Enter a check if it is worse than the one of its name."""

    def badness(each: Check) -> tuple[bool, float]:
        return not each.ok, each.error / (each.limit or 1)

    if check.name not in worst or badness(check) > badness(worst[check.name]):
        worst[check.name] = check
