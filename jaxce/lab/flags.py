"""The flags of each command, read by tyro into dataclasses; and a config written as flags."""

import contextlib
import io
import itertools
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from jaxce.lab.errors import ConfigError, check, did_you_mean, in_words

Dtype = Literal["float32", "float64", "bfloat16", "float16"]
Flags = TypeVar("Flags", bound=tuple[Any, ...])


@dataclass(frozen=True)
class TrainFlags:
    """Flags of `jaxce train`, beside the fields of the config."""

    workdir: Path | None = None
    """Folder for results and checkpoints, new or empty. None: runs/<config>-<date>-<time>."""
    resume: FlagCreatePairsOff[bool] = False
    """Go on from the newest checkpoint in --workdir, with the config that lies there."""
    checkpoint_seconds: float = 5.0
    """How long after one checkpoint to write the next, at the end of an epoch: what a kill can cost."""
    keep: int = 2
    """How many of the last checkpoints to keep beside the best, by valid loss."""
    coordinator: str | None = None
    """For one run in several processes, each started with the same flags: HOST:PORT of process 0, any free port
    of it; or `auto` where JAX finds the processes out, under SLURM, Open MPI, Kubernetes and on Cloud TPUs."""
    num_processes: int | None = None
    """How many processes there are; needed with HOST:PORT where JAX cannot find it out."""
    process_id: int | None = None
    """Which of them this is, from 0; likewise. Process 0 alone writes, and needs the workdir."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check("checkpoint_seconds", self.checkpoint_seconds, self.checkpoint_seconds >= 0, "at least 0")
        for name in ("keep", "num_processes"):
            value = getattr(self, name)
            check(name, value, value is None or value >= 1, "at least 1")
        for name in ("num_processes", "process_id"):
            if self.coordinator is None and getattr(self, name) is not None:
                raise ConfigError(f"{name} needs a coordinator: the HOST:PORT of process 0")


@dataclass(frozen=True)
class SweepFlags:
    """Flags of `jaxce sweep`, beside the fields of the config."""

    over: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], arg(metavar="FIELD=SPEC ...")] = ()
    """What to sweep."""
    trials: int | None = None
    """How many settings a sampler proposes. None: every combination is trained."""
    sampler: Literal["grid", "random", "tpe"] | None = None
    """grid, the default without --trials; random; or tpe, which learns from results, the default with it."""
    prune: FlagCreatePairsOff[bool] = False
    """End a setting that, at each tenth of its epochs, is worse than the median of those done."""
    parallel: int | None = None
    """How many settings to train side by side in one program. None: 4 on each device."""
    storage: str | None = None
    """Address of a database, for several machines. None: sweep.db in the workdir."""
    workdir: Path | None = None
    """Folder for results, new or empty. None: runs/<config>-sweep-<date>-<time>."""
    resume: FlagCreatePairsOff[bool] = False
    """Go on with the sweep in --workdir, or help others who are at it."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("trials", "parallel"):
            value = getattr(self, name)
            check(f"--{name}", value, value is None or value >= 1, "at least 1")


@dataclass(frozen=True)
class VerifyFlags:
    """Flags of `jaxce verify`."""

    losses: Annotated[Positional[tuple[str, ...]], arg(metavar="[LOSS ...]", help_behavior_hint="")] = ()
    """Names in jaxce.LOSSES; all of them if left out."""
    dtype: tuple[Dtype, ...] = get_args(Dtype)
    """Dtypes of the inputs."""
    json: FlagCreatePairsOff[bool] = False
    """Print all that was found, setting by setting, as JSON."""
    processes: int = min(os.cpu_count() or 1, 8)
    """How many processes to work in: one for each CPU, eight at most."""

    def __post_init__(self) -> None:
        """Check that there is something to verify."""
        check("--dtype", "", bool(self.dtype), "one dtype or more")


@dataclass(frozen=True)
class ConformFlags:
    """Flags of `jaxce conform`."""

    function: Annotated[Positional[str], arg(metavar="MODULE:FUNCTION", help_behavior_hint="")] = ""
    """The implementation, as optax.losses:poly_loss_cross_entropy or my_losses.py:loss."""
    like: str = "softmax_cross_entropy_with_integer_labels"
    """The loss in jaxce.LOSSES that it should be."""
    json: FlagCreatePairsOff[bool] = False
    """Print all that was found, case by case, as JSON."""


@dataclass(frozen=True)
class ReportFlags:
    """Flags of `jaxce report`."""

    workdirs: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR ...", help_behavior_hint="")] = ()
    """Folders that `jaxce train` wrote."""
    out: Path | None = None
    """Where the comparison goes. None: comparison.html beside the runs."""


def read_flags(defaults: Flags, args: Sequence[str], prog: str, about: str) -> Flags:
    """Change `defaults` as `args` say; `--help` prints all flags and exits.

    Args:
        defaults: Dataclasses, whose fields are the flags.
        args: What the user typed.
        prog: What stood before it.
        about: What `--help` says first.

    Raises:
        ConfigError: A flag or a value does not fit.
    """
    kinds: Any = GenericAlias(tuple, tuple(Annotated[type(each), arg(name="")] for each in defaults))

    def attempt(args: Sequence[str]) -> Flags | None:
        # tyro prints a mistake in a box of many lines; below it is found and said in one sentence.
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                return tyro.cli(kinds, prog=prog, description=about, default=defaults, args=args)
        except SystemExit as stop:
            if not stop.code:
                raise
            return None

    def fits(args: Sequence[str]) -> bool:
        try:
            return attempt(args) is not None
        except ConfigError:  # well formed, but it needs the other flags
            return True

    if (found := attempt(args)) is not None:
        return found
    known = kinds_of(defaults)
    starts = [i for i, arg in enumerate(args) if arg.startswith("--")]
    for start, end in itertools.pairwise([*starts, len(args)]):
        if not fits(args[start:end]):
            name, _, value = " ".join(args[start:end]).partition("=" if "=" in args[start] else " ")
            if (name := name.replace("_", "-")) not in known:
                raise ConfigError(f"unknown flag {name}{did_you_mean(name, known)}; see {prog} --help")
            takes = "no value" if known[name] is bool else in_words(known[name])
            raise ConfigError(f"{name} takes {takes}, not {value!r}")
    raise ConfigError(f"cannot read {shlex.join(args)!r}; see {prog} --help")


def kinds_of(defaults: tuple[Any, ...]) -> dict[str, Any]:
    """The type of each flag, by its name.

    >>> list(kinds_of((VerifyFlags(),)))
    ['--dtype', '--json', '--processes']
    """
    found = {}
    for each in defaults:
        marked = get_type_hints(type(each), include_extras=True)
        for name, kind in get_type_hints(type(each)).items():
            if Positional not in getattr(marked[name], "__metadata__", ()):
                found[flag(name)] = kind
    return found


def flag(name: str) -> str:
    """The flag of a field.

    >>> flag("learning_rate")
    '--learning-rate'
    """
    return f"--{name.replace('_', '-')}"


def write_flags(config: Mapping[str, Any], base: Any) -> list[str]:
    """The flags with which `read_flags` turns `base`, a dataclass, into another of its kind.

    Args:
        config: Its fields; those left out are as in `base`. Lists, as JSON has them, are tuples.
        base: What the flags change.

    >>> write_flags({"keep": 2, "workdir": "my run", "resume": True}, TrainFlags())
    ['--workdir', 'my run', '--resume']
    """
    flags = []
    for field in fields(base):
        before = getattr(base, field.name)
        value = config.get(field.name, before)
        value = tuple(value) if isinstance(value, list) else value
        if value == before:
            continue
        if isinstance(value, bool):
            flags.append(flag(field.name if value else f"no_{field.name}"))
        elif isinstance(value, tuple):
            flags += [flag(field.name), *map(str, value)]
        elif str(value).startswith("-"):
            flags.append(f"{flag(field.name)}={value}")
        else:
            flags += [flag(field.name), str(value)]
    return flags


def train_command(name: str, flags: Sequence[str]) -> str:
    """The command that trains with a named config, changed by flags.

    >>> train_command("captcha", ["--data", "my captchas.npz"])
    "python -m jaxce train captcha --data 'my captchas.npz'"
    """
    return shlex.join(["python", "-m", "jaxce", "train", name, *flags])
