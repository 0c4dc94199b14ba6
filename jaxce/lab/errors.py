"""What goes wrong by no fault of the program: each message is one sentence to the person who can correct it."""

import difflib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin


class ConfigError(Exception):
    """A mistake in usage or config: what was given, what fits and what to do."""


class TrainingError(Exception):
    """A run cannot go on: where it stopped, why, and what to do."""


class Stopped(Exception):
    """A run was asked to stop and did, with nothing lost: what asked, and how to go on."""


def check(name: str, value: object, fits: bool, expected: str) -> None:
    """Raise ConfigError when `value` does not fit."""
    if not fits:
        raise ConfigError(f"{name} must be {expected}, not {value!r}")


def choose(what: str, name: str, names: Iterable[str]) -> None:
    """Raise ConfigError, with the nearest name, when `name` is none of `names`."""
    if name not in (names := list(names)):
        raise ConfigError(f"unknown {what} {name!r}{did_you_mean(name, names)}; there are: {', '.join(names)}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of an error sentence: the nearest of `names`, or nothing when none is near.

    >>> did_you_mean("--learning-rat", ["--learning-rate", "--loss"])
    ', did you mean --learning-rate?'
    """
    nearest = difflib.get_close_matches(name, list(names), n=1, cutoff=0.4)
    return f", did you mean {nearest[0]}?" if nearest else ""


def in_words(kind: Any) -> str:
    """What a field of this type holds.

    >>> in_words(float | None), in_words(Literal["sgd", "adam"])
    ('a number or None', 'one of sgd, adam')
    """
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is UnionType:
        return " or ".join(in_words(each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return "whole numbers" if int in get_args(kind) else in_words(get_args(kind)[0])
    words = {bool: "True or False", int: "a whole number", float: "a number", str: "a name", Path: "a path"}
    return words.get(kind, "None")


@contextmanager
def quiet(*loggers: str, below: int = logging.ERROR) -> Iterator[None]:
    """Keep what other libraries log below a level off the terminal while the body runs."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(below)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
