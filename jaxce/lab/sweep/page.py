"""sweep.html: the results of a sweep on one self-contained page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from jaxce.lab.charts import BLUE, GREY, Figure, Table, chart, percent
from jaxce.lab.files import write_whole
from jaxce.lab.report.page import render
from jaxce.lab.sweep.importance import Importance
from jaxce.lab.sweep.plan import Plan, describe
from jaxce.lab.sweep.results import (
    Row,
    best_of,
    by_rank,
    by_setting,
    cells,
    columns,
    command_of,
    mean_of,
    positions,
    value_of,
)
from jaxce.lab.sweep.space import show
from jaxce.lab.tasks import find_metric

MOST_TICKS = 8


def write_page(rows: Sequence[Row], importance: Importance | None, plan: Plan, path: Path) -> None:
    """Write the page; sections without data are left out."""
    metric, words = plan.metric, plan.metric.replace("_", " ")
    complete = [row for row in rows if row["state"] == "complete"]
    trained = [row for row in rows if "valid" in row]
    varied = [field for field in plan.fields if len({value_of(row, field) for row in rows}) > 1]
    best = best_of(rows, metric)
    headline, shown = [], find_metric(metric, plan.base.loss)
    if best:
        seeds = f", {len(best)} seeds" if len(best) > 1 else ""
        for part, name in (("valid", "best valid"), ("test", "its test")):
            headline.append((f"{name} {words}{seeds}", shown.show(mean_of(best, metric, part))))
    counts = {state: sum(row["state"] == state for row in rows) for state in ("complete", "pruned", "failed")}
    overview = [importance_figure(importance)] if importance else []
    if varied and len(trained) > 1:
        overview.append(parallel_coordinates(trained, varied, metric))
    page = render(
        "sweep.html",
        title=f"{plan.name}: {len(rows)} settings",
        subtitle=f"{plan.base.data}, {plan.base.model}; {plan.sampler}: {' '.join(plan.over)}",
        headline=headline + [(state, f"{count}") for state, count in counts.items() if count],
        best=describe(best[0]["values"]) if best else None,
        command=command_of(best[0], plan) if best else None,
        overview=overview,
        responses=[response(complete, field, metric) for field in varied if field != "seed" and complete],
        results=Table(
            ["setting", *columns(plan)],
            [[f"{row['setting']}", *cells(row, plan)] for row in by_rank(rows, metric)],
            "All settings, best first",
        ),
    )
    write_whole(path, page)


def importance_figure(importance: Importance) -> Figure:
    """A bar for each share, in the order of the table."""
    names, shares = list(importance.shares)[::-1], list(importance.shares.values())[::-1]

    def draw(axes: Axes) -> None:
        bars = axes.barh([name.replace("_", " ") for name in names], shares, color=BLUE, height=0.55)
        axes.bar_label(bars, [f"{100 * share:.0f} %" for share in shares], padding=3, color=BLUE, fontsize=8.5)
        axes.set(xlim=(0, 1.3 * max(shares)), xlabel="share of the variance")
        axes.xaxis.set_major_formatter(percent)
        axes.grid(visible=False, axis="y")

    svg = chart(draw, 4.4, 0.9 + 0.42 * len(names))
    alt = f"Bar chart of shares of the variance: {importance.words}."
    method = importance.method[0].upper() + importance.method[1:]
    return Figure("What explains the differences", svg, alt, f"{method}.")


def parallel_coordinates(rows: Sequence[Row], fields: Sequence[str], metric: str) -> Figure:
    """A line for each setting, through its values to its result: the darker, the better."""
    scales = [positions([value_of(row, field) for row in rows]) for field in fields]
    results = [row["valid"][metric] for row in rows]
    low, width = min(results), float(np.ptp(results)) or 1.0
    shown = find_metric(metric, "")
    small: Any = {
        "va": "center",
        "fontsize": 8,
        "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    }

    def draw(axes: Axes) -> None:
        for row in by_rank(rows, metric)[::-1]:
            height = (row["valid"][metric] - low) / width
            # The worst line is not white, so that it is seen too.
            colour = colormaps["viridis_r"](0.13 + 0.87 * (height if shown.larger_is_better else 1 - height))
            how: Any = {"color": colour, "linewidth": 1.4}
            if row["state"] != "complete":
                how = {"color": GREY, "linewidth": 0.7, "linestyle": (0, (3, 3))}
            line = [scale[value_of(row, field)] for scale, field in zip(scales, fields, strict=True)]
            axes.plot([*line, height], alpha=0.85, **how)
        axes.vlines(range(len(fields) + 1), 0, 1, color="#aab1ba", linewidth=0.8, zorder=0)
        for i, scale in enumerate(scales):
            for value in ticks(scale):
                axes.text(i - 0.03, scale[value], show(value), ha="right", **small)
        for result in {min(results), max(results)}:
            height = (result - low) / width
            axes.text(len(fields) + 0.03, height, shown.show(result), ha="left", **small)
        axes.set_xticks(range(len(fields) + 1), [*(f.replace("_", " ") for f in fields), f"valid {metric}"])
        axes.set(xlim=(-0.55, len(fields) + 0.4), yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    return Figure(
        "All settings",
        chart(draw, max(4.4, 1.5 * (len(fields) + 1)), 3.4),
        f"Parallel coordinates of {len(rows)} settings over {', '.join(fields)}.",
        "One line a setting; the darker, the better. Dashed: ended early.",
    )


def response(rows: Sequence[Row], field: str, metric: str) -> Figure:
    """Results by the values of one field: each setting from its worst to its best seed, and the mean."""
    scale = positions([value_of(row, field) for row in rows])
    means = {value: mean_of([row for row in rows if value_of(row, field) == value], metric) for value in scale}
    is_line = len(rows) > len(means) > 1 and all(isinstance(value, int | float) for value in means)

    def draw(axes: Axes) -> None:
        for i, group in enumerate(by_setting(rows)):
            seeds = [row["valid"][metric] for row in group]
            at = scale[value_of(group[0], field)] + 0.012 * (i % 5 - 2)  # beside others of the same value
            axes.vlines(at, min(seeds), max(seeds), color=GREY, linewidth=1.2, alpha=0.6)
            axes.plot(at, mean_of(group, metric), "o", color=GREY, markersize=3.5, alpha=0.8)
        line = "-" if is_line else ""
        axes.plot(list(scale.values()), list(means.values()), line, color=BLUE, marker="_", markersize=13)
        labels = [show(value) for value in ticks(scale)]
        axes.set_xticks([scale[value] for value in ticks(scale)], labels)
        axes.set(xlabel=field.replace("_", " "), ylabel=f"valid {metric.replace('_', ' ')}")
        if len("".join(labels)) > 40:
            axes.tick_params(axis="x", labelrotation=30)
        if find_metric(metric, "").unit == "%":
            axes.yaxis.set_major_formatter(percent)

    words = "; ".join(f"{show(value)} gives {mean:.4g}" for value, mean in list(means.items())[:12])
    return Figure(
        field.replace("_", " ").capitalize(),
        chart(draw),
        f"Mean valid {metric} by {field}: {words}.",
        "Blue: the mean of all settings with that value. Grey: each setting, from its worst seed to its best.",
    )


def ticks(scale: dict[Any, float]) -> list[Any]:
    """A few of the values."""
    values = list(scale)
    return [
        values[i]
        for i in dict.fromkeys(np.linspace(0, len(values) - 1, MOST_TICKS).round().astype(int).tolist())
    ]
