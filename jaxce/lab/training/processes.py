"""One run in several processes, by jax.distributed: only process 0 writes, and all fail or stop together."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxce.lab.errors import ConfigError, TrainingError

AUTO = "auto"
SECONDS_TO_WAIT = 3600
"""How long a process waits for the others, which may load data or write files."""

waits = count()


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Make this process one of those of a run, before JAX looks for devices; with no coordinator, do nothing.

    Args:
        coordinator: HOST:PORT of process 0; AUTO where JAX can find it out: in SLURM, Open MPI, Kubernetes or
            on Cloud TPUs.
        num_processes: How many there are; None if JAX can find it out.
        process_id: Number of this process, from 0; None if JAX can find it out.

    Raises:
        ConfigError: The other processes cannot be found.
    """
    if coordinator is None:
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would handle SIGTERM
    try:
        jax.distributed.initialize(None if coordinator == AUTO else coordinator, num_processes, process_id)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"cannot join the other processes ({error}): give --coordinator HOST:PORT, --num-processes and "
            f"--process-id in each, or --coordinator {AUTO} under SLURM, Open MPI, Kubernetes or on Cloud TPUs"
        ) from error


def is_first() -> bool:
    """Whether this is process 0, which writes the files and prints."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def largest(number: int) -> int:
    """The largest of all processes' numbers."""
    if not jax.distributed.is_initialized():
        return number
    from orbax.checkpoint import multihost

    # The coordinator's barrier first: devices that wait for each other's data time out sooner.
    everyone = set(range(jax.process_count()))
    multihost.sync_global_processes(f"jaxce-{next(waits)}", timeout=SECONDS_TO_WAIT, processes=everyone)
    return int(multihost_utils.process_allgather(np.int32(number)).max())


@contextmanager
def together() -> Iterator[None]:
    """Fail in all processes if the body fails in one, so that none waits for the others forever.

    Raises:
        TrainingError: The body failed in another process.
    """
    failure = None
    try:
        yield
    except BaseException as error:
        failure = error
    failed = largest(0 if failure is None else jax.process_index() + 1)
    if failure is not None:
        raise failure
    if failed:
        raise TrainingError(f"process {failed - 1} failed: its own message says why")


def from_first(arrays: Any) -> Any:
    """The NumPy arrays of process 0, in every process; only shapes and dtypes of the others' are used."""
    if not jax.distributed.is_initialized():
        return arrays

    def receive(array: np.ndarray) -> np.ndarray:
        sent = multihost_utils.broadcast_one_to_all(np.frombuffer(array.tobytes(), np.uint8))
        return np.frombuffer(sent.tobytes(), array.dtype).reshape(array.shape)

    return jax.tree.map(receive, arrays)


def require_same(what: str, *parts: Any) -> None:
    """Raise ConfigError in every process if their arrays, or the text of other values, differ."""
    if not jax.distributed.is_initialized():
        return
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(parts):
        digest.update(leaf.tobytes() if isinstance(leaf, np.ndarray) else repr(leaf).encode())
    digests = multihost_utils.process_allgather(np.frombuffer(digest.digest(), np.uint8))
    differing = np.flatnonzero((digests != digests[0]).any(-1))
    if differing.size:
        raise ConfigError(f"process {differing[0]} has another {what} than process 0: give all the same")
