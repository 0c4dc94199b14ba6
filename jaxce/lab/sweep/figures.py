"""The charts of sweep.html: which field matters, how settings run across fields, and what each value gives."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from jaxce.lab.charts import BLUE, GREY, chart, percent
from jaxce.lab.sweep.plan import show
from jaxce.lab.sweep.results import Row, by_setting
from jaxce.lab.tasks import find_metric

LOG_FROM = 10  # a field whose largest value is so many times its smallest is drawn logarithmically
MOST_TICKS = 8


class Scale:
    """Where the values of a field stand on an axis: numbers by size or by logarithm, anything else in a row."""

    def __init__(self, values: Sequence[Any]) -> None:
        """Choose by the values."""
        self.values = sorted(set(values), key=order)
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)
        self.is_number = numbers and len(self.values) > 1
        self.log = self.is_number and self.values[0] > 0 and self.values[-1] >= LOG_FROM * self.values[0]

    def at(self, value: Any) -> float:
        """The place of a value."""
        if not self.is_number:
            return float(self.values.index(value))
        return float(np.log10(value)) if self.log else float(value)

    @property
    def ends(self) -> tuple[float, float]:
        """The places of the first and the last value; some room where they are one."""
        low, high = self.at(self.values[0]), self.at(self.values[-1])
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    @property
    def ticks(self) -> dict[float, str]:
        """A few places, with their labels."""
        chosen = np.linspace(0, len(self.values) - 1, min(len(self.values), MOST_TICKS)).round().astype(int)
        return {self.at(self.values[i]): show(self.values[i]) for i in dict.fromkeys(chosen.tolist())}


def order(value: Any) -> tuple[bool, bool, Any]:
    """Numbers by size first, then words, then None.

    >>> sorted([None, 3, 1], key=order)
    [1, 3, None]
    """
    is_word = not isinstance(value, int | float)
    return value is None, is_word, "" if value is None else str(value) if is_word else value


def value_of(row: Row, field: str) -> Any:
    """What a field has in a row; JSON has lists for tuples."""
    value = row["values"][field]
    return tuple(value) if isinstance(value, list) else value


def importance_chart(importances: Mapping[str, float]) -> str:
    """A bar for each field, the most important on top."""

    def draw(axes: Axes) -> None:
        names = list(importances)[::-1]
        shares = [importances[name] for name in names]
        axes.barh(range(len(names)), shares, color=BLUE, height=0.55)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        for place, share in enumerate(shares):
            axes.text(share, place, f" {100 * share:.0f} %", va="center", color=BLUE, fontsize=8.5)
        axes.set(xlim=(0, 1.15 * max(*shares, 1e-9)), xlabel="share of the differences")
        axes.xaxis.set_major_formatter(percent)
        axes.grid(visible=False, axis="y")

    return chart(draw, 4.4, 0.9 + 0.42 * len(importances))


def parallel_coordinates(rows: Sequence[Row], fields: Sequence[str], metric: str) -> str:
    """A line for each setting, through its values to its result: the darker, the better."""
    scales = {field: Scale([value_of(row, field) for row in rows]) for field in fields}
    results = [row["valid"][metric] for row in rows]
    low, high = min(results), max(results)
    result_ends = (low, high) if high > low else (low - 0.5, high + 0.5)
    # Not from white: the worst line is to be seen too.
    colour = colormaps["viridis_r"]
    shade = Normalize(low - 0.15 * (high - low or 1), high)

    def height(place: float, ends: tuple[float, float]) -> float:
        return (place - ends[0]) / (ends[1] - ends[0])

    def draw(axes: Axes) -> None:
        for row in sorted(rows, key=lambda row: row["valid"][metric]):
            result = row["valid"][metric]
            heights = [height(scales[f].at(value_of(row, f)), scales[f].ends) for f in fields]
            heights.append(height(result, result_ends))
            complete = row["state"] == "complete"
            axes.plot(
                heights,
                color=colour(shade(result)) if complete else GREY,
                linewidth=1.4 if complete else 0.7,
                linestyle="-" if complete else (0, (3, 3)),
                alpha=0.85,
            )
        # On white, since lines pass behind.
        small: Any = {
            "va": "center",
            "fontsize": 8,
            "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        }
        for place, field in enumerate(fields):
            axes.axvline(place, color="#aab1ba", linewidth=0.8, zorder=0)
            for at, label in scales[field].ticks.items():
                axes.text(place - 0.03, height(at, scales[field].ends), label, ha="right", **small)
        axes.axvline(len(fields), color="#aab1ba", linewidth=0.8, zorder=0)
        for result in dict.fromkeys((low, high)):
            label = find_metric(metric, "").show(result)
            axes.text(len(fields) + 0.03, height(result, result_ends), label, ha="left", **small)
        axes.set_xticks(range(len(fields) + 1), [*(f.replace("_", " ") for f in fields), f"valid {metric}"])
        axes.set(xlim=(-0.55, len(fields) + 0.4), yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    return chart(draw, max(4.4, 1.5 * (len(fields) + 1)), 3.4)


def response_curve(rows: Sequence[Row], field: str, metric: str) -> str:
    """Results by the values of one field: a bar from worst to best seed of each setting, and the mean."""
    scale = Scale([value_of(row, field) for row in rows])
    settings = list(by_setting(rows).values())
    by_value: dict[Any, list[float]] = {}
    for row in rows:
        by_value.setdefault(value_of(row, field), []).append(row["valid"][metric])

    def draw(axes: Axes) -> None:
        room = 0.012 * (scale.ends[1] - scale.ends[0])
        for place, group in enumerate(settings):
            results = [row["valid"][metric] for row in group]
            # Beside each other, where several settings have one value.
            shift = room * (place % 5 - 2)
            at = scale.at(value_of(group[0], field)) + shift
            axes.vlines(at, min(results), max(results), color=GREY, linewidth=1.2, alpha=0.6)
            axes.plot(at, statistics.fmean(results), "o", color=GREY, markersize=3.5, alpha=0.8)
        values = [value for value in scale.values if value in by_value]
        means = [statistics.fmean(by_value[value]) for value in values]
        line = "-" if scale.is_number and len(rows) > len(values) else ""
        axes.plot([scale.at(value) for value in values], means, line, color=BLUE, marker="_", markersize=13)
        axes.set_xticks(list(scale.ticks), list(scale.ticks.values()))
        axes.set(xlabel=field.replace("_", " "), ylabel=f"valid {metric.replace('_', ' ')}")
        if len("".join(scale.ticks.values())) > 40:
            axes.tick_params(axis="x", labelrotation=30)
        if find_metric(metric, "").unit == "%":
            axes.yaxis.set_major_formatter(percent)

    return chart(draw)
