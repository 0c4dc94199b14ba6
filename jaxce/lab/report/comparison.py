"""comparison.html: several runs on one page, by what differs: settings, results, curves."""

import math
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from jaxce.lab import charts
from jaxce.lab.charts import Figure, Table
from jaxce.lab.config import LOSS_OPTIONS
from jaxce.lab.files import write_whole
from jaxce.lab.metrics import Metric
from jaxce.lab.report.page import plain, render, seconds
from jaxce.lab.report.run import Run, read_run
from jaxce.lab.tasks import find_metric

TEST_SETTINGS = ("data", "test_fraction", "split_seed")
MOST_NAMED_BY_SETTINGS = 2  # a label of three settings is longer than the folder's name


def write_comparison(workdirs: Sequence[Path], path: Path) -> None:
    """Write a page that compares the runs in `workdirs`, finished or not.

    Raises:
        ConfigError: One is no run's folder, or a file in it is damaged.
    """
    runs = [read_run(workdir) for workdir in workdirs]
    write_whole(path, render("comparison.html", **page_of(runs)))


def page_of(runs: Sequence[Run]) -> dict[str, Any]:
    """What comparison.html shows."""
    differing = differing_settings(runs)
    labels = labels_of(runs, differing)
    unfinished = [label for label, run in zip(labels, runs, strict=True) if run.summary is None]
    other_test = [name for name in differing if name in TEST_SETTINGS]
    other_loss = [name for name in differing if name == "loss" or name in LOSS_OPTIONS]
    note = "Bold: the best of a column."
    if other_test:
        note = f"Nothing compares: these runs differ in {' and '.join(other_test)}, so in their test."
    elif other_loss:
        note += f" Losses do not compare: these runs differ in {' and '.join(other_loss)}."
    return {
        "title": f"{len(runs)} runs compared",
        "subtitle": ", ".join(dict.fromkeys(f"{run.config['data']}" for run in runs)),
        "notices": [f"Unfinished: {', '.join(unfinished)}."] if unfinished else [],
        "results": results(runs, labels, {"loss"} if other_loss else set(), not other_test),
        "note": note,
        "settings": Table(
            ["setting", *labels],
            [[name, *(str(plain(run.config).get(name, "–")) for run in runs)] for name in differing],
            "Settings that differ",
        ),
        "curves": overlaid_curves(runs, labels),
        "folders": list(zip(labels, (str(run.workdir) for run in runs), strict=True)),
    }


def differing_settings(runs: Sequence[Run]) -> list[str]:
    """Names of the settings that do not have one value in all runs."""
    names = dict.fromkeys(name for run in runs for name in run.config)
    return [name for name in names if len({repr(plain(run.config).get(name)) for run in runs}) > 1]


def labels_of(runs: Sequence[Run], differing: Sequence[str]) -> list[str]:
    """What to call each run: by the one or two settings that differ, else by its folder; no two alike."""
    choices = [[run.name for run in runs], [str(run.workdir) for run in runs]]
    if 0 < len(differing) <= MOST_NAMED_BY_SETTINGS:
        by_setting = [
            ", ".join(f"{name.replace('_', ' ')} {plain(run.config).get(name)}" for name in differing)
            for run in runs
        ]
        choices.insert(0, by_setting)
    return next((labels for labels in choices if len(set(labels)) == len(runs)), choices[-1])


def results(runs: Sequence[Run], labels: Sequence[str], incomparable: Set[str], same_test: bool) -> Table:
    """Test metrics and wall time of each run, in bold the best of each metric that compares."""
    tests = [run.summary["test"] if run.summary else {} for run in runs]
    names = list(dict.fromkeys(name for test in tests for name in test))
    best = {}
    for name in names:
        known = [test[name] for test in tests if math.isfinite(test.get(name, math.nan))]
        if same_test and name not in incomparable and len(set(known)) > 1:
            best[name] = (max if find_metric(name, "").larger_is_better else min)(known)
    rows = []
    for run, label, test in zip(runs, labels, tests, strict=True):
        cells: list[str] = [label]
        for name in names:
            shown = escape(find_metric(name, run.config["loss"]).show(test.get(name)))
            is_best = name in best and test.get(name) == best[name]
            cells.append(Markup("<strong>{}</strong>").format(shown) if is_best else shown)
        wall = seconds(run.summary["wall_seconds"]) if run.summary else "–"
        rows.append([*cells, wall, run.status])
    heads = ["run", *(f"test {find_metric(name, '').words}" for name in names), "wall time", "epochs"]
    return Table(heads, rows, "Results")


def overlaid_curves(runs: Sequence[Run], labels: Sequence[str]) -> list[Figure]:
    """One chart for each metric of valid, with a line for each run that has it; then train loss."""
    names = dict.fromkeys(name for run in runs for row in run.rows for name in row)
    shown = [name for name in names if name.startswith("valid_")] + [n for n in names if n == "train_loss"]
    figures = []
    for name in shown:
        lines = {label: run.series(name) for label, run in zip(labels, runs, strict=True)}
        lines = {label: points for label, points in lines.items() if points[0]}
        part, _, metric_name = name.partition("_")
        metrics = {find_metric(metric_name, run.config["loss"]) for run in runs}
        metric = metrics.pop() if len(metrics) == 1 else Metric(metric_name, metric_name)
        limits = charts.without_the_start(list(lines.values()))
        ends = "; ".join(f"{label} ends at {points[1][-1]:.4g}" for label, points in lines.items())
        figures.append(
            Figure(
                f"{part.capitalize()} {metric.words}",
                charts.curves(lines, metric, limits=limits),
                f"Line chart of {part} {metric.words} over epochs: {ends}.",
                "The start is cut off." if limits else "",
            )
        )
    return figures
