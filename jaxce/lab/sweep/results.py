"""The results of a sweep: the tables of settings, the best of them, and the command that trains it again."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from jaxce.lab.config import load_config
from jaxce.lab.flags import train_command, write_flags
from jaxce.lab.sweep.plan import Plan
from jaxce.lab.sweep.space import apply, show
from jaxce.lab.tasks import find_metric

Row = Mapping[str, Any]
"""One line of results.jsonl."""
MOST_LINES = 30


def value_of(row: Row, field: str) -> Any:
    """The value of a field in a row, with widths as text."""
    value = row["values"][field]
    return show(value) if isinstance(value, tuple | list) else value


def positions(values: Iterable[Any]) -> dict[Any, float]:
    """Where each value stands between 0 and 1, in order: numbers by size, anything else evenly.

    Positive numbers that span a decade stand by their logarithm.

    >>> positions([0.01, 0.001, 0.1]), positions(["sgd", None])
    ({0.001: 0.0, 0.01: 0.5, 0.1: 1.0}, {'sgd': 0.0, None: 1.0})
    """
    numbers = {value for value in values if isinstance(value, int | float) and not isinstance(value, bool)}
    others = sorted(set(values) - numbers, key=lambda value: (value is None, str(value)))
    ordered = [*sorted(numbers), *others]
    at = np.arange(len(ordered), dtype=float)
    if not others:
        at = np.array(ordered, float)
        at = np.log(at) if 0 < 10 * at[0] <= at[-1] else at
    at = (at - at[0]) / np.ptp(at) if len(at) > 1 else at * 0 + 0.5
    return dict(zip(ordered, at.round(12).tolist(), strict=True))


def by_setting(rows: Iterable[Row]) -> list[list[Row]]:
    """The complete rows, those that differ only in their seed together."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["state"] == "complete":
            key = tuple(value_of(row, field) for field in row["values"] if field != "seed")
            found.setdefault(key, []).append(row)
    return list(found.values())


def mean_of(rows: Sequence[Row], metric: str, part: str = "valid") -> float:
    """Mean of a metric over rows."""
    return statistics.fmean(row[part][metric] for row in rows)


def badness(rows: Sequence[Row], metric: str) -> float:
    """A number that is smaller the better the rows are on valid."""
    return -mean_of(rows, metric) if find_metric(metric, "").larger_is_better else mean_of(rows, metric)


def best_of(rows: Sequence[Row], metric: str) -> list[Row]:
    """The rows of the setting with the best mean over its seeds on valid; empty where none is complete."""
    return min(by_setting(rows), key=lambda group: badness(group, metric), default=[])


def by_rank(rows: Sequence[Row], metric: str) -> list[Row]:
    """Complete rows first, the best first; then those that ended early; then those that failed."""
    states = ("complete", "pruned", "failed")
    return sorted(
        rows,
        key=lambda row: (states.index(row["state"]), badness([row], metric) if "valid" in row else 0.0),
    )


def command_of(row: Row, plan: Plan) -> str:
    """The command that trains with a row's config.

    >>> plan = Plan("digits", load_config("digits"), ("seed=1,2",), "grid", None, False, "accuracy")
    >>> command_of({"values": {"seed": 2}}, plan)
    'python -m jaxce train digits --seed 2'
    """
    config = asdict(apply(plan.base, row["values"]))
    return train_command(plan.name, write_flags(config, load_config(plan.name)))


def columns(plan: Plan) -> list[str]:
    """The head of a table of settings."""
    words = (*plan.fields, f"valid {plan.metric}", f"test {plan.metric}", "")
    return [each.replace("_", " ") for each in words]


def cells(row: Row, plan: Plan) -> list[str]:
    """A row of that table: values, scores, and why the setting was not trained to its end."""
    note = {"pruned": f"ended after {row['epochs']} epochs", "failed": f"failed: {row.get('error')}"}
    metric = find_metric(plan.metric, row["loss"])
    scores = (metric.show(row.get(part, {}).get(plan.metric)) for part in ("valid", "test"))
    return [*(show(row["values"][field]) for field in plan.fields), *scores, note.get(row["state"], "")]


def table_of(lines: Sequence[Sequence[str]], plan: Plan, title: str) -> Table:
    """Settings for the terminal."""
    table = Table(box=None, title=title, title_justify="left")
    for name in columns(plan):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    for line in lines[:MOST_LINES]:
        table.add_row(*line)
    if len(lines) > MOST_LINES:
        table.caption = f"and {len(lines) - MOST_LINES} more in results.jsonl"
    return table
