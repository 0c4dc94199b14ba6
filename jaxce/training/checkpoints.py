"""Checkpoints on disk, by Orbax: written in the background, each complete or not there at all."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import jax
import orbax.checkpoint as ocp

from jaxce.training.step import State


class Checkpoints:
    """The states of one run in one folder, by epoch: the last few, and the one with the lowest valid loss.

    A context manager: leaving it waits until what was handed to `save` lies on disk.
    """

    def __init__(self, folder: Path, keep: int = 2, seconds_between: int = 5) -> None:
        """Open `folder`, which need not exist.

        Args:
            folder: Where the checkpoints lie.
            keep: How many of the last to keep beside the best.
            seconds_between: A state handed in sooner than this after the last save is not written.
        """
        last = ocp.checkpoint_managers.LatestN(keep)
        best = ocp.checkpoint_managers.BestN(
            get_metric_fn=lambda metrics: metrics["valid_loss"], reverse=True, n=1
        )
        self._manager = ocp.CheckpointManager(
            folder.resolve(),
            options=ocp.CheckpointManagerOptions(
                save_decision_policy=ocp.checkpoint_managers.ContinuousCheckpointingPolicy(
                    minimum_interval_secs=seconds_between
                ),
                preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy([last, best]),
            ),
        )

    def save(self, epoch: int, state: State, metrics: Mapping[str, float], *, force: bool = False) -> None:
        """Copy the state and write it in the background, if it is time to, or if forced."""
        self._manager.save(epoch, args=ocp.args.StandardSave(state), metrics=dict(metrics), force=force)

    def restore_latest(self, like: State) -> State | None:
        """The newest state, on the devices and with the structure of `like`; None when there is none."""
        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._manager.restore(epoch, args=ocp.args.StandardRestore(abstract))

    def __enter__(self) -> "Checkpoints":
        """Nothing is opened: the folder is."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the writing, then close."""
        self._manager.close()
