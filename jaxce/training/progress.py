"""What people see while a run goes on: a bar on a terminal, plain lines where there is none."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 1.0

Show = Callable[[Mapping[str, float]], None]


@contextmanager
def progress(
    epochs: int, done: int, examples_per_epoch: int, unit: str, console: Console | None = None
) -> Iterator[Show]:
    """Yield a function that shows one epoch's row of metrics.

    Args:
        epochs: Epochs of the whole run.
        done: Epochs that an earlier run did.
        examples_per_epoch: Examples trained on in an epoch, for the rate.
        unit: What to call them.
        console: Where to write; None for standard output.
    """
    console = console or Console(highlight=False)
    clock = time.perf_counter()
    bar = Progress(
        TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task("compiling", total=epochs, completed=done)
    shown = clock

    def show(row: Mapping[str, float]) -> None:
        nonlocal clock, shown
        now = time.perf_counter()
        text = (
            f"loss {row['train_loss']:.4f}  valid loss {row['valid_loss']:.4f}  "
            f"valid accuracy {row['valid_accuracy']:.2%}  {examples_per_epoch / (now - clock):,.0f} {unit}/s"
        )
        clock = now
        bar.update(task, completed=row["epoch"], description=text)
        if not console.is_terminal and (
            now - shown > SECONDS_BETWEEN_LINES or row["epoch"] in (done + 1, epochs)
        ):
            shown = now
            console.print(f"epoch {row['epoch']}/{epochs}  {text}", soft_wrap=True)

    with bar:
        yield show
