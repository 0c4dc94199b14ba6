"""What was found, as tables for people and as JSON for programs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxce.verification.checks import Check, keep_worst
from jaxce.verification.conformance import AREAS, Result
from jaxce.verification.implementations import Implementation
from jaxce.verification.suite import Finding
from jaxce.verification.tolerances import limits_of

COLUMNS = {
    "value": "values",
    "closed form": "gradients in closed form",
    "reverse": "gradients by reverse mode, of random cotangents",
    "forward": "gradients by forward mode",
    "masked": "gradients of masked classes, which are 0, as are value and gradient where all are masked",
    "infinite": "values and gradients of components at ±∞, against their limits",
    "differences": "the definition's gradient against differences of its values, both without rounding",
    "second derivative": "by every combination of modes, against differences of the true gradient; float64",
    "convexity": "negative eigenvalue of a Hessian, or a counter-example where the loss says not convex",
}
EXPLANATION = """\
The truth is the definition (jaxce/losses/definitions.py) and its gradient without rounding, by jaxce.exact.
Each number is the largest error over all settings of the options and all points: tame and hostile ones, tiny
losses, logits to ±1e4, ties, masks. Values and gradients: relative to the true number, in ulp, of which 1 is
the distance from 1 to the next float of their dtype. Where parts cancel (as where a soft target is met), an ulp
is no less than what it does to move inputs by a twentieth of one of theirs (logits: of their distance from the
largest), and labels and options that are no whole numbers by one; not so for the tiny losses and far-apart
logits that the specification names, at default options."""


def print_table(found: Sequence[Finding], seconds: float) -> None:
    """Print a line for each loss and dtype, what falls short, and the points where losses are not convex."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print("[bold]" + " " * 10 + "".join(f"{name.split()[0]:>12}" for name in COLUMNS))
    for loss, of_loss in itertools.groupby(found, lambda each: each.loss):
        console.print(f"[bold]{loss}")
        for dtype, of_dtype in itertools.groupby(of_loss, lambda each: each.dtype):
            worst: dict[str, Check] = {}
            for each in of_dtype:
                kind = "masked" if each.check.name.endswith("masked") else each.check.name
                keep_worst(worst, replace(each.check, name=kind))
            console.print(f"  {dtype:8}" + "".join(_cell(worst.get(name)) for name in COLUMNS))
    console.print()
    for name, meaning in COLUMNS.items():
        console.print(f"  [bold]{name:18}[/] {meaning}")
    console.print("\n" + EXPLANATION)
    for dtype in dict.fromkeys(each.dtype for each in found):
        limits = limits_of(dtype, jnp.promote_types(dtype, jnp.float32), False)
        console.print(f"Limits in {dtype}: value {limits.value:g} ulp, gradient {limits.gradient:.3g} ulp")
    counter_examples = [each for each in found if each.check.ok and each.check.note.startswith("not convex")]
    if counter_examples:
        console.print("\n[bold]Not convex")
        for each in counter_examples:
            console.print(f"  {each.loss}: {escape(each.check.note.removeprefix('not convex '))}")
    short = [each for each in found if not each.check.ok]
    _print_short(
        console,
        {
            f"{f.loss}{f' ({f.setting})' if f.setting else ''}, {f.dtype}, {f.check.name}": f.check
            for f in short
        },
    )
    settings = len({(each.loss, each.setting) for each in found})
    outcome = f"[bold red]{len(short)} fall short" if short else "[bold green]nothing falls short"
    console.print(f"\n{len(found)} errors of {settings} settings of losses in {seconds:.0f} s: {outcome}")


def print_scoreboard(
    implementation: Implementation, like: str, results: Sequence[Result], seconds: float
) -> None:
    """Print how many cases of each area an implementation passes, and what is wrong with the others."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{escape(implementation.name)}[/], {implementation.versions}, beside jaxce's {like}\n")
    for area, passed, count in scores(results):
        colour = "dim" if not count else "green" if passed == count else "bold red"
        console.print(f"  {area:16}[{colour}]{f'{passed} of {count}' if count else '–'}[/]")
    short = [each for each in results if not each.check.ok]
    _print_short(console, {f"{each.area}, {each.check.name}": each.check for each in short})
    outcome = f"[bold red]{len(short)} fall short" if short else "[bold green]nothing falls short"
    console.print(f"\n{len(results)} cases in {seconds:.0f} s: {outcome}")


def scores(results: Sequence[Result]) -> list[tuple[str, int, int]]:
    """Of each area the number of cases that are right, and of all: 0 where it is no matter of this loss."""
    of_areas = [(area, [each.check.ok for each in results if each.area == area]) for area in AREAS]
    return [(area, sum(oks), len(oks)) for area, oks in of_areas]


def scoreboard_as_json(
    implementation: Implementation, like: str, results: Sequence[Result], seconds: float
) -> dict[str, Any]:
    """Everything found, one object for each area and for each case; an infinite error is null."""
    return {
        "ok": all(each.check.ok for each in results),
        "seconds": round(seconds, 1),
        "implementation": implementation.name,
        "versions": implementation.versions,
        "like": like,
        "areas": {area: {"passed": passed, "cases": count} for area, passed, count in scores(results)},
        "cases": [{"area": each.area, "case": each.check.name} | _as_json(each.check) for each in results],
    }


def as_json(found: Sequence[Finding], seconds: float) -> dict[str, Any]:
    """Everything found, one object for each loss, setting, dtype and comparison; an infinite error is null."""
    return {
        "ok": all(each.check.ok for each in found),
        "seconds": round(seconds, 1),
        "jax": jax.__version__,
        "findings": [
            {
                "loss": each.loss,
                "setting": each.setting,
                "dtype": each.dtype,
                "comparison": each.check.name,
            }
            | _as_json(each.check)
            for each in found
        ],
    }


def _as_json(check: Check) -> dict[str, Any]:
    return {
        "error": check.error if math.isfinite(check.error) else None,
        "limit": check.limit,
        "unit": check.unit or "relative",
        "ok": check.ok,
        "where": check.note,
    }


def _print_short(console: Any, short: Mapping[str, Check]) -> None:
    """Print what falls short, by its name."""
    from rich.markup import escape

    if short:
        console.print("\n[bold red]Falls short")
    for name, check in short.items():
        error = (
            f": {check.error:.3g} > {check.limit:.3g} {check.unit}".rstrip()
            if math.isfinite(check.error)
            else ""
        )
        console.print(f"  [red]{escape(name + error)}[/]\n    {escape(' '.join(check.note.split()))}")


def _cell(check: Check | None) -> str:
    if check is None:
        return f"[dim]{'–':>12}[/]"
    shown = f"{check.error:.3g}" if check.error > 1e-30 else "0"
    return f"[{'green' if check.ok else 'bold red'}]{shown:>12}[/]"
