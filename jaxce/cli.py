"""The command line, `jaxce` or `python -m jaxce`: train, sweep, verify, conform and report."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import jax

import jaxce
from jaxce.lab.errors import ConfigError, Stopped, TrainingError, choose

DONE, FAILED, MISUSED = 0, 1, 2


def main() -> int:
    """Run the command that this process was started with.

    Returns:
        What `run_command` does; 0 for --help and --version.
    """
    args = sys.argv[1:] or ["--help"]
    if args[0] == "--version":
        print(f"jaxce {jaxce.__version__}")
    elif args[0] in ("-h", "--help"):
        print("usage: jaxce COMMAND ...\n")
        for name, (command, _) in COMMANDS.items():
            print(f"  {name:8} {command.__doc__}")
        print("\njaxce COMMAND --help says more about one; jaxce --version, which version this is.")
    else:
        return run_command(args[0], args[1:], prog=f"jaxce {args[0]}")
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
        choose("command", name, COMMANDS)
        command, extra = COMMANDS[name]
        if not all(map(find_spec, EXTRAS[extra])):
            raise ConfigError(f'jaxce {name} needs the extra "{extra}": pip install "jaxce[{extra}]"')
        return command(list(args), prog)
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


# The commands import what they need when they run: without an extra the others still work, and neither --help
# nor a mistake waits for seconds of imports.


def train(args: list[str], prog: str) -> int:
    """Train a model as a config says, and say where the results are."""
    from jaxce.lab.config import Config, describe_configs, load_config
    from jaxce.lab.flags import TrainFlags, read_flags
    from jaxce.lab.training.devices import cache_compilations, make_cpu_devices
    from jaxce.lab.training.processes import is_first, join, together
    from jaxce.lab.workdir import new_workdir, stored_config

    started = time.perf_counter()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until there is something to save
    configs = "\n".join(f"- {name}: {line}" for name, line in describe_configs().items())
    about = f"{train.__doc__}\n\nCONFIG, digits if left out, is a name or the path of a .py file:\n{configs}"
    name = config_name(args, prog)

    def read(config: Config) -> tuple[TrainFlags, Config]:
        return read_flags((TrainFlags(), config), args, f"{prog} [CONFIG]", about)

    flags, config = read(load_config(name or "digits"))
    if flags.resume and flags.workdir is None:
        raise ConfigError("--resume needs --workdir, the folder of the run to go on with")
    make_cpu_devices(config.class_devices)
    join(flags.coordinator, flags.num_processes, flags.process_id)
    with together():
        if flags.resume and flags.workdir and name is None:
            flags, config = read(stored_config(flags.workdir))
            make_cpu_devices(config.class_devices)
        workdir = flags.workdir or (new_workdir(Path(name or "digits").stem) if is_first() else Path("runs"))
    from rich.filesize import decimal

    from jaxce.lab.tasks import find_metric
    from jaxce.lab.training.loop import run

    cache_compilations()
    try:
        summary = run(
            config,
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
    metrics = ((find_metric(name, config.loss), value) for name, value in summary["test"].items())
    results = ", ".join(f"{metric.words} {metric.show(value)}" for metric, value in metrics)
    memory = sum(summary["memory"].values())
    cost = f"{summary['wall_seconds']:.1f} s" + (f", {decimal(memory)} a device" if memory else "")
    if is_first():
        print(f"test {results}; {cost}; results in {workdir}")
    return DONE


def sweep(args: list[str], prog: str) -> int:
    """Train in many settings, those that differ in numbers alone in one compiled program."""
    from jaxce.lab.config import load_config
    from jaxce.lab.flags import SweepFlags, read_flags
    from jaxce.lab.sweep.space import GRAMMAR

    about = f"""{sweep.__doc__}

A SPEC is one of
{GRAMMAR}

Without --trials every combination is trained; with it, a sampler proposes that many. CONFIG, digits if left
out, is a name or the path of a .py file; the flags of `jaxce train`, as --epochs 20, change it. Several
processes, on several machines too, share a sweep that is started with the same words and the same --storage."""
    name = config_name(args, prog) or "digits"
    base = load_config(name)
    flags, config = read_flags((SweepFlags(), base), args, f"{prog} [CONFIG]", about)
    over = tuple(item for items in flags.over for item in items)
    if flags.resume and flags.workdir is None:
        raise ConfigError("--resume needs --workdir, the folder of the sweep to go on with")
    if not (over or flags.resume):
        raise ConfigError("what to sweep? --over FIELD=SPEC, as in --over learning_rate=1e-3,1e-2 seed=seeds:3")
    sampler = flags.sampler or ("grid" if flags.trials is None else "tpe")
    if sampler == "grid" and flags.trials is not None:
        raise ConfigError("--trials is for the samplers random and tpe: a grid has as many settings as it has")
    if sampler != "grid" and flags.trials is None:
        raise ConfigError(f"--sampler {sampler} needs --trials N: how many settings to propose")
    if not over and (config != base or flags.sampler or flags.trials or flags.prune):
        raise ConfigError("--resume without --over goes on as it was begun: leave the other flags out")
    from jaxce.lab.sweep import run

    plan = run.make_plan(name, config, over, sampler, flags.trials, flags.prune) if over else None
    run.sweep(plan, flags.workdir, flags.storage, resume=flags.resume, parallel=flags.parallel)
    return DONE


def verify(args: list[str], prog: str) -> int:
    """Check every loss and all its derivatives against its definition without rounding."""
    from jaxce.lab.flags import VerifyFlags, read_flags
    from jaxce.verification.parallel import verify_losses
    from jaxce.verification.table import as_json, print_table

    started = time.perf_counter()
    (flags,) = read_flags((VerifyFlags(),), args, prog, f"{verify.__doc__} Exits with 1 where one falls short.")
    for name in flags.losses:
        choose("loss", name, jaxce.LOSSES)
    found = verify_losses(flags.losses or tuple(jaxce.LOSSES), flags.dtype, flags.processes)
    seconds = time.perf_counter() - started
    if flags.json:
        print(json.dumps(as_json(found, seconds), indent=1))
    else:
        print_table(found, seconds)
    return DONE if all(each.check.ok for each in found) else FAILED


def conform(args: list[str], prog: str) -> int:
    """Try anybody's implementation of a loss: exactness, derivatives, transformations and misuse."""
    from jaxce.lab.flags import ConformFlags, read_flags
    from jaxce.verification import conformance
    from jaxce.verification.table import print_scoreboard, scoreboard_as_json

    started = time.perf_counter()
    areas = "\n".join(f"- {name}: {cases.__doc__}" for name, cases in conformance.AREAS.items())
    about = f"""{conform.__doc__}

MODULE:FUNCTION is a function (logits, labels) of JAX or torch that gives one loss for each example. It is
tried, eager and under jit, beside the definition of a loss of jaxce. Exits with 1 where one falls short. Areas:
{areas}"""
    (flags,) = read_flags((ConformFlags(),), args, prog, about)
    if not flags.function:
        raise ConfigError(
            f"which function? give MODULE:FUNCTION, as optax.losses:poly_loss_cross_entropy; see {prog} --help"
        )
    choose("loss", flags.like, conformance.LIKE)
    with contextlib.suppress(RuntimeError):  # JAX has its devices already: then nothing is spread over them
        jax.config.update("jax_num_cpu_devices", conformance.NUM_DEVICES)
    try:
        implementation, results = conformance.conform(flags.function, flags.like)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    seconds = time.perf_counter() - started
    if flags.json:
        print(json.dumps(scoreboard_as_json(implementation, flags.like, results, seconds), indent=1))
    else:
        print_scoreboard(implementation, flags.like, results, seconds)
    return DONE if all(each.check.ok for each in results) else FAILED


def report(args: list[str], prog: str) -> int:
    """Write the page of one run again, finished or not, or one page that compares several."""
    from jaxce.lab.flags import ReportFlags, read_flags

    (flags,) = read_flags((ReportFlags(),), args, prog, report.__doc__ or "")
    workdirs = list(dict.fromkeys(flags.workdirs))
    if not workdirs:
        raise ConfigError("which runs? give the folders that jaxce train wrote")
    if len(workdirs) == 1 and flags.out is not None:
        raise ConfigError("--out is for the comparison of several runs; that of one lies in its folder")
    from jaxce.lab.report.comparison import write_comparison
    from jaxce.lab.report.page import write_report

    try:
        if len(workdirs) == 1:
            print(f"report in {write_report(workdirs[0])}")
            return DONE
        path = flags.out or beside(workdirs) / "comparison.html"
        if not path.parent.is_dir():
            raise ConfigError(f"--out {path}: there is no folder {path.parent}; make it first")
        write_comparison(workdirs, path)
    except OSError as error:
        where = flags.out or " ".join(map(str, workdirs))
        raise ConfigError(f"cannot write the page of {where}: {error.strerror or error}") from error
    print(f"comparison of {len(workdirs)} runs in {path}")
    return DONE


def config_name(args: list[str], prog: str) -> str | None:
    """Take CONFIG off the front of `args`; None where it is left out."""
    name = args.pop(0) if args and not args[0].startswith("-") else None
    if args and not args[0].startswith("-"):
        raise ConfigError(f"cannot read {args[0]!r}: CONFIG comes first, then flags; see {prog} --help")
    return name


def beside(workdirs: Sequence[Path]) -> Path:
    """The folder that holds all of them, relative to the current one where it lies below."""
    common = Path(os.path.commonpath([workdir.resolve().parent for workdir in workdirs]))
    return common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common


# Each command with the extra that it needs, and modules that tell whether an extra is installed.
COMMANDS = {
    "train": (train, "train"),
    "sweep": (sweep, "train"),
    "verify": (verify, "verify"),
    "conform": (conform, "verify"),
    "report": (report, "train"),
}
EXTRAS = {"train": ("tyro", "flax", "optuna"), "verify": ("tyro", "flint")}
