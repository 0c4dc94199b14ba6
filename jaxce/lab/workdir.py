"""The folder of a run: of one process at a time, and readable whenever that process is killed."""

import contextlib
import fcntl
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from jaxce.lab.config import Config
from jaxce.lab.errors import ConfigError, TrainingError
from jaxce.lab.files import PART, write_whole

LOCK = ".lock"
CONFIG = "config.json"


def new_workdir(name: str) -> Path:
    """A new folder runs/<name>-<date>-<time>, numbered where several begin in one second."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for suffix in itertools.chain([""], (f"-{i}" for i in itertools.count(2))):
        path = Path("runs") / f"{stem}{suffix}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not path.exists():  # it is `runs` that is in the way
                raise ConfigError("cannot make a folder in runs, which is a file: name a --workdir") from None
        except OSError as error:
            raise ConfigError(f"cannot make a folder in runs: {error.strerror}; name a --workdir") from error
        else:
            return path
    raise AssertionError("unreachable")


@contextmanager
def claim(workdir: Path, config: Config, resume: bool) -> Iterator[None]:
    """Make `workdir` this run's own for the body, with config.json in it.

    Raises:
        ConfigError: It is in use, holds another run or another config, or cannot be written; what is in it is
            left as it was.
        TrainingError: The body could not write a file.
    """
    check_workdir(workdir, config, resume)
    with lock(workdir):
        refuse(workdir, config, resume)
        try:
            if not resume:
                write_json(workdir / CONFIG, asdict(config))
            yield
        except OSError as error:
            raise TrainingError(
                f"cannot write to {workdir}: {error.strerror or error}; once that is corrected, --resume "
                f"continues from the last checkpoint"
            ) from error


def check_workdir(workdir: Path, config: Config, resume: bool) -> None:
    """Raise the ConfigError that `claim` would, of a folder as it is now; nothing is written."""
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"workdir {workdir} is a file: name a folder, new or empty")
    with lock(workdir) if (workdir / LOCK).exists() else contextlib.nullcontext():
        refuse(workdir, config, resume)


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Hold `workdir`, made if need be, against other processes; the system lets go when this one dies."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = os.open(workdir / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigError(
            f"cannot write to workdir {workdir}: {error.strerror}; name another --workdir"
        ) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another run is at work in {workdir}: wait until it ends, or name another --workdir"
            ) from error
        yield
    finally:
        os.close(file)


def refuse(workdir: Path, config: Config, resume: bool) -> None:
    """Raise ConfigError when `workdir` lacks the run to resume or, for a new run, holds anything."""
    if resume:
        check_resumable(workdir, config)
    else:
        check_unused(workdir)


def check_unused(workdir: Path) -> None:
    """Raise ConfigError when `workdir` holds more than a run leaves that is killed before it began."""
    if workdir.exists() and {path.name for path in workdir.iterdir()} - {LOCK, CONFIG + PART}:
        raise ConfigError(
            f"workdir {workdir} is not empty: add --resume to go on with it, or name another --workdir"
        )


def check_resumable(workdir: Path, config: Config) -> None:
    """Raise ConfigError when `workdir` holds no run, or the run of another config."""
    before = config_to_resume(workdir)
    settings = json.loads(json.dumps(asdict(config)))
    changed = [name for name in settings if settings[name] != before.get(name)]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"cannot resume {workdir} with {name} = {settings[name]}: it was started with "
            f"{name} = {before.get(name)}; give the same config, or another --workdir"
        )


def config_to_resume(workdir: Path) -> dict[str, Any]:
    """What `read_config` reads, for a run that is to go on."""
    try:
        return read_config(workdir)
    except ConfigError as error:
        raise ConfigError(f"nothing to resume: {error}") from error


def stored_config(workdir: Path) -> Config:
    """The config of the run in `workdir`, for it to go on.

    Raises:
        ConfigError: There is none, or it is not one of this version.
    """
    try:
        return Config(**config_to_resume(workdir))
    except TypeError as error:
        raise ConfigError(f"{workdir / CONFIG} holds no config of this version: {error}") from error


def read_config(workdir: Path) -> dict[str, Any]:
    """The fields of a run's config, of this version or another.

    Raises:
        ConfigError: `workdir` is no run's folder, or its config.json is damaged.
    """
    if not (workdir / CONFIG).is_file():
        what = f"holds no {CONFIG}" if workdir.is_dir() else "is no folder"
        raise ConfigError(f"{workdir} is no run: it {what}; give a folder that jaxce train wrote")
    return read_json(workdir / CONFIG)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; ConfigError where there is none."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): restore it, or train again") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is damaged: it holds no JSON object; restore it, or train again")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON: all of it, or nothing."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def keep_lines(metrics_file: Path, epochs: int) -> float:
    """Cut off what was logged after the checkpoint that the run goes on from: it will be logged again.

    A line that was being written when the run was killed goes too.

    Returns:
        `seconds` of the last line kept: how long the run had taken by then.
    """
    if not metrics_file.exists():
        return 0.0
    kept, seconds = 0, 0.0
    for line in metrics_file.read_bytes().splitlines(keepends=True):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if line.endswith(b"\n") and (row := json.loads(line))["epoch"] <= epochs:
                kept, seconds = kept + len(line), row["seconds"]
                continue
        break
    os.truncate(metrics_file, kept)
    return seconds
