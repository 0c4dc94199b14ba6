"""Sets too large for the device: what is read, in which order, by whom; and that a resumed run has its bits."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import grain
import jax
import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image
from tensorflow_datasets import features

from jaxce.lab.config import Config, hyperparams
from jaxce.lab.data import Split, Stream, examples, load, tfds
from jaxce.lab.data.examples import Examples
from jaxce.lab.data.examples import stream as as_stream
from jaxce.lab.errors import ConfigError, Stopped, TrainingError
from jaxce.lab.sweep.program import load_whole
from jaxce.lab.sweep.run import make_plan
from jaxce.lab.tasks import ClassTask
from jaxce.lab.training import loop, step, stream
from jaxce.lab.training.checkpoints import Checkpoints, checksum
from jaxce.lab.training.loop import make_mesh, run
from jaxce.lab.training.step import make_train
from jaxce.lab.training.stream import in_blocks, read_blocks

ROOT = Path(__file__).parents[3]
SPLIT = Split(0.1, 0.2, seed=0)
NUM, BATCH, STEPS = 103, 16, 6
INPUTS = np.random.default_rng(0).normal(size=(NUM, 3)).astype(np.float32)
NUMBERED = as_stream(Examples(INPUTS, np.arange(NUM, dtype=np.int32)))
CLOUDS = as_stream(Examples(INPUTS, (INPUTS[:, 0] > 0).astype(np.int32)))
BLOCK_OF_TWO_STEPS = 2 * BATCH * 3 * 4

PICTURES = 40
BYTES = 4 * 8 * 8  # of a picture, as float32
LIMIT = 20 * BYTES


class OurStream(tensorflow_datasets.core.GeneratorBasedBuilder):
    """Grey pictures 8x8, 40 to train on and 10 to test."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")
    shown: ClassVar = {
        "image": features.Image(shape=(8, 8, 1)),
        "label": features.ClassLabel(names=["dark", "light"]),
    }

    def _info(self):
        return tensorflow_datasets.core.DatasetInfo(
            builder=self, features=features.FeaturesDict(self.shown), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(range(PICTURES)),
            "test": self._generate_examples(range(PICTURES, PICTURES + 10)),
        }

    def _generate_examples(self, numbers):
        for number in numbers:
            picture = np.random.default_rng(number).integers(0, 128, (8, 8), np.uint8)
            yield number, {"image": Image.fromarray(picture + 128 * (number % 2)), "label": number % 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds("our_stream", SPLIT, folder)
    return folder


@pytest.fixture
def small_device(monkeypatch, folder):
    """A device for 20 pictures, so that 36 of them stream, in blocks of one batch."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    monkeypatch.setattr(examples, "DEVICE_BYTES", LIMIT)
    monkeypatch.setattr(stream, "BLOCK_BYTES", 1)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(stream, "BLOCK_BYTES", BLOCK_OF_TWO_STEPS)


def epoch_of(seed, epoch, **shard):
    """Which examples each step of an epoch takes."""
    shard = grain.sharding.ShardOptions(**shard) if shard else None
    blocks = read_blocks(NUMBERED, seed, BATCH, range(epoch, epoch + 1), shard)
    return np.concatenate([block.labels for block in blocks])


# The order


def test_each_epoch_leaves_other_examples_out_of_its_batches(small_blocks):
    epochs = [epoch_of(seed=0, epoch=epoch) for epoch in range(20)]
    assert all(order.shape == (STEPS, BATCH) for order in epochs)
    assert all(len(np.unique(order)) == STEPS * BATCH for order in epochs)
    left_out = [frozenset(range(NUM)) - set(order.flat) for order in epochs]
    assert len(set(left_out)) == 20
    assert not frozenset.intersection(*left_out)


def test_each_seed_and_each_epoch_has_an_order_of_its_own(small_blocks):
    orders = [tuple(epoch_of(seed, epoch).flat) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


def test_examples_come_with_their_labels(small_blocks):
    for block in read_blocks(NUMBERED, 0, BATCH, range(1)):
        np.testing.assert_array_equal(block.inputs, INPUTS[block.labels])


def test_a_later_epoch_has_the_same_order_when_read_first(small_blocks):
    orders = [block.labels for block in read_blocks(NUMBERED, 7, BATCH, range(5))]
    later = [block.labels for block in read_blocks(NUMBERED, 7, BATCH, range(3, 5))]
    np.testing.assert_array_equal(np.concatenate(later), np.concatenate(orders)[3 * STEPS :])


def test_the_size_of_blocks_does_not_change_the_order(monkeypatch):
    whole = epoch_of(0, 3)
    for size in (1, 4 * BLOCK_OF_TWO_STEPS // 2, 2**30):
        monkeypatch.setattr(stream, "BLOCK_BYTES", size)
        np.testing.assert_array_equal(epoch_of(0, 3), whole)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_each_batch_that_one_would_take(small_blocks, count):
    whole = epoch_of(0, 2)
    shares = [epoch_of(0, 2, shard_index=index, shard_count=count) for index in range(count)]
    assert all(share.shape == (STEPS, BATCH // count) for share in shares)
    np.testing.assert_array_equal(np.sort(np.concatenate(shares, axis=1), axis=1), np.sort(whole, axis=1))


def test_processes_that_cannot_share_a_batch_are_told():
    message = "batch_size = 16 cannot be divided among 3 processes: give a multiple"
    with pytest.raises(ConfigError, match=message):
        epoch_of(0, 0, shard_index=0, shard_count=3)


def test_blocks_are_read_ahead_by_other_threads_but_only_a_few(small_blocks):
    threads, read = set(), []

    class Watched:
        def __len__(self):
            return NUM

        def __getitem__(self, i):
            threads.add(threading.current_thread())
            read.append(i)
            return INPUTS[i], np.int32(i)

    blocks = read_blocks(replace(NUMBERED, source=Watched()), 0, BATCH, range(1000))
    next(blocks)
    expected = 2 * BATCH * (stream.READERS + 1)
    deadline = time.monotonic() + 20
    while len(read) < expected and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # in which it would read more, if it would
    assert len(read) == expected
    blocks.close()
    for thread in list(threads):
        thread.join(10)
        assert not thread.is_alive()
    assert threading.main_thread() not in threads


def test_an_example_that_cannot_be_read_is_told_in_one_line(small_blocks):
    class Torn:
        def __len__(self):
            return NUM

        def __getitem__(self, i):
            raise OSError("Input/output\nerror")

    message = r"^cannot read the training examples: OSError: Input/output error; once"
    with pytest.raises(TrainingError, match=message):
        next(read_blocks(replace(NUMBERED, source=Torn()), 0, BATCH, range(1)))


# The training


def trained(config, blocks, epochs):
    mesh = make_mesh(BATCH)
    functions = make_train(config, (3,), ClassTask(config.loss, 2), NUM, mesh)
    numbers, measured = hyperparams(config), []
    state = jax.jit(functions.init)(jax.random.key(0), numbers)
    train_epoch = in_blocks(functions, mesh, STEPS)
    for _ in range(epochs):
        state, steps = train_epoch(state, numbers, blocks)
        measured.append(steps)
    return state, measured


def test_blocks_train_as_the_whole_epoch_does_in_the_same_order(small_blocks, monkeypatch):
    config = Config(model="mlp", widths=(8,), batch_size=BATCH, ema_decay=0.9, learning_rate=0.01, epochs=3)
    state, measured = trained(config, read_blocks(CLOUDS, 0, BATCH, range(3)), epochs=3)

    orders = np.stack([epoch_of(0, epoch) for epoch in range(3)])
    monkeypatch.setattr(step, "epoch_order", lambda key, epoch, *sizes: jax.numpy.asarray(orders)[epoch])
    functions = make_train(config, (3,), ClassTask(config.loss, 2), NUM)
    numbers = hyperparams(config)
    expected = jax.jit(functions.init)(jax.random.key(0), numbers)
    for epoch in range(3):
        expected, steps = jax.jit(functions.train_epoch)(expected, numbers, CLOUDS.read())
        assert measured[epoch]["loss"].shape == (STEPS,)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), measured[epoch], dict(steps))
    assert int(state.epoch) == 3
    for tree, other in zip(state[:3], expected[:3], strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), tree, other)
    assert measured[2]["loss"].mean() < measured[0]["loss"].mean()


# The data


def test_of_a_large_tfds_set_only_valid_and_test_are_loaded(small_device, folder):
    dataset = load("tfds:our_stream", SPLIT)
    assert isinstance(dataset.train, Stream)
    assert dataset.train.inputs.shape == (36, 8, 8, 1)
    assert dataset.classes == ("dark", "light")
    train, valid, test = dataset.train.read(), dataset.valid, dataset.test
    assert [part.inputs.shape[0] for part in (train, valid, test)] == [36, 4, 10]
    assert len(np.unique(np.concatenate([part.inputs for part in (train, valid, test)]), axis=0)) == 50
    for part in (train, valid, test):
        assert part.inputs.dtype == np.float32
        assert part.labels.dtype == np.int32
        np.testing.assert_array_equal(part.inputs[:, 0, 0, 0] >= 128 / 255, part.labels == 1)


def test_a_large_npz_file_streams_from_memory(small_device, tmp_path):
    labels = np.arange(60) % 3
    inputs = np.random.default_rng(0).normal(size=(60, 100)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", inputs=inputs, labels=labels)
    whole = Split(0.1, 0.2, 0).divide(Examples(inputs, labels.astype(np.int32)))
    train = load(str(tmp_path / "rows.npz"), SPLIT).train
    assert isinstance(train, Stream)
    jax.tree.map(np.testing.assert_array_equal, train.read(), whole[0])


@pytest.mark.parametrize(("split", "part"), [(Split(0.6, 0.2, 0), "valid"), (Split(0.1, 0.2, 0), "test")])
def test_a_part_that_does_not_stream_and_is_too_large_is_told(small_device, monkeypatch, split, part):
    monkeypatch.setattr(examples, "DEVICE_BYTES", LIMIT if part == "valid" else 9 * BYTES)
    with pytest.raises(ConfigError, match=f"the {part} part of data tfds:our_stream takes 0.00 GiB, but only"):
        load("tfds:our_stream", split)


def test_a_sweep_says_that_it_does_not_stream(small_device):
    config = Config(data="tfds:our_stream", model="linear", batch_size=8)
    message = "a sweep keeps its data on the device and does not stream, for which data tfds:our_stream is too"
    with pytest.raises(ConfigError, match=message):
        make_plan("digits", config, ["seed=seeds:2"], "grid", None, False)


def test_a_sweep_takes_what_train_does(folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert load_whole(Config(data="tfds:our_stream")).train.inputs.shape == (36, 8, 8, 1)


# The run


CONFIG = Config(data="tfds:our_stream", widths=(2, 4), batch_size=8, ema_decay=0.9, epochs=5)
FRONT_DOOR = f"""
import sys
from jaxce.cli import run_command
from jaxce.lab.data import examples
from jaxce.lab.training import stream
examples.DEVICE_BYTES, stream.BLOCK_BYTES = {LIMIT}, {2 * 8 * BYTES}
sys.exit(run_command("train", sys.argv[1:], prog="train.py"))
"""


def rows(workdir):
    file = workdir / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [{**json.loads(line), "seconds": 0} for line in lines]


def bits(workdir):
    """Of the last checkpoint."""
    functions = make_train(CONFIG, (8, 8, 1), ClassTask(CONFIG.loss, 2), num_train=36)
    like = functions.init(jax.random.key(0), hyperparams(CONFIG))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = checkpoints.restore_latest(like)
    return int(state.epoch), checksum(state)


@pytest.mark.slow
def test_a_resumed_stream_has_the_bits_of_an_unbroken_one(small_device, tmp_path, monkeypatch):
    run(CONFIG, tmp_path / "unbroken")

    def stop(losses, steps_before, workdir):
        assert len(losses) == 36 // 8 + 1
        if steps_before == 1 * (36 // 8):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "check_finite", stop)
        with pytest.raises(Stopped, match="epoch 2 of 5 is saved"):
            run(CONFIG, tmp_path / "stopped")
    assert len(rows(tmp_path / "stopped")) == 2
    run(CONFIG, tmp_path / "stopped", resume=True)
    assert bits(tmp_path / "stopped") == bits(tmp_path / "unbroken")
    assert bits(tmp_path / "stopped")[0] == 5
    assert rows(tmp_path / "stopped") == rows(tmp_path / "unbroken")


@pytest.fixture
def start(folder, tmp_path):
    """Start a run of the front door, in a process with a small device."""

    def start(workdir, *flags):
        command = [sys.executable, "-c", FRONT_DOOR, "digits", "--data", "tfds:our_stream"]
        command += [
            "--widths",
            "2",
            "4",
            "--batch-size",
            "8",
            "--ema-decay",
            "0.9",
            "--checkpoint-seconds",
            "0",
        ]
        environment = os.environ | {
            "TFDS_DATA_DIR": str(folder),
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "JAX_PLATFORMS": "cpu",
        }
        return subprocess.Popen(
            [*command, "--checkpoint-seconds", "0", "--workdir", str(workdir), *flags],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.slow
def test_a_run_killed_as_it_streams_ends_with_the_same_bits(start, tmp_path):
    flags = ("--epochs", "60")
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    process = start(killed, *flags)
    while process.poll() is None and len(rows(killed)) < 15:
        time.sleep(0.01)
    process.kill()
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    assert 0 < bits(killed)[0] < 60
    for process in (start(killed, *flags, "--resume"), start(unbroken, *flags)):
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    assert bits(killed) == bits(unbroken)
    assert bits(killed)[0] == 60
    assert rows(killed) == rows(unbroken)


@pytest.mark.slow
def test_two_processes_stream_as_one(start, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = ("--epochs=3", f"--coordinator=127.0.0.1:{port}", "--num-processes=2")
    pair, alone = tmp_path / "pair", tmp_path / "alone"
    processes = [start(pair, *both, f"--process-id={index}") for index in range(2)]
    try:
        for errors in [process.communicate(timeout=120)[1] for process in processes]:
            assert errors == ""
    finally:
        for process in processes:
            process.kill()
    assert json.loads((pair / "summary.json").read_text())["device"]["count"] == 2
    process = start(alone, "--epochs=3")
    assert process.communicate()[1] == ""
    assert len(rows(pair)) == 3
    for row, other in zip(rows(pair), rows(alone), strict=True):
        assert row == pytest.approx(other, rel=1e-4)
