"""report.html: one run on one self-contained page, each section there where the data for it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.filesize import decimal

from jaxce.lab import charts
from jaxce.lab.charts import Figure, Sections
from jaxce.lab.config import Config
from jaxce.lab.files import write_whole
from jaxce.lab.metrics import Metric
from jaxce.lab.report.run import Run, read_run, repeat_command
from jaxce.lab.tasks import find_metric

GRADIENT_NORM = Metric("grad_norm", "norm", larger_is_better=False)


def write_report(workdir: Path) -> Path:
    """Write report.html into the folder of a run, finished or not.

    Returns:
        Where it is.

    Raises:
        ConfigError: `workdir` is no run's folder, or a file in it is damaged.
    """
    path = workdir / "report.html"
    write_whole(path, render("run.html", **page_of(read_run(workdir))))
    return path


def render(template: str, **context: Any) -> str:
    """A page of templates/, whatever stands in `context` escaped."""
    environment = Environment(
        loader=PackageLoader("jaxce.lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**context)


def page_of(run: Run) -> dict[str, Any]:
    """What run.html shows."""
    config, sections = run.config, Sections()
    if run.task is not None and run.predictions is not None:
        sections = run.task.sections(run.predictions)
    return sections._asdict() | {
        "title": f"{run.name} · jaxce",
        "run": run,
        "subtitle": ", ".join(
            str(config[name]) for name in ("data", "model", "head", "loss") if config.get(name)
        ),
        "headline": headline(run, sections.numbers),
        "curves": learning_curves(run),
        "command": repeat_command(config),
        "settings": [
            (name, value, value != getattr(Config(), name, None)) for name, value in plain(config).items()
        ],
        "versions": provenance(run.summary) if run.summary else [],
    }


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as Config holds them: JSON has lists for tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}


def provenance(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the numbers came from: device, its memory and versions."""
    device = summary.get("device", {})
    rows = [("device", f"{device.get('count', 1)} × {device.get('kind', 'unknown')}")]
    if memory := sum(summary.get("memory", {}).values()):
        rows.append(("memory of each", decimal(memory)))
    return rows + list(summary.get("versions", {}).items())


def headline(run: Run, numbers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The numbers to read first, with their names: of test, and `numbers`; of valid until these are there."""
    if run.summary is None:
        last = run.rows[-1] if run.rows else {}
        part, scores = "valid", {name[6:]: value for name, value in last.items() if name.startswith("valid_")}
    else:
        part, scores = "test", run.summary["test"]
    metrics = {find_metric(name, run.config["loss"]): value for name, value in scores.items()}
    first = [(f"{part} {metric.words}", metric.show(value)) for metric, value in metrics.items()]
    if run.summary is None:
        return first
    wall_time = seconds(run.summary["wall_seconds"])
    return [*first, *numbers, ("epochs", f"{len(run.rows)}"), ("wall time", wall_time)]


def seconds(value: float) -> str:
    """A duration.

    >>> seconds(9.26), seconds(75), seconds(7500)
    ('9.3 s', '1 min 15 s', '2 h 5 min')
    """
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def learning_curves(run: Run) -> list[Figure]:
    """A chart for each metric that the rows have of train or valid, and for the gradient's norm."""
    names = dict.fromkeys(name for row in run.rows for name in row)
    metrics = dict.fromkeys(name.split("_", 1)[1] for name in names if name.startswith(("train_", "valid_")))
    figures = [curve_of(run, find_metric(name, run.config["loss"])) for name in metrics]
    epochs, norms = run.series("grad_norm")
    if norms and min(norms) > 0:
        src = charts.curves({"": (epochs, norms)}, GRADIENT_NORM, log=max(norms) > 20 * min(norms))
        alt = f"Line chart over {len(epochs)} epochs: gradient norm from {norms[0]:.3g} to {norms[-1]:.3g}."
        caption = "Of the loss alone, before weight decay and clipping; mean over an epoch's steps."
        figures.append(Figure("Gradient norm", src, alt, caption))
    return figures


def curve_of(run: Run, metric: Metric) -> Figure:
    """The chart of one metric of train and valid."""
    lines = {part: run.series(f"{part}_{metric.name}") for part in ("train", "valid")}
    lines = {part: points for part, points in lines.items() if points[0]}
    epochs, values = lines.get("valid") or next(iter(lines.values()))
    best = int((np.argmax if metric.larger_is_better else np.argmin)(values))
    every = [value for _, points in lines.values() for value in points]
    log = metric.name.endswith(("loss", "entropy")) and min(every) > 0 and max(every) > 30 * min(every)
    mark = epochs[best] if "valid" in lines and len(epochs) > 1 else None
    limits = None if log else charts.without_the_start(list(lines.values()))
    ends = "; ".join(
        f"{part} from {metric.show(v[0])} to {metric.show(v[-1])}" for part, (_, v) in lines.items()
    )
    caption = f"Best of valid: {metric.show(values[best])} at epoch {epochs[best]} (ring)." if mark else ""
    return Figure(
        metric.title,
        charts.curves(lines, metric, log=log, mark=mark, limits=limits),
        f"Line chart of {metric.words} over {len(epochs)} epochs: {ends}.",
        caption + (" The start is cut off." if limits else ""),
    )
