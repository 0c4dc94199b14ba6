"""Findings as a table for people and as JSON for programs."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax

from jaxce.verification.findings import Finding, gradient_limit, value_limit

COLUMNS = {
    "value": "value against mpmath",
    "gradient": "closed form against mpmath",
    "reverse": "reverse mode against mpmath",
    "forward": "forward mode against mpmath",
    "autodiff": "closed form against both modes",
    "row sums": "sum of a gradient that has to be zero, over its size",
    "extremes": "value and all gradients: logits to ±1e4, tiny losses, ties, masks, ±inf",
    "central": "closed form against central differences in float64",
    "hessian": "Hessian against central differences of the closed form in float64",
    "convexity": "negative eigenvalue of a Hessian, or a counter-example where the loss says not convex",
}
EXPLANATION = """\
Each number is the largest error over all settings of the options, relative to the truth. Where the truth is
what is left of parts that cancel (as where a soft target is met, or a gradient changes sign), and only there,
it is relative to the size of the parts: Σ |u ∂/∂u| over labels and options u, and a twentieth of it over
exponents, thresholds and inputs (logits by their distance from the largest). Tiny losses and far-apart logits
of the extremes, at default options, are measured by the truth and nothing else. Below 32 times the smallest
normal number all is underflow. Central and hessian: relative to the largest entry of the example."""


def print_table(found: Sequence[Finding], seconds: float) -> None:
    """Print a line for each loss and dtype, what falls short, and the points where losses are not convex."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print("[bold]" + " " * 10 + "".join(f"{name:>10}" for name in COLUMNS))
    for loss, of_loss in itertools.groupby(found, lambda each: each.loss):
        console.print(f"[bold]{loss}")
        for dtype, of_dtype in itertools.groupby(of_loss, lambda each: each.dtype):
            worst: dict[str, Finding] = {}
            for each in of_dtype:
                known = worst.get(each.comparison)
                if known is None or each.error / each.limit > known.error / known.limit:
                    worst[each.comparison] = each
            console.print(f"  {dtype:8}" + "".join(_cell(worst.get(name)) for name in COLUMNS))
    console.print()
    for name, meaning in COLUMNS.items():
        console.print(f"  [bold]{name:10}[/] {meaning}")
    console.print("\n" + EXPLANATION)
    for dtype in dict.fromkeys(each.dtype for each in found):
        limits = f"value {value_limit(dtype):.1e}, gradient {gradient_limit(dtype):.1e}"
        console.print(f"Limits in {dtype}: {limits}")
    counter_examples = [each for each in found if each.ok and each.where.startswith("not convex")]
    if counter_examples:
        console.print("\n[bold]Not convex")
        for each in counter_examples:
            console.print(f"  {each.loss}: {escape(each.where.removeprefix('not convex '))}")
    short = [each for each in found if not each.ok]
    if short:
        console.print("\n[bold red]Falls short")
    for each in short:
        setting = f" ({each.setting})" if each.setting else ""
        what = f"{each.loss}{setting}, {each.dtype}, {each.comparison}: {each.error:.1e} > {each.limit:.1e}"
        console.print(f"  [red]{escape(what)}[/]\n    {escape(each.where)}")
    settings = len({(each.loss, each.setting) for each in found})
    outcome = f"[bold red]{len(short)} fall short" if short else "[bold green]nothing falls short"
    console.print(f"\n{len(found)} errors of {settings} settings of losses in {seconds:.0f} s: {outcome}")


def as_json(found: Sequence[Finding], seconds: float) -> dict[str, Any]:
    """Everything found, one object for each loss, setting, dtype and comparison; an infinite error is null."""
    return {
        "ok": all(each.ok for each in found),
        "seconds": round(seconds, 1),
        "jax": jax.__version__,
        "findings": [
            {
                "loss": each.loss,
                "setting": each.setting,
                "dtype": each.dtype,
                "comparison": each.comparison,
                "error": each.error if math.isfinite(each.error) else None,
                "limit": each.limit,
                "ok": each.ok,
                "where": each.where,
            }
            for each in found
        ],
    }


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return f"[dim]{'–':>10}[/]"
    shown = f"{finding.error:.1e}" if finding.error > 1e-30 else "0"
    return f"[{'green' if finding.ok else 'bold red'}]{shown:>10}[/]"
