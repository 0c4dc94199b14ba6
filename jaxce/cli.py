"""The command line, `jaxce` or `python -m jaxce`: commands, flags, and mistakes told in one line."""

import contextlib
import io
import itertools
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn, get_type_hints

import jax
import platformdirs
import tyro
from rich.filesize import decimal

from jaxce.lab.config import Config, check, describe_configs, did_you_mean, in_words, load_config
from jaxce.lab.errors import ConfigError, Stopped, TrainingError
from jaxce.lab.training.devices import make_cpu_devices
from jaxce.lab.training.processes import is_first, join, together

DONE, FAILED, MISUSED = 0, 1, 2


def main() -> int:
    """Run the command that this process was started with; see `run_command`."""
    args = sys.argv[1:] or ["--help"]
    if args[0] not in ("-h", "--help"):
        return run_command(args[0], args[1:], prog=f"jaxce {args[0]}")
    print("usage: jaxce COMMAND ...\n")
    for name, command in COMMANDS.items():
        print(f"  {name:8} {(command.__doc__ or '').partition(chr(10))[0]}")
    print("\njaxce COMMAND --help says more of one.")
    return DONE


def run_command(name: str, args: Sequence[str], prog: str) -> int:
    """Run one command; what goes wrong leaves one line on standard error.

    Args:
        name: One of COMMANDS.
        args: What stands behind it.
        prog: What the user typed before `args`.

    Returns:
        0 done, 2 a mistake in usage or config, 1 anything else.
    """
    try:
        if name not in COMMANDS:
            raise ConfigError(f"unknown command {name!r}{did_you_mean(name, COMMANDS)}; see jaxce --help")
        return COMMANDS[name](list(args), prog)
    except KeyboardInterrupt:
        print("stopped: before there was anything new to save", file=sys.stderr)
        return FAILED
    except Stopped as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        return FAILED
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        line = (
            str(error)
            if isinstance(error, ConfigError | TrainingError)
            else f"{type(error).__name__}: {error} (python -X dev shows where)"
        )
        print(f"error: {' '.join(line.split())}", file=sys.stderr)
        return MISUSED if isinstance(error, ConfigError) else FAILED


@dataclass(frozen=True)
class TrainFlags:
    """What `train` can be told: where to work, and every field of the config."""

    config: tyro.conf.OmitArgPrefixes[Config]
    workdir: Path | None = None
    """Folder for results and checkpoints, new or empty. None: runs/<config>-<date>-<time>."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
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
        check("keep", self.keep, self.keep >= 1, "at least 1")
        if self.num_processes is not None:
            check("num_processes", self.num_processes, self.num_processes >= 1, "at least 1")
        for name in ("num_processes", "process_id"):
            if self.coordinator is None and getattr(self, name) is not None:
                raise ConfigError(f"{name} needs a coordinator: the HOST:PORT of process 0")


def train(args: list[str], prog: str) -> int:
    """Train a model as a config says, and say where the results are."""
    started = time.perf_counter()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until there is something to save
    name = args.pop(0) if args and not args[0].startswith("-") else None
    config = load_config(name or "digits")
    flags = parse(TrainFlags(config=config), args, prog)
    if flags.resume and flags.workdir is None:
        raise ConfigError("--resume needs --workdir, the folder of the run to go on with")
    make_cpu_devices(flags.config.class_devices)
    join(flags.coordinator, flags.num_processes, flags.process_id)
    with together():
        if flags.resume and flags.workdir and name is None:
            flags = parse(TrainFlags(config=stored_config(flags.workdir)), args, prog)
            make_cpu_devices(flags.config.class_devices)
        workdir = flags.workdir or (new_workdir(Path(name or "digits").stem) if is_first() else Path("runs"))
    from jaxce.lab.training.loop import run  # seconds of imports that --help and mistakes need not wait for

    cache_compilations()
    try:
        summary = run(
            flags.config,
            workdir,
            resume=flags.resume,
            started=started,
            keep=flags.keep,
            checkpoint_seconds=flags.checkpoint_seconds,
        )
    finally:
        if not flags.workdir and is_first():
            with contextlib.suppress(OSError):  # as it must be, unless the run failed before it wrote anything
                workdir.rmdir()
    results = ", ".join(f"{metric} {value:.4f}" for metric, value in summary["test"].items())
    memory = sum(summary["memory"].values())
    cost = f"{summary['wall_seconds']:.1f} s" + (f", {decimal(memory)} a device" if memory else "")
    if is_first():
        print(f"test {results}; {cost}; results in {workdir}")
    return DONE


def verify(args: list[str], prog: str) -> int:
    """Check every loss against its definition and its gradient against mpmath and jax.grad."""
    from jaxce.verification.command import main

    return main(args, prog)


def report(args: list[str], prog: str) -> int:
    """Write the page of one run again, or one that compares several."""
    from jaxce.lab.report.command import main

    return main(args, prog)


def sweep(args: list[str], prog: str) -> int:
    """Train in many settings, those that differ in numbers alone in one compiled program."""
    from jaxce.lab.sweep.command import main

    return main(args, prog)


COMMANDS: dict[str, Callable[[list[str], str], int]] = {
    "train": train,
    "sweep": sweep,
    "verify": verify,
    "report": report,
}


def parse(defaults: TrainFlags, args: Sequence[str], prog: str) -> TrainFlags:
    """`defaults`, changed by `args`; `--help` prints all flags and exits.

    Raises:
        ConfigError: A flag or value that does not fit, in one sentence.
    """
    configs = "\n".join(f"- {name}: {line}" for name, line in describe_configs().items())
    description = (
        f"{train.__doc__}\n\nCONFIG, digits if left out, is a name or the path of a .py file:\n{configs}"
    )

    def attempt(args: Sequence[str]) -> TrainFlags | None:
        # tyro answers mistakes with a box of many lines; what it says is found out below and said in one.
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                return tyro.cli(
                    TrainFlags, prog=f"{prog} [CONFIG]", description=description, default=defaults, args=args
                )
        except SystemExit as stop:
            if not stop.code:
                raise
            return None

    found = attempt(args)
    return found if found is not None else explain(args, attempt, prog)


def explain(args: Sequence[str], attempt: Callable[[Sequence[str]], object], prog: str) -> NoReturn:
    """Raise the ConfigError that says what is wrong with `args`, by trying each flag alone."""
    types = {
        f"--{name.replace('_', '-')}": kind
        for owner in (Config, TrainFlags)
        for name, kind in get_type_hints(owner).items()
        if kind is not Config
    }
    starts = [i for i, arg in enumerate(args) if arg.startswith("--")]
    for start, end in itertools.pairwise([*starts, len(args)]):
        name, _, value = " ".join(args[start:end]).partition("=" if "=" in args[start] else " ")
        if (name := name.replace("_", "-")) not in types:
            raise ConfigError(f"unknown flag {name}{did_you_mean(name, types)}; see {prog} --help")
        try:
            fits = attempt(args[start:end]) is not None
        except ConfigError:  # a value that is well formed, but needs the other flags
            fits = True
        if not fits:
            takes = "no value" if types[name] is bool else in_words(types[name])
            raise ConfigError(f"{name} takes {takes}, not {value!r}")
    raise ConfigError(f"cannot read {args[0]!r}: CONFIG comes first, then flags; see {prog} --help")


def stored_config(workdir: Path) -> Config:
    """The config of the run in `workdir`.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    path = workdir / "config.json"
    try:
        return Config(**json.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(f"nothing to resume: {path} cannot be read") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} holds no config of this version: {error}") from error


def cache_compilations() -> None:
    """Keep compiled programs in the user's cache folder, so that the next run need not compile them.

    What cannot be written there, or was torn when a process was killed as it wrote, is compiled again unsaid.
    """
    warnings.filterwarnings("ignore", r"Error (reading|writing) persistent compilation cache")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        with contextlib.suppress(OSError):  # no such folder to be had: then every run compiles
            folder = platformdirs.user_cache_dir("jaxce", ensure_exists=True)
            jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


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
