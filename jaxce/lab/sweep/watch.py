"""What people see while a sweep goes on: a live table on a terminal, plain lines where there is none."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jaxce.lab.sweep.plan import describe, show
from jaxce.lab.sweep.results import Row
from jaxce.lab.sweep.study import Study
from jaxce.lab.sweep.worker import Running, Watch

MOST_DONE = 10


@contextmanager
def watching(study: Study, console: Console) -> Iterator[Watch]:
    """Yield a function that shows which settings are trained here, and what is done, here and elsewhere."""
    told: set[int] = set()
    metric = study.plan.metric
    live = Live(console=console, refresh_per_second=4, transient=True)

    def show_table(places: Mapping[int, Running], rows: Sequence[Row]) -> None:
        live.update(Group(*state_of(study, places, rows)))

    def show_lines(places: Mapping[int, Running], rows: Sequence[Row]) -> None:
        for row in rows:
            if row["setting"] not in told:
                told.add(row["setting"])
                found = f"valid {metric} {row['valid'][metric]:.4f}" if "valid" in row else row["error"]
                console.print(
                    f"{len(told)}/{study.num_settings}  {describe(row['values'])}  {row['state']}: {found}",
                    soft_wrap=True,
                )

    if not console.is_terminal:
        yield show_lines
        return
    with live:
        yield show_table


def state_of(study: Study, places: Mapping[int, Running], rows: Sequence[Row]) -> Iterator[Table | Text]:
    """One line of counts, then the settings in their places, then the best of those that are done."""
    metric = study.plan.metric
    done_here = not places and len(rows) < study.num_settings
    others = "; waiting for what other processes have" if done_here else ""
    yield Text(f"{len(rows)} of {study.num_settings} settings done, {len(places)} in training here{others}")
    table = Table(box=None)
    for name in (*study.plan.fields, "epoch", f"valid {metric}"):
        table.add_column(name.replace("_", " "), justify="right")
    for running in places.values():
        values = [show(running.setting[field]) for field in study.plan.fields]
        valid = "–" if running.valid is None else f"{running.valid:.4f}"
        table.add_row(*values, f"{running.epoch}/{running.config.epochs}", valid)
    complete = sorted(
        (row for row in rows if row["state"] == "complete"), key=lambda row: -row["valid"][metric]
    )
    for row in complete[:MOST_DONE]:
        values = [show(row["values"][field]) for field in study.plan.fields]
        table.add_row(*values, "done", f"{row['valid'][metric]:.4f}", style="bold")
    yield table
