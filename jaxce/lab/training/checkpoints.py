"""Checkpoints on disk, by Orbax: written in the background, each whole and checked, or not used."""

import hashlib
import json
import logging
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxce.lab.errors import Stopped, TrainingError
from jaxce.lab.training.processes import from_first, is_first, largest, together
from jaxce.lab.training.step import State

# What goes wrong in Orbax's threads reaches `save`, `restore_latest` or `__exit__` too, and there becomes one
# line: neither the loggers need tell it, nor the reads and writes that find the event loop closed after the
# first of them failed, at some later moment and each with a traceback.
for name in ("absl", "asyncio"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
tell_unraisable = sys.unraisablehook


def tell_what_is_not_of_orbax(unraisable: Any) -> None:
    """What Python does with an exception that nobody can catch, but for those of Orbax's closed event loop."""
    code = getattr(unraisable.object, "cr_code", None)
    of_orbax = code is not None and "orbax" in code.co_filename
    if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
        tell_unraisable(unraisable)


sys.unraisablehook = tell_what_is_not_of_orbax


# Every process has the whole state, so that the first need not wait for others as it writes or reads.
ALONE = ocp.options.MultiprocessingOptions(active_processes={0}, barrier_sync_key_prefix="jaxce")


class Checkpoints:
    """The states of one run in one folder, by epoch: the last few, and the one with the lowest valid loss.

    A context manager: leaving it waits until what was handed to `save` lies on disk. Of several processes, the
    first alone writes and reads.
    """

    def __init__(self, folder: Path, keep: int = 2, seconds_between: float = 5.0) -> None:
        """Name `folder`, which need not exist.

        Args:
            folder: Where the checkpoints lie.
            keep: How many of the last to keep beside the best.
            seconds_between: A state handed in sooner than this after the last save is not written.
        """
        self._folder = folder.resolve()
        last = ocp.checkpoint_managers.LatestN(keep)
        best = ocp.checkpoint_managers.BestN(get_metric_fn=valid_loss, reverse=True, n=1)
        self._options = ocp.CheckpointManagerOptions(
            save_decision_policy=ocp.checkpoint_managers.ContinuousCheckpointingPolicy(
                minimum_interval_secs=seconds_between
            ),
            preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy([last, best]),
            best_fn=valid_loss,  # else Orbax writes no metrics, and a resumed run would not know its best
            cleanup_tmp_directories=True,
            multiprocessing_options=ALONE,
            create=False,  # the folder, by Orbax: not with these options
        )
        self._manager: ocp.CheckpointManager | None = None

    def save(self, epoch: int, state: State, metrics: Mapping[str, float], *, force: bool = False) -> None:
        """Copy the state and write it in the background, if it is time to, or if forced; for the first process.

        Raises:
            TrainingError: This state, or the one before, could not be written.
        """
        try:
            if self._manager is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._manager = ocp.CheckpointManager(self._folder, options=self._options)
            if force or self._manager.should_save(epoch):
                self._manager.save(
                    epoch,
                    args=ocp.args.StandardSave(as_numpy(state)),
                    metrics=dict(metrics),
                    custom_metadata={"sha256": checksum(state)},
                    force=True,
                )
        except Exception as error:
            raise self._unwritten(error) from error

    def restore_latest(self, like: State) -> State | None:
        """The newest state that is whole, on the devices and with the structure of `like`; None for no state.

        Newer ones that are damaged are named on standard error, and renamed to <epoch>.damaged. Processes that
        share a run must all call this.

        Raises:
            TrainingError: All are damaged; none is renamed.
        """
        arrays = as_numpy(like)
        with together():
            found = self._newest(arrays) if is_first() else None
        if not largest(found is not None):
            return None
        restored: State = jax.tree.map(on_devices, from_first(found or arrays), like)
        return restored

    def _newest(self, like: State) -> State | None:
        """What `restore_latest` does, in NumPy arrays."""
        if not self._folder.is_dir():
            return None
        damaged: dict[int, str] = {}
        state = None
        for epoch in sorted((int(p.name) for p in self._folder.iterdir() if p.name.isdigit()), reverse=True):
            try:
                if state is None:
                    state = self._restore(epoch, like)
                else:  # not needed now, but what cannot be read would stop Orbax from finding the best
                    self._loss(epoch)
            except Exception as error:
                if state is not None and isinstance(error, FileNotFoundError):
                    # One that had to make room, and that a run was removing when it was killed.
                    shutil.rmtree(self._folder / str(epoch), ignore_errors=True)
                else:
                    damaged[epoch] = reason(error)
        if damaged and state is None:
            worst = "; ".join(f"{epoch}: {why}" for epoch, why in damaged.items())
            raise TrainingError(
                f"no checkpoint in {self._folder} is whole ({worst}): start again in another --workdir"
            )
        for epoch, why in damaged.items():
            shutil.rmtree(aside := self._folder / f"{epoch}.damaged", ignore_errors=True)
            (self._folder / str(epoch)).rename(aside)
            print(f"warning: checkpoint {epoch} is damaged ({why}); it is now {aside}", file=sys.stderr)
        return state

    def _restore(self, epoch: int, like: State) -> State:
        """The state of `epoch`; any exception means that it is not what was saved."""
        self._loss(epoch)
        path = self._folder / str(epoch)
        written = json.loads((path / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]["sha256"]
        with ocp.StandardCheckpointer(multiprocessing_options=ALONE) as reader:
            state: State = reader.restore(path / "default", like)
        # Orbax reads flipped bits in an array as other numbers.
        if checksum(state) != written:
            raise ValueError("its numbers are not those that were written")
        return state

    def _loss(self, epoch: int) -> float:
        """The valid loss of `epoch`, as Orbax wrote it."""
        return valid_loss(json.loads((self._folder / str(epoch) / "metrics" / "metrics").read_text()))

    def _unwritten(self, error: Exception) -> TrainingError:
        return TrainingError(
            f"cannot write a checkpoint to {self._folder}: {reason(error)}; those before it are whole, and "
            f"--resume goes on from the last"
        )

    def __enter__(self) -> "Checkpoints":
        """Nothing is opened before something is saved."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the writing, then close.

        Raises:
            TrainingError: The last state could not be written.
        """
        if self._manager is not None:
            try:
                self._manager.close()
            except Exception as unwritten:
                if error is None or isinstance(error, Stopped):  # which says that the state is saved
                    raise self._unwritten(unwritten) from unwritten


def valid_loss(metrics: Mapping[str, Any]) -> float:
    """What the best checkpoint has least of."""
    return float(metrics["valid_loss"])


def checksum(state: Any) -> str:
    """SHA-256 of the names, types, shapes and bytes of all arrays of a tree.

    >>> checksum({"a": jnp.zeros(2)}) == checksum({"a": jnp.zeros(2)}) != checksum({"a": -jnp.zeros(2)})
    True
    """
    digest = hashlib.sha256()
    for path, array in jax.tree.leaves_with_path(as_numpy(state)):
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def as_numpy(state: Any) -> Any:
    """A tree with NumPy arrays in it, and of keys their numbers."""

    def whole(leaf: Any) -> np.ndarray:
        leaf = jax.random.key_data(leaf) if is_key(leaf) else leaf
        if getattr(leaf, "is_fully_addressable", True) or leaf.is_fully_replicated:
            return np.asarray(leaf)
        found = np.empty(leaf.shape, leaf.dtype)  # of a run in several processes: each has all parts of it
        for shard in leaf.addressable_shards:
            found[shard.index] = shard.data
        return found

    return jax.tree.map(whole, state)


def on_devices(array: np.ndarray, like: jax.Array) -> jax.Array:
    """Where `like` is, and a key if `like` is one."""
    if is_key(like):
        return jax.random.wrap_key_data(
            jax.device_put(array, jax.random.key_data(like).sharding), impl=jax.random.key_impl(like)
        )
    return jax.device_put(array, like.sharding)


def is_key(array: jax.Array | np.ndarray) -> bool:
    """Whether an array is of random keys."""
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.prng_key))


def reason(error: Exception) -> str:
    """Why something could not be read or written, in a few words."""
    if isinstance(error, json.JSONDecodeError) or "DATA_LOSS" in str(error):
        return "a file in it is cut short or changed"
    if number := re.search(r"os_error_code='(\d+)'", str(error)):  # of TensorStore, in a message of many lines
        return os.strerror(int(number[1]))
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {Path(error.filename).name}" if error.filename else error.strerror
    return textwrap.shorten(f"{type(error).__name__}: {error}", 160, placeholder=" ...")
