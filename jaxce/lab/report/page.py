"""report.html: one run on one self-contained page, each section there where the data for it is."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.filesize import decimal

from jaxce.lab.config import Config
from jaxce.lab.files import write_whole
from jaxce.lab.metrics import expected_calibration_error, of_each_class, ranking_of_each_class, reliability
from jaxce.lab.report import charts, embedding
from jaxce.lab.report.parts import Example, Figure, Gallery, Table, in_hundredths, pictures
from jaxce.lab.report.predictions import Predictions
from jaxce.lab.report.run import Run, read_run, repeat_command

MOST_CLASSES = 50  # more make neither a legible matrix nor a table that is read


def write_report(workdir: Path) -> Path:
    """Write report.html into the folder of a run, finished or not.

    Returns:
        Where it is.

    Raises:
        ConfigError: `workdir` is no run's folder, or a file in it is damaged.
    """
    run = read_run(workdir)
    path = workdir / "report.html"
    write_whole(path, render("run.html", **page_of(run)))
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
    found, config = run.predictions, run.config
    return {
        "title": f"{run.name} · jaxce",
        "run": run,
        "subtitle": ", ".join(
            str(config[name]) for name in ("data", "model", "head", "loss") if config.get(name)
        ),
        "headline": headline(run),
        "curves": learning_curves(run),
        "figures": test_figures(found) if found else [],
        "galleries": galleries(found) if found else [],
        "classes": class_table(found) if found and 0 < len(found.classes) <= MOST_CLASSES else None,
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


def headline(run: Run) -> list[tuple[str, str]]:
    """The few numbers to read first, with their names."""
    if run.summary is None:
        last = run.rows[-1] if run.rows else {}
        return [
            (in_words(name), in_unit(name, value, run.config["loss"]))
            for name, value in last.items()
            if name.startswith("valid_")
        ]
    numbers = [
        (f"test {in_words(name)}", in_unit(name, value, run.config["loss"]))
        for name, value in run.summary["test"].items()
        if isinstance(value, int | float)
    ]
    found = run.predictions
    if found is not None and found.kind not in ("number", "embedding"):
        numbers.append(("mistakes", f"{(~found.right).sum():,} of {len(found.right):,}"))
        if found.has_probs:
            numbers.append(("calibration error", f"{expected_calibration_error(*sureness(found)):.3f}"))
    return [*numbers, ("epochs", f"{len(run.rows)}"), ("wall time", seconds(run.summary["wall_seconds"]))]


def in_words(metric: str) -> str:
    """A metric's name as one says it.

    >>> in_words("verification_auc"), in_words("valid_mAP"), in_words("r2")
    ('verification AUC', 'valid mAP', 'R²')
    """
    said = {"auc": "AUC", "roc": "ROC", "f1": "F1", "r2": "R²", "rmse": "RMSE"}
    return " ".join(said.get(word, word) for word in metric.split("_"))


def as_title(words: str) -> str:
    """With a capital, unless the first word has its own.

    >>> as_title("verification AUC"), as_title("mAP")
    ('Verification AUC', 'mAP')
    """
    first, _, _ = words.partition(" ")
    return words[0].upper() + words[1:] if first.islower() else words


def in_unit(metric: str, value: float | None, loss: str) -> str:
    """A metric's value, with the unit that it has."""
    if value is None or not math.isfinite(value):
        return "–"
    if is_fraction(metric):
        return f"{100 * value:.4g} %"
    return f"{value:.4g}{' nats' if metric.endswith('loss') and unit_of(loss) == 'nats' else ''}"


def is_fraction(metric: str) -> bool:
    """Whether a metric is a share of the examples, read best as percent."""
    return metric.endswith(("accuracy", "exact_match", "error_rate"))


def whole_of(metric: str) -> str:
    """What such a metric is a share of."""
    return "of pairs" if metric.endswith("equal_error_rate") else "of examples"


def lower_is_better(metric: str) -> bool:
    """Whether a metric counts what is wrong."""
    return metric.endswith(("loss", "error_rate", "rmse"))


def unit_of(loss: str) -> str:
    """What a loss counts: nats, where it is minus the logarithm of a probability."""
    return "loss" if loss in ("squared_error", "brier_score", "classification_error") else "nats"


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
    figures = [curve_of(run, metric) for metric in metrics]
    epochs, norms = run.series("grad_norm")
    if norms and min(norms) > 0:
        src = charts.curves({"": (epochs, norms)}, "norm", log=max(norms) > 20 * min(norms))
        alt = f"Line chart over {len(epochs)} epochs: gradient norm from {norms[0]:.3g} to {norms[-1]:.3g}."
        figures.append(
            Figure(
                "Gradient norm",
                src,
                alt,
                "Of the loss alone, before weight decay and clipping; mean over an epoch's steps.",
            )
        )
    return figures


def curve_of(run: Run, metric: str) -> Figure:
    """The chart of one metric of train and valid."""
    lines = {part: run.series(f"{part}_{metric}") for part in ("train", "valid")}
    lines = {part: points for part, points in lines.items() if points[0]}
    words = in_words(metric)
    title = as_title(words)
    epochs, values = lines.get("valid") or next(iter(lines.values()))
    percent, is_loss = is_fraction(metric), metric.endswith("loss")
    best = epochs[int((np.argmin if lower_is_better(metric) else np.argmax)(values))]
    every = [value for _, points in lines.values() for value in points]
    log = is_loss and min(every) > 0 and max(every) > 30 * min(every)
    unit = unit_of(run.config["loss"]) if is_loss else whole_of(metric) if percent else words
    mark = best if "valid" in lines and len(epochs) > 1 else None
    limits = None if log else charts.without_the_start(list(lines.values()))
    src = charts.curves(lines, unit, log=log, percent=percent, mark=mark, limits=limits)
    loss = run.config["loss"]
    value_at_best = in_unit(metric, values[list(epochs).index(best)], loss)
    ends = "; ".join(
        f"{part} from {in_unit(metric, v[0], loss)} to {in_unit(metric, v[-1], loss)}"
        for part, (_, v) in lines.items()
    )
    caption = f"Best of valid: {value_at_best} at epoch {best} (ring)." if mark else ""
    if limits is not None:
        caption += " The start is cut off."
    return Figure(title, src, f"Line chart of {words} over {len(epochs)} epochs: {ends}.", caption)


def sureness(found: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each thing predicted, and whether it was so; of sets, of each class that it is there."""
    if found.kind == "set":
        return found.probs[:, 0].ravel(), found.labels.ravel() == 1
    return found.probs.max(-1).ravel(), (found.predicted == found.labels).ravel()


def test_figures(found: Predictions) -> list[Figure]:
    """Confusions or ROC curves, and calibration; of numbers, predicted against true; of features, of pairs."""
    if found.kind == "embedding":
        return embedding.figures(found)
    if found.kind == "number":
        src = charts.true_against_predicted(found.labels.ravel(), found.predicted.ravel())
        error = np.sqrt(np.mean((found.labels - found.predicted) ** 2))
        alt = (
            f"Scatter of {len(found.labels)} examples along the diagonal; root mean squared error {error:.4g}."
        )
        return [Figure("Predicted against true", src, alt, "On the dashed line, predictions are right.")]
    figures = []
    if found.kind == "set":
        figures += roc_figure(found)
    elif len(found.classes) <= MOST_CLASSES:
        figures.append(confusion_figure(found))
    if found.has_probs:
        error = expected_calibration_error(*sureness(found))
        figures.append(
            Figure(
                f"Calibration: expected error {error:.3f}",
                charts.reliability_diagram(reliability(*sureness(found))),
                f"Reliability diagram: fraction right against probability given; expected error {error:.3f}.",
                "Above the dashed line it is better than it says, below it worse. Ten bins; bars: 95 % "
                "intervals; n: predictions in the bin.",
            )
        )
    return figures


def confusion_figure(found: Predictions) -> Figure:
    """Which classes are taken for which."""
    size = len(found.classes)
    counts = np.zeros((size, size), int)
    np.add.at(counts, (found.labels.ravel(), found.predicted.ravel()), 1)
    wrong = counts * ~np.eye(size, dtype=bool)
    alt = f"Confusion matrix of {size} classes: {counts.trace():,} of {counts.sum():,} right."
    caption = "Shade: share of the true class."
    if wrong.max() > 0:
        true, predicted = np.unravel_index(np.argmax(wrong), wrong.shape)
        times = "once" if wrong.max() == 1 else f"{wrong.max()} times"
        worst = f"{found.classes[true]} taken for {found.classes[predicted]}, {times}"
        alt += f" Most frequent mistake: {worst}."
        caption = f"Most frequent mistake: {worst}. {caption}"
    return Figure("Confusions", charts.confusion(counts, found.classes), alt, caption)


def roc_figure(found: Predictions) -> list[Figure]:
    """ROC curves of the classes that can be ranked."""
    from sklearn.metrics import roc_curve

    ranked = ranking_of_each_class(found.probs[:, 0], found.labels, found.classes)
    if not ranked:
        return []
    columns = {name: i for i, name in enumerate(found.classes)}
    lines = {
        name: roc_curve(found.labels[:, columns[name]], found.probs[:, 0, columns[name]])[:2] for name in ranked
    }
    worst = min(ranked, key=lambda name: ranked[name]["roc_auc"])
    area = ranked[worst]["roc_auc"]
    alt = f"ROC curves of {len(lines)} classes; the worst is {worst}, with area {area:.3f}."
    return [
        Figure("ROC curves", charts.roc_curves(lines, worst), alt, f"Area of the worst, {worst}: {area:.3f}.")
    ]


def galleries(found: Predictions) -> list[Gallery]:
    """The most confident mistakes, and the least confident of the right ones, with their images."""
    if found.kind == "embedding":
        return embedding.galleries(found)
    if found.shown is None or found.inputs is None or not found.has_probs:
        return []
    examples = [example(found, int(i), pixels) for i, pixels in zip(found.shown, found.inputs, strict=True)]
    wrong = [each for each in examples if each.is_wrong]
    right = [each for each in examples if not each.is_wrong]
    total = int((~found.right).sum())
    counted = (
        f"{len(wrong)} of {total:,}" if total > len(wrong) else "all of them" if total > 1 else "the only one"
    )
    both = (
        Gallery(
            "The most confident mistakes", f"What it said, how sure it was, and what it is; {counted}.", wrong
        ),
        Gallery("Right, but barely", "The right predictions that it was least sure of.", right),
    )
    return [gallery for gallery in both if gallery.examples]


def example(found: Predictions, index: int, pixels: np.ndarray) -> Example:
    """One example of a gallery."""
    predicted, true = found.name(found.predicted[index]), found.name(found.labels[index])
    confidence = f"{100 * found.confidence[index]:.3g} %"
    alt = f"Test example {index}, of class {true}, predicted {predicted} with {confidence}."
    is_wrong = not found.right[index]
    return Example(
        pictures(pixels, alt),
        predicted,
        confidence,
        f"is {true}" if is_wrong else "right",
        is_wrong,
        f"no. {index}",
    )


def class_table(found: Predictions) -> Table | None:
    """Precision, recall, F1 and support of each class; of sets, ranking too; of features, cosines of pairs."""
    if found.kind == "embedding":
        return embedding.class_table(found)
    as_set = found.kind == "set"
    predicted, labels = (x if as_set else x.ravel() for x in (found.predicted, found.labels))
    rows = of_each_class(predicted, labels, found.classes)
    if as_set:
        ranked = ranking_of_each_class(found.probs[:, 0], found.labels, found.classes)
        nothing = {"average_precision": math.nan, "roc_auc": math.nan}
        rows = {name: ranked.get(name, nothing) | row for name, row in rows.items()}
    columns = list(next(iter(rows.values())))
    heads = {"f1": "F1", "roc_auc": "ROC area", "support": "examples"}
    cells = [
        [name, *(f"{row[c]:,}" if c == "support" else in_hundredths(row[c]) for c in columns)]
        for name, row in rows.items()
    ]
    if len(rows) > 1:
        means = [float(np.nanmean([row[c] for row in rows.values()])) for c in columns[:-1]]
        total = sum(row["support"] for row in rows.values())
        cells.append(["mean", *map(in_hundredths, means), f"{total:,}"])
    return Table(
        ["class", *(heads.get(c, c.replace("_", " ")) for c in columns)],
        cells,
        "Precision: of what it called so, what is so. Recall: of what is so, what it called so. "
        "F1: their harmonic mean.",
    )
