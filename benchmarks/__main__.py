"""The front door of the benchmark: which works, the table, JSON, the exit code."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import jax
from rich.console import Console
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, Positional, arg

from benchmarks import eager, heads, losses, sweep, training
from benchmarks.timing import Timing, Work, measure
from jaxce.lab.errors import ConfigError, choose
from jaxce.lab.flags import read_flags

WORKS = {work.name: work for work in (*losses.WORKS, *eager.WORKS, *heads.WORKS, *training.WORKS, *sweep.WORKS)}


@dataclass(frozen=True)
class BenchmarkFlags:
    """Flags of `python -m benchmarks`."""

    works: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="[WORK ...]", help=f"Of {', '.join(WORKS)}; all if left out.", help_behavior_hint=""),
    ] = ()
    json: FlagCreatePairsOff[bool] = False
    """Print numbers only, as JSON."""


def main(args: Sequence[str]) -> int:
    """Measure, print, and return 0, also where a goal is missed; 2 for a mistake in usage."""
    try:
        (flags,) = read_flags(
            (BenchmarkFlags(),),
            args,
            "python -m benchmarks",
            "Time jaxce beside the peers that are installed, in turns, and compare with the goals.",
        )
        for name in flags.works:
            choose("work", name, WORKS)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    wide = None if sys.stdout.isatty() else 120
    console = Console(highlight=False, soft_wrap=True, width=wide)
    found: dict[str, dict[str, Timing | None]] = {}
    for name in flags.works or WORKS:
        found[name] = measure(WORKS[name])
        if not flags.json:
            console.print(as_table(WORKS[name], found[name]))
    if flags.json:
        print(json.dumps(as_json(found), indent=1))
    else:
        console.print(
            f"jax {jax.__version__} on {jax.devices()[0].device_kind}, Python {platform.python_version()}"
        )
    return 0


def as_table(work: Work, timings: Mapping[str, Timing | None]) -> Table:
    """One work: a line for each contender, how many times as long it takes as jaxce, and the goal."""
    ours = timings["jaxce"]
    assert ours is not None
    table = Table(title=f"{work.name}: {work.description}", title_justify="left", box=None)
    columns = ["", "median ms", "fastest", "slowest", "× jaxce", "goal"]
    if ours.memory is not None:
        columns += ["memory MiB", "× jaxce", "goal"]
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    for name, timing in timings.items():
        if timing is None:
            table.add_row(name, "not installed")
        else:
            table.add_row(name, *time_cells(work, name, timing, ours), *memory_cells(work, name, timing, ours))
    return table


def time_cells(work: Work, name: str, timing: Timing, ours: Timing) -> list[str]:
    """Milliseconds, the ratio, and whether the goal was met."""
    if timing.left_out:
        return [timing.left_out, "", "", "", ""]
    ratio, goal = timing.median / ours.median, work.goals.get(name)
    verdict = "" if goal is None else met(ratio >= goal, f"≥ {goal:.2g}")
    if name == "jaxce" and work.at_most is not None:
        verdict = met(ours.median <= work.at_most, f"≤ {work.at_most * 1000:.0f} ms")
    times = [milliseconds(seconds) for seconds in (timing.median, timing.fastest, timing.slowest)]
    return [*times, f"{ratio:.2f}", verdict]


def milliseconds(seconds: float) -> str:
    """Three digits, or all before the point."""
    return f"{seconds * 1000:.3g}" if seconds < 1 else f"{seconds * 1000:.0f}"


def memory_cells(work: Work, name: str, timing: Timing, ours: Timing) -> list[str]:
    """Temporary memory, the ratio, and whether the goal was met."""
    if timing.memory is None or ours.memory is None:
        return []
    ratio, goal = timing.memory / max(ours.memory, 1), work.memory_goals.get(name)
    verdict = "" if goal is None else met(ratio >= goal, f"≥ {goal:.2g}")
    return [f"{timing.memory / 2**20:.0f}", f"{ratio:.2f}", verdict]


def met(yes: bool, goal: str) -> str:
    """The goal, coloured by whether it was met, and said in words too."""
    return f"[green]{goal} met[/]" if yes else f"[red]{goal} missed[/]"


def as_json(found: Mapping[str, Mapping[str, Timing | None]]) -> dict[str, Any]:
    """Seconds, by work and contender."""
    return {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "works": {
            work: {name: None if timing is None else numbers(timing) for name, timing in timings.items()}
            for work, timings in found.items()
        },
    }


def numbers(timing: Timing) -> dict[str, Any]:
    """What is known of a contender; JSON has no NaN."""
    return {name: None if value != value else value for name, value in vars(timing).items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
