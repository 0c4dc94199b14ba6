"""The metrics of each epoch as TensorBoard events: `tensorboard --logdir WORKDIR` draws them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxce.lab.training.progress import Show


@contextmanager
def events(workdir: Path, first: int) -> Iterator[Show]:
    """Yield a function that writes one epoch's row of metrics, the epoch being TensorBoard's step.

    Each process writes its own file. The file begins by declaring a restart after epoch `first`, so that
    TensorBoard drops later epochs of a killed process.
    """
    # Not tensorboardX's SummaryWriter, which writes in a thread, where a full disk goes unnoticed.
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

    writer = EventsWriter(str(workdir / "events"), filename_suffix=f".{time.time_ns()}")

    def write(row: Mapping[str, float]) -> None:
        scalars = [Summary.Value(tag=tag(name), simple_value=row[name]) for name in row if name != "epoch"]
        writer.write_event(Event(wall_time=time.time(), step=int(row["epoch"]), summary=Summary(value=scalars)))
        writer.flush()

    try:
        restart = SessionLog(status=SessionLog.START)
        writer.write_event(Event(wall_time=time.time(), step=first + 1, session_log=restart))
        yield write
    finally:
        try:
            writer.close()
        except OSError:
            # The disk is full. The file is still open, and would fail again when Python collects it.
            with suppress(OSError):
                writer._py_recordio_writer.close()
            raise


def tag(name: str) -> str:
    """The name that groups the metrics of train and valid in TensorBoard.

    >>> tag("train_loss"), tag("seconds")
    ('loss/train', 'seconds')
    """
    part, _, metric = name.partition("_")
    return f"{metric}/{part}" if part in ("train", "valid") else name
