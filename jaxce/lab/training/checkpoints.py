"""Checkpoints on disk, by Orbax: written in the background, and used only if they are undamaged."""

import gc
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxce.lab.errors import Stopped, TrainingError, quiet
from jaxce.lab.training.processes import from_first, is_first, largest, together
from jaxce.lab.training.step import State

# Every process has the whole state, so that the first writes and reads without waiting for the others.
ALONE = ocp.options.MultiprocessingOptions(active_processes={0}, barrier_sync_key_prefix="jaxce")


SECONDS_TO_END = 0.2  # for the other reads and writes, after one has failed


class Checkpoints:
    """The states of one run in one folder, by epoch: the last few, and the one with the lowest valid loss.

    A context manager, whose end waits until all states are on disk. Of several processes, the first alone
    writes and reads.
    """

    def __init__(self, folder: Path, keep: int = 2, seconds_between: float = 5.0) -> None:
        """Name `folder`, which need not exist.

        Args:
            folder: Where the checkpoints are.
            keep: How many of the last to keep beside the best.
            seconds_between: States given to `save` sooner than this after the last one are not written.
        """
        self._folder = folder.resolve()
        last = ocp.checkpoint_managers.LatestN(keep)
        best = ocp.checkpoint_managers.BestN(get_metric_fn=valid_loss, reverse=True, n=1)
        self._options = ocp.CheckpointManagerOptions(
            save_decision_policy=ocp.checkpoint_managers.ContinuousCheckpointingPolicy(
                minimum_interval_secs=seconds_between
            ),
            preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy([last, best]),
            best_fn=valid_loss,  # without it Orbax writes no metrics, and a resumed run would not know its best
            cleanup_tmp_directories=True,
            multiprocessing_options=ALONE,
            create=False,  # Orbax makes no folder with these options
        )
        self._manager: ocp.CheckpointManager | None = None
        self._quiet = ExitStack()

    def save(self, epoch: int, state: State, metrics: Mapping[str, float], *, force: bool = False) -> None:
        """Copy the state, and write it in the background, if it is due or forced; for the first process.

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
        """The newest undamaged state, on the devices and with the structure of `like`; None for none.

        Newer ones that are damaged are named on standard error, and renamed to <epoch>.damaged. All processes
        of a run must call this.

        Raises:
            TrainingError: All are damaged; none is renamed.
        """
        arrays = as_numpy(like)
        with together(), quiet_orbax():
            found = self._newest(arrays) if is_first() else None
        if not largest(found is not None):
            return None
        restored: State = jax.tree.map(on_devices, from_first(found or arrays), like)
        return restored

    def _newest(self, like: State) -> State | None:
        """The newest undamaged state, in NumPy arrays."""
        if not self._folder.is_dir():
            return None
        damaged: dict[int, str] = {}
        state = None
        for epoch in sorted((int(p.name) for p in self._folder.iterdir() if p.name.isdigit()), reverse=True):
            try:
                if state is None:
                    state = self._restore(epoch, like)
                else:  # not needed now, but Orbax would fail to find the best
                    self._loss(epoch)
            except Exception as error:
                wait_for_others()
                if state is not None and isinstance(error, FileNotFoundError):
                    # A run was removing it when it was killed.
                    shutil.rmtree(self._folder / str(epoch), ignore_errors=True)
                else:
                    damaged[epoch] = reason(error)
        if damaged and state is None:
            worst = "; ".join(f"{epoch}: {why}" for epoch, why in damaged.items())
            raise TrainingError(
                f"all checkpoints in {self._folder} are damaged ({worst}): start again in another --workdir"
            )
        for epoch, why in damaged.items():
            shutil.rmtree(aside := self._folder / f"{epoch}.damaged", ignore_errors=True)
            (self._folder / str(epoch)).rename(aside)
            print(f"warning: checkpoint {epoch} is damaged ({why}); it is now {aside}", file=sys.stderr)
        return state

    def _restore(self, epoch: int, like: State) -> State:
        """The state of `epoch`; any exception means that it is damaged."""
        self._loss(epoch)
        path = self._folder / str(epoch)
        written = json.loads((path / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]["sha256"]
        with ocp.StandardCheckpointer(multiprocessing_options=ALONE) as reader:
            state: State = reader.restore(path / "default", like)
        # Orbax does not notice a flipped bit in an array.
        if checksum(state) != written:
            raise ValueError("its numbers are not those that were written")
        return state

    def _loss(self, epoch: int) -> float:
        """The valid loss of `epoch`."""
        return valid_loss(json.loads((self._folder / str(epoch) / "metrics" / "metrics").read_text()))

    def _unwritten(self, error: Exception) -> TrainingError:
        wait_for_others()
        return TrainingError(
            f"cannot write a checkpoint to {self._folder}: {reason(error)}; --resume continues from the last "
            f"one before it"
        )

    def __enter__(self) -> "Checkpoints":
        """Silence Orbax's threads; nothing is opened before something is saved."""
        self._quiet.enter_context(quiet_orbax())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the writing, then close.

        Raises:
            TrainingError: The last state could not be written.
        """
        with self._quiet:
            try:
                if self._manager is not None:
                    self._manager.close()
            except Exception as unwritten:
                if error is None or isinstance(error, Stopped):  # which says that the state is saved
                    raise self._unwritten(unwritten) from unwritten


@contextmanager
def quiet_orbax() -> Iterator[None]:
    """Keep errors in Orbax's threads off the screen: `save`, `restore_latest` and `__exit__` raise them too.

    Orbax logs them with their traceback. When one of several reads or writes fails, it closes the event loop,
    and each of the others reports that to `sys.unraisablehook` as it ends.
    """
    hook = sys.unraisablehook

    def report_others(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        of_orbax = code is not None and "orbax" in code.co_filename
        if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    with quiet("absl", "asyncio", below=logging.CRITICAL):
        sys.unraisablehook = report_others
        try:
            yield
        finally:
            sys.unraisablehook = hook


def wait_for_others() -> None:
    """After a read or write has failed, let the others end while `quiet_orbax` is in force."""
    time.sleep(SECONDS_TO_END)
    gc.collect()


def valid_loss(metrics: Mapping[str, Any]) -> float:
    """What the best checkpoint is chosen by: smaller is better."""
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
    """A tree of NumPy arrays; of keys their numbers."""

    def whole(leaf: Any) -> np.ndarray:
        leaf = jax.random.key_data(leaf) if is_key(leaf) else leaf
        if getattr(leaf, "is_fully_addressable", True) or leaf.is_fully_replicated:
            return np.asarray(leaf)
        found = np.empty(leaf.shape, leaf.dtype)  # of several processes, each of which has all shards
        for shard in leaf.addressable_shards:
            found[shard.index] = shard.data
        return found

    return jax.tree.map(whole, state)


def on_devices(array: np.ndarray, like: jax.Array) -> jax.Array:
    """The array on the devices of `like`; a key if `like` is one."""
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
