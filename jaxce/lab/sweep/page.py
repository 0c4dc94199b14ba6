"""sweep.html: what came of a sweep, on one self-contained page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxce.lab.charts import Figure, Table
from jaxce.lab.files import write_whole
from jaxce.lab.report.page import render
from jaxce.lab.sweep.figures import importance_chart, parallel_coordinates, response_curve
from jaxce.lab.sweep.plan import Plan, describe, show
from jaxce.lab.sweep.results import Row, best_of, by_rank, by_setting, command_of, mean_valid
from jaxce.lab.tasks import find_metric


def write_page(rows: Sequence[Row], importances: Mapping[str, float], plan: Plan, path: Path) -> None:
    """Write the page; sections whose data are not there are left out."""
    write_whole(path, render("sweep.html", **page_of(rows, importances, plan)))


def page_of(rows: Sequence[Row], importances: Mapping[str, float], plan: Plan) -> dict[str, Any]:
    """What sweep.html shows."""
    complete = [row for row in rows if row["state"] == "complete"]
    # Those that vary: a field with one value explains nothing.
    varied = [f for f in plan.fields if len({repr(row["values"][f]) for row in rows}) > 1]
    best = best_of(rows, plan.metric)
    return {
        "title": f"{plan.name}: {len(rows)} settings",
        "subtitle": f"{plan.base.data}, {plan.base.model}; {plan.sampler}: {' '.join(plan.over)}",
        "headline": headline(rows, plan),
        "best": None if best is None else describe(best["values"]),
        "command": None if best is None else command_of(best, plan),
        "overview": overview(rows, importances, varied, plan),
        "responses": [response(complete, field, plan) for field in varied if field != "seed" and complete],
        "results": results(rows, plan),
    }


def headline(rows: Sequence[Row], plan: Plan) -> list[tuple[str, str]]:
    """The few numbers to read first, with their names."""
    metric, words = plan.metric, plan.metric.replace("_", " ")
    found: list[tuple[str, str]] = []
    best = best_of(rows, metric)
    if best is not None:
        loss = best["loss"]
        group = max(by_setting(rows).values(), key=lambda group: mean_valid(group, metric))
        tests = [row["test"][metric] for row in group]
        seeds = f", {len(group)} seeds" if len(group) > 1 else ""
        found = [
            (f"best valid {words}{seeds}", find_metric(metric, loss).show(mean_valid(group, metric))),
            (f"its test {words}{seeds}", find_metric(metric, loss).show(float(np.mean(tests)))),
        ]
    counts = {state: sum(row["state"] == state for row in rows) for state in ("complete", "pruned", "failed")}
    return found + [(state, f"{count}") for state, count in counts.items() if count]


def overview(
    rows: Sequence[Row], importances: Mapping[str, float], varied: Sequence[str], plan: Plan
) -> list[Figure]:
    """Importance and parallel coordinates."""
    figures = []
    known = {field: share for field, share in importances.items() if field in varied}
    if len(known) > 1 and sum(known.values()) > 0:
        words = ", ".join(f"{field} {share:.0%}" for field, share in known.items())
        figures.append(
            Figure(
                "What matters",
                importance_chart(known),
                f"Bar chart of the importance of each field: {words}.",
                "By PED-ANOVA: how far the better settings' values of a field differ from all settings'.",
            )
        )
    trained = [row for row in rows if "valid" in row]
    if varied and len(trained) > 1:
        figures.append(
            Figure(
                "All settings",
                parallel_coordinates(trained, varied, plan.metric),
                f"Parallel coordinates of {len(trained)} settings over {', '.join(varied)}.",
                "One line a setting; the darker, the better. Dashed: ended early.",
            )
        )
    return figures


def response(rows: Sequence[Row], field: str, plan: Plan) -> Figure:
    """What the values of one field give."""
    by_value: dict[str, list[float]] = {}
    for row in rows:
        by_value.setdefault(show(row["values"][field]), []).append(row["valid"][plan.metric])
    words = "; ".join(f"{value} gives {np.mean(found):.4g}" for value, found in list(by_value.items())[:12])
    return Figure(
        field.replace("_", " ").capitalize(),
        response_curve(rows, field, plan.metric),
        f"Mean valid {plan.metric} by {field}: {words}.",
        "Blue: the mean of all settings with that value. Grey: each setting, from its worst seed to its best.",
    )


def results(rows: Sequence[Row], plan: Plan) -> Table:
    """Every setting, best first."""
    metric = plan.metric
    cells = []
    for row in by_rank(rows, metric):
        valid, test = (
            find_metric(metric, row["loss"]).show(row[part][metric]) if part in row else "–"
            for part in ("valid", "test")
        )
        what = {"pruned": f"ended after {row['epochs']} epochs", "failed": f"failed: {row.get('error')}"}
        values = [show(row["values"][field]) for field in plan.fields]
        cells.append([f"{row['setting']}", *values, valid, test, what.get(row["state"], "")])
    words = metric.replace("_", " ")
    fields = [field.replace("_", " ") for field in plan.fields]
    return Table(["setting", *fields, f"valid {words}", f"test {words}", ""], cells, "All settings, best first")
