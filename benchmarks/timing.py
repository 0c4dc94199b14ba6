"""Contenders at one piece of work, timed in turns, so that a noisy machine is noisy to all of them alike."""

import gc
import importlib.util
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        run: Does it `steps` times over and returns arrays to wait for; or why it is left out, in a few words.
        steps: How many times.
        memory: Bytes that its compiled program allocates beside arguments and results, where that is known.
    """

    run: Callable[[], Any] | str
    steps: int = 1
    memory: int | None = None


@dataclass(frozen=True)
class Work:
    """One line of the benchmark.

    Attributes:
        name: What the command line calls it.
        description: What is done, in one line.
        contenders: Makes the inputs and the contenders, `jaxce` among them; None stands for a peer that is
            not installed.
        goals: By how much jaxce is to be faster than each of them: 2.0 is half the time.
        rounds: Turns after the first, which is left out as it compiles.
        at_most: Seconds that jaxce's own time may take; None when only ratios count.
        memory_goals: How many times jaxce's memory each of them is to take at least.
    """

    name: str
    description: str
    contenders: Callable[[], Mapping[str, Contender | None]]
    goals: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 15
    at_most: float | None = None
    memory_goals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """Seconds per step of one contender, NaN where it was left out, and why; bytes, None where not known."""

    median: float
    fastest: float
    slowest: float
    memory: int | None = None
    left_out: str = ""


def measure(work: Work) -> dict[str, Timing | None]:
    """Time every contender of `work`, one after the other in each round."""
    contenders = work.contenders()
    present = {name: each for name, each in contenders.items() if each is not None}
    seconds: dict[str, list[float]] = {name: [] for name in present}
    for round_number in range(work.rounds + 1):
        for name, contender in present.items():
            if isinstance(contender.run, str):
                continue
            gc.collect()  # not in the middle of somebody's turn
            start = time.perf_counter()
            jax.block_until_ready(contender.run())
            if round_number:
                seconds[name].append((time.perf_counter() - start) / contender.steps)
    return {name: None if each is None else timing(seconds[name], each) for name, each in contenders.items()}


def timing(seconds: list[float], contender: Contender) -> Timing:
    """What is known of a contender after its turns."""
    if isinstance(contender.run, str):
        return Timing(math.nan, math.nan, math.nan, contender.memory, contender.run)
    return Timing(float(np.median(seconds)), min(seconds), max(seconds), contender.memory)


def installed(name: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(name) is not None
