"""SIGINT and SIGTERM as requests: a run stops at the end of its epoch, when there is something to save."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jaxce.lab.training.processes import largest


@contextmanager
def stop_requests() -> Iterator[list[str]]:
    """Yield a list that the name of a signal is put into when it comes; the second one acts as it always does.

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
    """The name of a signal that came to this process of a run or to another: the same in all."""
    number = largest(signal.Signals[requests[0]] if requests else 0)
    return signal.Signals(number).name if number else None
