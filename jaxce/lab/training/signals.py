"""SIGINT and SIGTERM as requests: a run stops at the end of its epoch, and saves it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jaxce.lab.training.processes import largest


@contextmanager
def stop_requests() -> Iterator[list[str]]:
    """Yield a list to which the name of the first signal is appended; a second signal acts as usual.

    Outside the main thread no signal arrives, and the list stays empty.
    """
    requests: list[str] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        requests.append(signal.Signals(number).name)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        restore()


def asked_to_stop(requests: list[str]) -> str | None:
    """The name of a signal that any process of the run has received; the same in all."""
    number = largest(signal.Signals[requests[0]] if requests else 0)
    return signal.Signals(number).name if number else None
