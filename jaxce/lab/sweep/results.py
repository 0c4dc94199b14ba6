"""What came of the settings: the table, the best of them, and the command that repeats it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from jaxce.lab.config import load_config
from jaxce.lab.flags import train_command, write_flags
from jaxce.lab.sweep.plan import Plan, show
from jaxce.lab.sweep.space import apply

Row = Mapping[str, Any]
MOST_LINES = 30


def by_setting(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """The complete rows of each setting, which differ in their seed."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["state"] == "complete":
            key = tuple(show_full(value) for field, value in row["values"].items() if field != "seed")
            found.setdefault(key, []).append(row)
    return found


def show_full(value: Any) -> str:
    """A value, every digit of it."""
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def best_of(rows: Sequence[Row], metric: str) -> Row | None:
    """Of the setting with the best mean over its seeds on valid, the first seed's row; None without any."""
    groups = by_setting(rows).values()
    return max(groups, key=lambda group: mean_valid(group, metric))[0] if groups else None


def mean_valid(rows: Sequence[Row], metric: str) -> float:
    """Mean of what settings are compared by."""
    return statistics.fmean(row["valid"][metric] for row in rows)


def by_rank(rows: Sequence[Row], metric: str) -> list[Row]:
    """Complete ones first, the best first; then those that were ended, then those that failed."""

    def rank(row: Row) -> tuple[int, float]:
        valid = row.get("valid", {}).get(metric, 0.0)
        return ("complete", "pruned", "failed").index(row["state"]), -valid

    return sorted(rows, key=rank)


def command_of(row: Row, plan: Plan) -> str:
    """The command that trains with a row's config.

    >>> plan = Plan("digits", load_config("digits"), ("seed=1,2",), "grid", None, False, "accuracy")
    >>> command_of({"values": {"seed": 2}}, plan)
    'python -m jaxce train digits --seed 2'
    """
    config = asdict(apply(plan.base, row["values"]))
    return train_command(plan.name, write_flags(config, load_config(plan.name)))


def table_of(rows: Sequence[Row], plan: Plan) -> Table:
    """The settings, best first."""
    metric = plan.metric
    table = Table(box=None, title=f"{plan.name}: {len(rows)} settings", title_justify="left")
    for name in (*plan.fields, f"valid {metric}", f"test {metric}", ""):
        table.add_column(name.replace("_", " "), justify="right" if name else "left", overflow="fold")
    for row in by_rank(rows, metric)[:MOST_LINES]:
        values = [show(row["values"][field]) for field in plan.fields]
        if row["state"] == "complete":
            table.add_row(*values, f"{row['valid'][metric]:.4f}", f"{row['test'][metric]:.4f}")
        elif row["state"] == "pruned":
            table.add_row(*values, f"{row['valid'][metric]:.4f}", "–", f"ended after {row['epochs']} epochs")
        else:
            table.add_row(*values, "–", "–", f"failed: {row['error']}")
    if len(rows) > MOST_LINES:
        table.caption = f"and {len(rows) - MOST_LINES} more in results.jsonl"
    return table
