"""The pictures and tables of docs/tasks.md from runs that are there: `python docs/tasks.py RUNS...` (5 s).

- captcha.svg: the three ways to read captchas, whole captchas right in valid after each epoch.
- open_set.svg: equal-error rate on numbers never seen, each dot a seed.

The tables, and what the captchas' probabilities are worth, are printed. RUNS are folders that `python
train.py` left.
"""

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import softmax

from jaxce.lab.charts import BLUE, GREEN, ORANGE, STYLE, percent
from jaxce.lab.metrics import reliability

IMAGES = Path(__file__).parent / "images"
CAPTCHA_WAYS = {"four softmaxes": BLUE, "forty sigmoids": GREEN, "one softmax": ORANGE}


class Finished(NamedTuple):
    """A finished run: its config, what the test part gave, its seconds, and a row for each epoch."""

    config: dict[str, Any]
    test: dict[str, float]
    seconds: float
    rows: list[dict[str, float]]


def read(folder: Path) -> Finished:
    """The run in a folder."""
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return Finished(summary["config"], summary["test"], summary["wall_seconds"], rows)


def way(config: dict[str, Any]) -> str:
    """What a run is called beside others on the same data."""
    if config["data"] == "captcha":
        if config["joint_softmax"]:
            return "one softmax"
        return "forty sigmoids" if config["loss"].startswith("sigmoid") else "four softmaxes"
    if config["data"] == "open_set":
        return config["head"] or "softmax"
    return config["loss"] if config["data"] == "multilabel" else ""


def in_groups(runs: Sequence[Finished], data: str) -> dict[str, list[Finished]]:
    """The runs on that data, by way, seeds side by side."""
    groups = defaultdict(list)
    for run in runs:
        if run.config["data"] == data:
            groups[way(run.config)].append(run)
    return groups


def table(groups: dict[str, list[Finished]]) -> str:
    """Markdown: mean of each test metric over seeds, and their standard deviation where there are several."""
    metrics = list(next(iter(groups.values()))[0].test)
    lines = ["| | seeds | " + " | ".join(metrics) + " | seconds |", "|---|---|" + "---|" * (len(metrics) + 1)]
    for name, runs in groups.items():
        cells = [spread([run.test[metric] for run in runs]) for metric in metrics]
        seconds = f"{statistics.median(run.seconds for run in runs):.0f}"
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} | {seconds} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation.

    >>> spread([0.5]), spread([0.5, 0.7])
    ('0.5000', '0.6000 ± 0.1414')
    """
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def reading(folder: Path) -> str:
    """What the probabilities of a run on captchas are worth, over all outputs and place by place."""
    stored = np.load(folder / "predictions.npz")
    labels = stored["labels"]
    outputs = stored["outputs"].reshape(*labels.shape, -1).astype(np.float64)

    def of_truth(probs: np.ndarray) -> np.ndarray:
        return np.take_along_axis(probs, labels[..., None], -1)[..., 0]

    over_all, by_place = softmax(outputs, axis=(1, 2)), softmax(outputs, axis=2)
    right = (outputs.argmax(-1) == labels).all(-1)
    confidence = by_place.max(-1).prod(-1)
    loss = -np.log(of_truth(by_place)).sum(-1).mean()
    return (
        f"{folder.name}: {right.mean():.2%} right; softmax over all gives a digit that is there "
        f"{of_truth(over_all).mean():.2f}; place by place, -log of the whole {loss:.3f}, confidence "
        f"{confidence.mean():.1%}, calibration error {reliability(confidence, right).expected_error:.1%}"
    )


def draw_captcha(axes: Axes, groups: dict[str, list[Finished]]) -> None:
    """Whole captchas right in valid, by epoch."""
    # The curves all but meet: their names stand below them, in the order of the first epoch.
    places = {"forty sigmoids": (3, 0.84), "four softmaxes": (3, 0.81), "one softmax": (3, 0.78)}
    for name, colour in CAPTCHA_WAYS.items():
        for run in groups[name]:
            axes.plot(
                [row["epoch"] for row in run.rows], [row["valid_accuracy"] for row in run.rows], color=colour
            )
        axes.text(*places[name], name, color=colour)
    axes.set(xlabel="epoch", ylabel="whole captchas right", xticks=range(1, 6))
    axes.yaxis.set_major_formatter(percent)


def draw_open_set(axes: Axes, groups: dict[str, list[Finished]]) -> None:
    """Equal-error rate of each seed, the best head at the top."""
    order = sorted(groups, key=lambda name: -statistics.mean(rates(groups[name])))
    for height, name in enumerate(order):
        colour = ORANGE if name == "softmax" else BLUE
        values = rates(groups[name])
        axes.plot(values, [height] * len(values), "o", color=colour, markersize=5, alpha=0.6, mew=0)
    axes.set(xlabel="equal-error rate on numbers never seen", yticks=range(len(order)), xlim=(0, None))
    axes.set_yticklabels(order)
    axes.xaxis.set_major_formatter(percent)


def rates(runs: Sequence[Finished]) -> list[float]:
    """The equal-error rate of each run."""
    return [run.test["equal_error_rate"] for run in runs]


def main(folders: Sequence[str]) -> None:
    """Draw what the runs show and print their tables."""
    runs = [read(Path(folder)) for folder in folders]
    for data in dict.fromkeys(run.config["data"] for run in runs):
        print(f"\n{data}\n\n{table(in_groups(runs, data))}")
    for folder, run in zip(folders, runs, strict=True):
        if run.config["data"] == "captcha" and "softmax" in run.config["loss"]:
            print(reading(Path(folder)))
    for data, draw in (("captcha", draw_captcha), ("open_set", draw_open_set)):
        if groups := in_groups(runs, data):
            with mpl.rc_context(STYLE):
                figure = Figure(figsize=(6.4, 3.1), layout="constrained", facecolor="white")
                draw(figure.subplots(), groups)
                path = IMAGES / f"{data}.svg"
                figure.savefig(path, metadata={"Date": None, "Creator": None})
            svg = path.read_text().replace("'DejaVu Sans'", "system-ui, 'Helvetica Neue', Arial, 'DejaVu Sans'")
            path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
