"""`python -m jaxce report DIR...`: the page of one run again, or one that compares several."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from jaxce.lab.errors import ConfigError


def main(argv: Sequence[str], prog: str = "jaxce report") -> int:
    """Write a report and say where it is.

    Returns:
        0 done, 2 for a mistake in usage.

    Raises:
        ConfigError: A folder is no run's, a file in it is damaged, or the page cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog,
        description="Of one folder, write its report.html again, also where the run is unfinished. "
        "Of several, write one page that compares them: settings that differ, results, curves.",
    )
    parser.add_argument("workdirs", nargs="+", metavar="DIR", type=Path, help="folder that train.py wrote")
    parser.add_argument(
        "--out", type=Path, help="where the comparison goes; comparison.html beside the runs if left out"
    )
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    # A second of imports that --help and mistakes need not wait for.
    from jaxce.lab.report.comparison import write_comparison
    from jaxce.lab.report.page import write_report

    workdirs = list(dict.fromkeys(options.workdirs))
    if len(workdirs) == 1 and options.out is not None:
        raise ConfigError("--out is for the comparison of several runs; that of one lies in its folder")
    try:
        if len(workdirs) == 1:
            print(f"report in {write_report(workdirs[0])}")
            return 0
        path = options.out or beside(workdirs) / "comparison.html"
        if not path.parent.is_dir():
            raise ConfigError(f"--out {path}: there is no folder {path.parent}; make it first")
        write_comparison(workdirs, path)
    except OSError as error:
        where = options.out or " ".join(map(str, workdirs))
        raise ConfigError(f"cannot write the page of {where}: {error.strerror or error}") from error
    print(f"comparison of {len(workdirs)} runs in {path}")
    return 0


def beside(workdirs: Sequence[Path]) -> Path:
    """The folder that holds all of them, seen from here where it lies below."""
    common = Path(os.path.commonpath([workdir.resolve().parent for workdir in workdirs]))
    return common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common
