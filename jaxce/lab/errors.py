"""What goes wrong by no fault of the program: each message is one sentence to the person who can mend it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class ConfigError(Exception):
    """A mistake in usage or config: what was given, what fits and what to do."""


class TrainingError(Exception):
    """A run cannot go on: where it stopped, why, and what to do."""


class Stopped(Exception):
    """A run was asked to stop and did, with nothing lost: what asked, and how to go on."""


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Keep what other libraries log below an error off the terminal while the body runs."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
