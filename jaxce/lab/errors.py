"""Mistakes and mishaps, each in one sentence to the person who can mend it."""

import difflib
from collections.abc import Iterable


class ConfigError(Exception):
    """A mistake in usage or config: what was given, what fits and what to do."""


class TrainingError(Exception):
    """A run cannot go on: where it stopped, why, and what to do."""


class Stopped(Exception):
    """A run was asked to stop and did, with nothing lost: what asked, and how to go on."""


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
