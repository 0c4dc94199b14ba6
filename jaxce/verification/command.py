"""`python -m jaxce verify`: every loss of LOSSES against every comparison, as a table, with an exit code."""

import argparse
import contextlib
import difflib
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from jaxce.losses import LOSSES
from jaxce.verification.findings import Finding, gradient_limit, value_limit
from jaxce.verification.suite import DTYPES, verify_loss
from jaxce.verification.table import as_json, print_table

Job = tuple[str, str]  # loss, dtype


def main(argv: Sequence[str], prog: str = "jaxce verify") -> int:
    """Verify losses and print what was found.

    Returns:
        0 when every error is within its limit, 1 when one is not, 2 for a mistake in usage.
    """
    try:
        options = _parser(prog).parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    started = time.perf_counter()
    jobs = list(itertools.product(options.losses or LOSSES, options.dtype))
    found = list(_verified(jobs, options.processes))
    seconds = time.perf_counter() - started
    if options.json:
        print(json.dumps(as_json(found, seconds), indent=1))
    else:
        print_table(found, seconds)
    return 0 if all(each.ok for each in found) else 1


def _parser(prog: str) -> argparse.ArgumentParser:
    limits = ", ".join(f"{d} {value_limit(d):.0e} and {gradient_limit(d):.0e}" for d in DTYPES)
    parser = argparse.ArgumentParser(
        prog,
        description="Hold every loss and its gradient against high-precision arithmetic, automatic "
        "differentiation and differences. Exits with 1 when an error exceeds its limit.",
        epilog=f"Limits of relative errors, of values and of gradients: {limits}.",
    )
    parser.add_argument("losses", nargs="*", metavar="LOSS", type=_loss, help="which; all if left out")
    parser.add_argument(
        "--dtype", nargs="+", choices=DTYPES, default=DTYPES, help="dtypes of the inputs; all four if left out"
    )
    parser.add_argument("--json", action="store_true", help="all that was found, setting by setting, as JSON")
    parser.add_argument(
        "--processes",
        type=int,
        default=min(os.cpu_count() or 1, 8),
        help="how many to work in (default: one for each CPU, eight at most)",
    )
    return parser


def _loss(name: str) -> str:
    if name not in LOSSES:
        nearest = difflib.get_close_matches(name, LOSSES, 1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(LOSSES)}"
        raise argparse.ArgumentTypeError(f"no loss is called {name}: {hint}")
    return name


def _verified(jobs: list[Job], processes: int) -> Iterator[Finding]:
    """The findings of all jobs, in their order."""
    with contextlib.ExitStack() as stack:
        results: Iterator[list[Finding]] = map(_verify, jobs)
        if min(processes, len(jobs)) > 1:
            # JAX does not survive a fork
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(min(processes, len(jobs)), context))
            results = pool.map(_verify, jobs)
        for n, ((loss, dtype), found) in enumerate(zip(jobs, results, strict=True), 1):
            _say(f"{n}/{len(jobs)} {loss} {dtype}")
            yield from found
    _say("")


def _say(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)


def _verify(job: Job) -> list[Finding]:
    name, dtype = job
    return verify_loss(LOSSES[name], dtype)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m jaxce.verification.command"))
