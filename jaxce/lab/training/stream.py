"""Epochs of a set too large for the device: Grain reads it ahead in blocks, in a new order each epoch."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxce.lab.data import Examples, Stream
from jaxce.lab.data.examples import num_bytes
from jaxce.lab.errors import ConfigError, TrainingError
from jaxce.lab.tasks import Hyperparams
from jaxce.lab.training.step import Metrics, State, Train

BLOCK_BYTES = 2**25
"""Bytes sent to the device at once: enough to hide the cost of a call, little beside the device's memory."""
READERS = 4
"""Threads that read ahead, a block each. More gain nothing: decoding pictures holds Python's lock in part."""
BLOCKS_ON_DEVICE = 2
"""One that is trained on, one that waits."""


def read_blocks(
    stream: Stream,
    seed: int,
    batch_size: int,
    epochs: range,
    shard: grain.sharding.ShardOptions | None = None,
) -> Iterator[Examples]:
    """Blocks of whole batches, epoch after epoch: the order is a function of seed and epoch alone.

    An epoch has each example at most once. Examples that fill no last batch are left out, others in each epoch.

    Args:
        stream: What to read.
        seed: Seed of the orders.
        batch_size: Examples a step, of all processes together.
        epochs: Which to read: a resumed run begins with a later one.
        shard: The share of every batch to read; None for that of this JAX process.

    Yields:
        Inputs [steps, share of batch, ...] and labels [steps, share of batch, ...].

    Raises:
        ConfigError: The processes cannot share a batch evenly.
        TrainingError: An example cannot be read.
    """
    shard = shard or grain.sharding.ShardByJaxProcess()
    share, remainder = divmod(batch_size, shard.shard_count)
    if remainder:
        raise ConfigError(
            f"batch_size = {batch_size} cannot be divided among {shard.shard_count} processes: give a multiple"
        )
    total = len(stream.labels)
    steps = total // batch_size
    share_bytes = share * num_bytes(stream) // total
    steps_per_block = min(max(BLOCK_BYTES // share_bytes, 1), steps)

    def in_steps(rows: Any) -> Examples:
        return jax.tree.map(lambda column: column.reshape(-1, share, *column.shape[1:]), stream.stack(rows))

    # A seed of Grain's own making: with the seed as it is, epoch 1 of seed 0 would be epoch 0 of seed 1.
    shuffled = grain.MapDataset.source(stream.source).seed(seed).shuffle()
    mine = shuffled[: steps * batch_size][shard.shard_index :: shard.shard_count]
    blocks = mine.batch(steps_per_block * share, batch_fn=in_steps)
    wanted = blocks.repeat(epochs.stop)[epochs.start * len(blocks) :]
    ahead = grain.ReadOptions(num_threads=READERS, prefetch_buffer_size=READERS)
    with closing(iter(wanted.to_iter_dataset(ahead))) as iterator:
        try:
            yield from iterator
        except Exception as error:  # by a disk, a damaged record or a decoder
            why = " ".join(str(error).split())[:300]
            raise TrainingError(
                f"cannot read the training examples: {type(error).__name__}: {why}; once that is corrected, "
                f"--resume continues from the last checkpoint"
            ) from error


def in_blocks(functions: Train, mesh: Mesh, steps: int) -> Callable[..., tuple[State, dict[str, np.ndarray]]]:
    """`train_epoch` that takes blocks of `read_blocks` in place of all examples, until `steps` are done."""
    train_block = jax.jit(functions.train_block, donate_argnums=0)
    spread = NamedSharding(mesh, PartitionSpec(None, "batch"))

    def train_epoch(
        state: State, hyperparams: Hyperparams, blocks: Iterator[Examples]
    ) -> tuple[State, dict[str, np.ndarray]]:
        done, measured = 0, list[Metrics]()
        while done < steps:
            # JAX does not wait for the device; without this, all blocks that are read would queue up there.
            if len(measured) >= BLOCKS_ON_DEVICE:
                jax.block_until_ready(measured[-BLOCKS_ON_DEVICE])
            block = jax.tree.map(
                lambda rows: jax.make_array_from_process_local_data(spread, rows), next(blocks)
            )
            state, metrics = train_block(state, hyperparams, done, block)
            measured.append(metrics)
            done += len(block.labels)
        return state, jax.tree.map(lambda *parts: np.concatenate(parts), *jax.device_get(measured))

    return train_epoch
