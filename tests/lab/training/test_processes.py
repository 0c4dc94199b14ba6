"""Two processes on loopback, against one: of one head, and of the front door."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxce.lab.config import Config, hyperparams
from jaxce.lab.errors import ConfigError
from jaxce.lab.tasks import ClassTask
from jaxce.lab.training.checkpoints import Checkpoints, as_numpy
from jaxce.lab.training.processes import join
from jaxce.lab.training.step import make_train

ROOT = Path(__file__).parents[3]
HEAD = [str(ROOT / "tests" / "heads" / "head_process.py")]
RUN = [str(ROOT / "train.py"), "iris", "--model=mlp", "--widths", "4", "--batch-size=32", "--ema-decay=0.9"]


def start(*command, **settings):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | settings
    environment["XLA_FLAGS"] = ""  # one device each
    arguments = [sys.executable, *map(str, command)]
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ends(*processes):
    """Exit status, output without what gloo has to say, and errors of each."""
    try:
        said = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    lines = [[line for line in out.splitlines() if not line.startswith("[Gloo]")] for out, _ in said]
    return [(p.returncode, out, err) for p, out, (_, err) in zip(processes, lines, said, strict=True)]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def two_of_run(*flags, second=()):
    """Both processes of one run; `second` changes flags of the second."""
    address = f"--coordinator=127.0.0.1:{free_port()}"
    both = (*RUN, *flags, address, "--num-processes=2")
    return [start(*both, "--process-id=0"), start(*both, *second, "--process-id=1")]


def epochs(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def last_state(workdir):
    config = Config(**json.loads((workdir / "config.json").read_text()))
    functions = make_train(config, (4,), ClassTask(config.loss, num_classes=3), num_train=105)
    like = functions.init(jax.random.key(0), hyperparams(config))
    return as_numpy(Checkpoints(workdir / "checkpoints").restore_latest(like))


def names(workdir):
    return sorted(path.name.partition(".tfevents")[0] for path in workdir.iterdir())


def assert_same_run(workdir, expected):
    """To rounding, which the sums of two devices have in another order."""
    for row, other in zip(epochs(workdir), epochs(expected), strict=True):
        for name in set(other) - {"seconds"}:
            assert_allclose(row[name], other[name], rtol=1e-5, err_msg=name)
    jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-6), *map(last_state, (workdir, expected))
    )
    test, other = (json.loads((path / "summary.json").read_text())["test"] for path in (workdir, expected))
    assert test == pytest.approx(other, rel=1e-5)
    assert names(workdir) == names(expected)
    assert not list(workdir.rglob("*tmp*"))


@pytest.mark.slow
def test_two_processes_train_a_head_as_one():
    port = free_port()
    results = []
    for count in (1, 2):
        done = ends(*(start(*HEAD, i, count, port) for i in range(count)))
        assert [status for status, _, _ in done] == [0] * count, done
        results.append(json.loads(done[0][1][-1]))
    one, two = results
    assert (one["processes"], two["processes"], two["devices"]) == (1, 2, 4)
    one, two = np.array(one["losses"]), np.array(two["losses"])
    assert one[-1, 0] < 0.9 * one[0, 0]
    assert_allclose(two[:, 0], one[:, 0], rtol=1e-6)
    assert_allclose(two[:, 1], one[:, 1], rtol=0.02)  # other draws of the same estimate


@pytest.mark.slow
def test_two_processes_are_one_run_whose_files_the_first_writes(tmp_path):
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    first, second = ends(*two_of_run("--epochs=4", f"--workdir={pair}"))
    assert (first[0], first[2], second) == (0, "", (0, [], "")), (first, second)
    assert first[1][0].startswith("epoch 1/4  loss ")
    assert first[1][-1].endswith(f"results in {pair}")
    assert json.loads((pair / "summary.json").read_text())["device"]["count"] == 2
    ((status, _, errors),) = ends(start(*RUN, "--epochs=4", f"--workdir={alone}"))
    assert (status, errors) == (0, "")
    assert_same_run(pair, alone)


@pytest.mark.slow
def test_two_processes_share_a_batch_and_spread_the_classes(tmp_path):
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    head = ("--epochs=4", "--head=cosface", "--margin=0.2", "--scale=8")
    first, second = ends(*two_of_run(*head, "--class-devices=3", f"--workdir={pair}"))
    assert (first[0], first[2], second) == (0, "", (0, [], "")), (first, second)
    assert json.loads((pair / "summary.json").read_text())["device"]["count"] == 6
    ((status, _, errors),) = ends(start(*RUN, *head, f"--workdir={alone}"))
    assert (status, errors) == (0, "")
    for row, other in zip(epochs(pair), epochs(alone), strict=True):
        for name in set(other) - {"seconds"}:
            assert_allclose(row[name], other[name], rtol=1e-4, err_msg=name)
    flags = ("--resume", f"--workdir={pair}", "--class-devices=3", "--coordinator", f"127.0.0.1:{free_port()}")
    # the checkpoint that the first wrote holds the parts of all its devices: both go on from it
    (pair / "summary.json").unlink()
    both = [start(str(ROOT / "train.py"), *RUN[1:], *head, *flags, "--num-processes=2", f"--process-id={i}")
            for i in (0, 1)]  # fmt: skip
    first, second = ends(*both)
    assert (first[0], first[2], second) == (0, "", (0, [], "")), (first, second)
    test, other = (json.loads((path / "summary.json").read_text())["test"] for path in (pair, alone))
    assert test == pytest.approx(other, rel=1e-4)


@pytest.mark.slow
def test_under_slurm_the_processes_find_each_other(tmp_path):
    step = {
        "SLURM_JOB_ID": str(free_port()),  # which JAX makes the coordinator's port of
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
    }
    command = (*RUN, "--epochs=1", f"--workdir={tmp_path / 'run'}", "--coordinator=auto")
    tasks = [start(*command, **step, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)) for i in range(2)]
    assert [(status, errors) for status, _, errors in ends(*tasks)] == [(0, "")] * 2
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["device"]["count"] == 2


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_they_resume(tmp_path):
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    flags = ("--epochs=150", f"--workdir={pair}")
    processes = two_of_run(*flags)
    while not (pair / "checkpoints" / "1").exists() and processes[0].poll() is None:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    for status, _, errors in ends(*processes):
        assert status == 1
        assert errors.startswith("stopped: SIGTERM came, and epoch ")
        assert errors.count("\n") == 1
    assert 1 <= len(epochs(pair)) < 150
    for status, _, errors in ends(*two_of_run(*flags, "--resume")):
        assert (status, errors) == (0, "")
    ((status, _, errors),) = ends(start(*RUN, "--epochs=150", f"--workdir={alone}"))
    assert (status, errors) == (0, "")
    for row, other in zip(epochs(pair), epochs(alone), strict=True):
        assert_allclose(row["train_loss"], other["train_loss"], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workdir", "flags", "second", "statuses", "said"),
    [
        (".", (), (), (2, 1), ("is not empty: add --resume", "process 0 failed: its own message says why")),
        (".", ("--resume",), (), (2, 1), ("nothing to resume", "process 0 failed: its own message says why")),
        ("new", ("--batch-size=15",), (), (2, 2), ("a batch of 15 examples cannot be divided evenly",) * 2),
        ("new", (), ("--seed=1",), (2, 2), ("process 1 has another config than process 0",) * 2),
        ("new", (), ("--data=nowhere.npz",), (1, 2), ("process 1 failed", "nowhere.npz")),
    ],
    ids=["taken", "no run", "odd batch", "other config", "no data"],
)  # fmt: skip
def test_a_mistake_ends_both_processes_at_once(workdir, flags, second, statuses, said, tmp_path):
    (tmp_path / "other").touch()
    done = ends(*two_of_run("--epochs=1", f"--workdir={tmp_path / workdir}", *flags, second=second))
    for (status, output, errors), expected, line in zip(done, statuses, said, strict=True):
        assert (status, output) == (expected, [])
        assert errors.startswith("error: ")
        assert line in errors
        assert errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_processes_that_nothing_says_how_to_find_are_a_mistake():
    with pytest.raises(ConfigError, match=r"cannot join the other processes .*: give --coordinator HOST:PORT"):
        join("auto", None, None)


def test_without_a_coordinator_nothing_is_joined():
    join(None, None, None)
    assert not jax.distributed.is_initialized()
