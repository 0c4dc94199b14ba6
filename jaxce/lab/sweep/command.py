"""`python -m jaxce sweep CONFIG --over FIELD=SPEC...`: the flags, and what they mean together."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from jaxce.lab.config import Config, did_you_mean, load_config
from jaxce.lab.errors import ConfigError
from jaxce.lab.sweep.space import GRAMMAR

DESCRIPTION = f"""\
Train a config in many settings. Those that differ in numbers alone run in one compiled program.

A SPEC is one of
{GRAMMAR}

Without --trials every combination is trained; with it, a sampler proposes that many. Whatever else the config
holds is set by the flags of `jaxce train`, as in --epochs 20. Several processes, on several machines too, share
a sweep that is started with the same words and the same --storage."""


class Parser(argparse.ArgumentParser):
    """argparse, with mistakes in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise the mistake."""
        raise ConfigError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str], prog: str = "jaxce sweep") -> int:
    """Sweep, and say what is best and where the results are.

    Returns:
        0 done.

    Raises:
        ConfigError: A mistake in usage or config; nothing has been run.
        TrainingError: No setting could be trained.
    """
    from jaxce.cli import TrainFlags, parse  # which imports this module's caller

    args = list(argv)
    name = args.pop(0) if args and not args[0].startswith("-") else "digits"
    options, rest = read_flags(args, prog)
    base = parse(TrainFlags(config=load_config(name)), rest, prog).config
    if options.resume and options.workdir is None:
        raise ConfigError("--resume needs --workdir, the folder of the sweep to go on with")
    if not (options.over or options.resume):
        raise ConfigError("what to sweep? --over FIELD=SPEC, as in --over learning_rate=1e-3,1e-2 seed=seeds:3")
    # Seconds of imports that --help and these mistakes need not wait for.
    from jaxce.lab.sweep.run import make_plan, sweep

    plan = None
    if options.over:
        sampler = options.sampler or ("grid" if options.trials is None else "tpe")
        if sampler == "grid" and options.trials is not None:
            raise ConfigError(
                "--trials is for the samplers random and tpe: a grid has as many settings as it has"
            )
        if sampler != "grid" and options.trials is None:
            raise ConfigError(f"--sampler {sampler} needs --trials N: how many settings to propose")
        plan = make_plan(name, base, tuple(options.over), sampler, options.trials, options.prune)
    elif rest or options.sampler or options.trials or options.prune:
        raise ConfigError("--resume without --over goes on as it was begun: leave the other flags out")
    sweep(plan, options.workdir, options.storage, resume=options.resume, parallel=options.parallel)
    return 0


def make_parser(prog: str) -> Parser:
    """The flags that are not the config's."""
    parser = Parser(
        f"{prog} [CONFIG]",
        description=DESCRIPTION,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--over", nargs="+", action="extend", default=[], metavar="FIELD=SPEC", help="what to sweep")
    add("--trials", type=int, metavar="N", help="settings to propose; every combination if left out")
    add(
        "--sampler",
        choices=("grid", "random", "tpe"),
        help="grid, as without --trials; random; or tpe, which learns from results, the default with it",
    )
    add(
        "--prune",
        action="store_true",
        help="end a setting that, at each tenth of its epochs, is worse than the median of those done",
    )
    add("--parallel", type=int, metavar="K", help="settings side by side in a program; 4 a device if left out")
    add("--storage", metavar="URL", help="database, for several machines; sweep.db in the workdir if left out")
    add("--workdir", type=Path, metavar="DIR", help="folder for results; runs/<config>-sweep-... if left out")
    add("--resume", action="store_true", help="go on with the sweep in --workdir, or help others who are at it")
    return parser


def read_flags(args: Sequence[str], prog: str) -> tuple[argparse.Namespace, list[str]]:
    """The sweep's own flags, and the rest, which are the config's."""
    parser = make_parser(prog)
    options, rest = parser.parse_known_args(args)
    own = [flag for action in parser._actions for flag in action.option_strings]
    of_config = [f"--{field.name.replace('_', '-')}" for field in fields(Config)]
    for flag in (arg.partition("=")[0] for arg in rest if arg.startswith("--")):
        if flag.replace("_", "-") not in of_config:
            raise ConfigError(f"unknown flag {flag}{did_you_mean(flag, [*own, *of_config])}; see {prog} --help")
    for each in ("trials", "parallel"):
        if (value := getattr(options, each)) is not None and value < 1:
            raise ConfigError(f"--{each} must be at least 1, not {value}")
    return options, rest
