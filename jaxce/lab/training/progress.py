"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from jaxce.lab.metrics import Metric

SECONDS_BETWEEN_LINES = 5.0

Show = Callable[[Mapping[str, float]], None]


@contextmanager
def progress(
    epochs: int,
    done: int,
    examples_per_epoch: int,
    unit: str,
    metric: Metric,
    console: Console | None = None,
) -> Iterator[Show]:
    """Yield a function that shows one epoch's row of metrics; the bar's metric is the valid part's.

    Args:
        epochs: Epochs of the whole run.
        done: Epochs already trained, of a resumed run.
        examples_per_epoch: Examples trained on in an epoch, for the rate.
        unit: What to call them.
        metric: What to show beside the loss.
        console: Where to write; None for standard output.
    """
    console = console or Console(highlight=False)
    clock = time.perf_counter()
    bar = Progress(
        TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=10),  # so that the whole line fits 80 columns
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task("compiling", total=epochs, completed=done)
    shown = clock

    def show(row: Mapping[str, float]) -> None:
        nonlocal clock, shown
        now = time.perf_counter()
        rate = f"{examples_per_epoch / (now - clock):,.0f} {unit}/s"
        loss, valid_loss, value = row["train_loss"], row["valid_loss"], row[f"valid_{metric.name}"]
        score = f"{metric.words} {metric.show(value)}"
        clock = now
        bar.update(task, completed=row["epoch"], description=f"loss {loss:.4f}  {score}  {rate}")
        if not console.is_terminal and (
            now - shown > SECONDS_BETWEEN_LINES or row["epoch"] in (done + 1, epochs)
        ):
            shown = now
            console.print(
                f"epoch {row['epoch']}/{epochs}  loss {loss:.4f}  valid loss {valid_loss:.4f}  "
                f"valid {score}  {rate}",
                soft_wrap=True,
            )

    with bar:
        yield show
