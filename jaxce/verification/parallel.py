"""Losses of LOSSES verified one by one, dtype by dtype, in parallel processes."""

import contextlib
import itertools
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from jaxce.losses import LOSSES
from jaxce.verification.suite import Finding, verify_loss


def verify_losses(losses: Sequence[str], dtypes: Sequence[str], processes: int) -> list[Finding]:
    """The findings of every loss in every dtype, in this order; progress goes to a terminal."""
    jobs = list(itertools.product(losses, dtypes))
    found = []
    with contextlib.ExitStack() as stack:
        results: Iterator[list[Finding]] = map(verify_job, jobs)
        if min(processes, len(jobs)) > 1:
            # JAX does not survive a fork.
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(min(processes, len(jobs)), context))
            results = pool.map(verify_job, jobs)
        for n, ((loss, dtype), findings) in enumerate(zip(jobs, results, strict=True), 1):
            show_progress(f"{n}/{len(jobs)} {loss} {dtype}")
            found += findings
    show_progress("")
    return found


def verify_job(job: tuple[str, str]) -> list[Finding]:
    """The findings of one loss in one dtype."""
    loss, dtype = job
    return verify_loss(LOSSES[loss], dtype)


def show_progress(progress: str) -> None:
    """Overwrite the last line of a terminal; elsewhere print nothing."""
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)
