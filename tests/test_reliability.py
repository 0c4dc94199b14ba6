"""What can happen to a run: kills, signals, damage, a full disk, a folder that is taken; nothing may be lost."""

import contextlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from jaxce.config import Config, hyperparams
from jaxce.errors import ConfigError, Stopped, TrainingError
from jaxce.training import loop
from jaxce.training.checkpoints import Checkpoints, checksum
from jaxce.training.loop import run
from jaxce.training.step import make_train
from jaxce.training.workdir import keep_lines, lock, write_json

ROOT = Path(__file__).parents[1]
CONFIG = Config(data="iris", model="mlp", widths=(4,), ema_decay=0.9, batch_size=32, epochs=6)
FLAGS = ["iris", "--model=mlp", "--widths", "4", "--ema-decay=0.9", "--batch-size=32"]


@pytest.fixture(scope="module")
def front_door(tmp_path_factory):
    """Start `python train.py` in a process of its own, with a cache folder of the tests' own."""
    settings = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")), "PYTHONPATH": str(ROOT)}

    def start(*flags, before=()):
        command = [*before, sys.executable, str(ROOT / "train.py"), *FLAGS, *map(str, flags)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=os.environ | settings, stdout=pipe, stderr=pipe, text=True)

    return start


def ends(process):
    """Exit status, output, errors."""
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def state_in(workdir, config=CONFIG):
    like = make_train(config, (4,), 3, 105).init(jax.random.key(0), hyperparams(config))
    return Checkpoints(workdir / "checkpoints").restore_latest(like)


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def epochs_saved(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*") if path.name.isdigit())


def wait_for(process, condition):
    while process.poll() is None and not condition():
        time.sleep(0.01)
    assert condition(), process.communicate()


# Kills


def kill_and_resume(front_door, folder, epochs, kills, seed, longest):
    """Kill runs at random moments until there were `kills` kills; each run that ends must be the unbroken one."""
    flags = ["--epochs", epochs, "--checkpoint-seconds", 0]
    status, _, errors = ends(front_door(*flags, "--workdir", folder / "unbroken"))
    assert (status, errors) == (0, "")
    config = Config(**json.loads((folder / "unbroken" / "config.json").read_text()))
    expected = checksum(state_in(folder / "unbroken", config))
    draw, killed, finished, moments = random.Random(seed), 0, 0, []
    while killed < kills or not finished:
        workdir = folder / f"run-{finished}"
        resume = ["--resume"] if (workdir / "config.json").exists() else []
        process = front_door(*flags, *resume, "--workdir", workdir)
        if killed < kills:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0, longest))
            process.kill()
        status, _, errors = ends(process)
        if status == -signal.SIGKILL:
            killed += 1
            moments.append(max(epochs_saved(workdir), default=0))
            continue
        assert (status, errors) == (0, "")
        assert rows(workdir) == rows(folder / "unbroken")
        assert checksum(state_in(workdir, config)) == expected
        test, unbroken = (
            json.loads((path / "summary.json").read_text())["test"] for path in (workdir, folder / "unbroken")
        )
        assert test == unbroken
        finished += 1
    print(f"{killed} kills, with these epochs saved: {moments}; {finished} runs ended as the unbroken one")


def test_a_run_killed_twice_ends_with_the_bits_of_one_that_never_stopped(front_door, tmp_path):
    flags = ["--epochs", 300, "--checkpoint-seconds", 0]
    assert ends(front_door(*flags, "--workdir", tmp_path / "unbroken"))[0] == 0
    workdir = tmp_path / "killed"
    for kill, epoch in enumerate((40, 150)):
        process = front_door(*flags, *["--resume"][:kill], "--workdir", workdir)
        wait_for(process, lambda epoch=epoch: (workdir / "metrics.jsonl").exists() and len(rows_so_far(workdir)) > epoch)
        process.kill()
        assert ends(process)[0] == -signal.SIGKILL
        assert 0 < max(epochs_saved(workdir)) < 300
    status, _, errors = ends(front_door(*flags, "--resume", "--workdir", workdir))
    assert (status, errors) == (0, "")
    assert rows(workdir) == rows(tmp_path / "unbroken")
    config = Config(**json.loads((workdir / "config.json").read_text()))
    assert checksum(state_in(workdir, config)) == checksum(state_in(tmp_path / "unbroken", config))


def rows_so_far(workdir):
    return (workdir / "metrics.jsonl").read_bytes().splitlines()


@pytest.mark.slow
def test_a_run_killed_twenty_times_at_random_moments_ends_with_the_bits_of_one_that_never_stopped(
    front_door, tmp_path
):
    kill_and_resume(front_door, tmp_path, epochs=3000, kills=20, seed=0, longest=20.0)


def test_a_torn_line_and_what_no_checkpoint_holds_are_cut_off(tmp_path):
    file = tmp_path / "metrics.jsonl"
    whole = '{"epoch": 1, "a": 1}\n{"epoch": 2, "a": 2}\n'
    for torn in ["", '{"epoch": 3, "a": 1}\n', '{"epoch": 3, "a"', '{"epoch": 2', "\n", "\0\0\0", '{"epoch": 3}\n{"ep']:
        file.write_text(whole + torn)
        keep_lines(file, 2)
        assert file.read_text() == whole
    keep_lines(file, 0)
    assert file.read_text() == ""
    keep_lines(tmp_path / "absent", 2)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    (tmp_path / "a.json.part").write_text("half")  # of a process that was killed
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    write_json(tmp_path / "a.json", {"a": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_run_killed_before_it_began_can_be_started_again(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "config.json.part").write_text('{"data"')
    run(CONFIG, tmp_path)
    assert len(rows(tmp_path)) == 6


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_stops_with_one_line(number, front_door, tmp_path):
    workdir = tmp_path / "run"
    process = front_door("--epochs", 100_000, "--checkpoint-seconds", 3600, "--workdir", workdir)
    wait_for(process, lambda: (workdir / "metrics.jsonl").exists() and len(rows_so_far(workdir)) > 20)
    process.send_signal(number)
    status, _, errors = ends(process)
    epoch = len(rows(workdir))
    assert status == 1
    assert errors == (
        f"stopped: {number.name} came, and epoch {epoch} of 100000 is saved: --resume --workdir {workdir} goes on\n"
    )
    assert epochs_saved(workdir)[-1] == epoch > 20


def test_a_signal_in_the_last_epoch_changes_nothing(tmp_path, monkeypatch):
    def stop_at(epoch):
        def check(losses, steps_before, workdir):
            if steps_before == (epoch - 1) * len(losses[:-1]):
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(loop, "check_finite", check)

    handler = signal.getsignal(signal.SIGTERM)
    stop_at(4)
    with pytest.raises(Stopped, match="SIGTERM came, and epoch 4 of 6 is saved"):
        run(CONFIG, tmp_path)
    assert epochs_saved(tmp_path) == [1, 4]
    stop_at(6)
    run(CONFIG, tmp_path, resume=True)
    assert len(rows(tmp_path)) == 6
    assert signal.getsignal(signal.SIGTERM) == handler


# Damage


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with the checkpoints of its last three epochs."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    run(CONFIG, workdir, keep=3, checkpoint_seconds=0)
    with Checkpoints(workdir / "checkpoints", keep=3) as checkpoints:  # whatever there was time for
        for path in (workdir / "checkpoints").iterdir():
            shutil.rmtree(path)
        like = make_train(CONFIG, (4,), 3, 105).init(jax.random.key(0), hyperparams(CONFIG))
        for epoch in (4, 5, 6):
            like = like._replace(epoch=like.epoch * 0 + epoch)
            checkpoints.save(epoch, like, {"valid_loss": 1.0 / epoch}, force=True)
    return workdir


@pytest.fixture
def damaged(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def truncate(folder):
    os.truncate(largest_file(folder), 10)


def flip(folder):
    for path in (p for p in folder.rglob("*") if p.is_file() and p.parent.name == "d"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def remove_file(folder):
    largest_file(folder).unlink()


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def tear_metrics(folder):
    os.truncate(folder / "metrics" / "metrics", 5)


def change_numbers(folder):
    """As Orbax would see other bytes that it has no checksum of its own for."""
    path = folder / "_CHECKPOINT_METADATA"
    metadata = json.loads(path.read_text())
    metadata["custom_metadata"]["sha256"] = "0" * 64
    path.write_text(json.dumps(metadata))


@pytest.mark.parametrize("damage", [truncate, flip, remove_file, empty, tear_metrics, change_numbers])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(damage, damaged, capsys):
    damage(damaged / "checkpoints" / "6")
    assert state_in(damaged).epoch == 5
    errors = capsys.readouterr().err
    assert errors.startswith("warning: checkpoint 6 is damaged (")
    assert errors.count("\n") == 1
    run(CONFIG, damaged, resume=True)
    assert capsys.readouterr().err == ""
    assert state_in(damaged).epoch == 6
    assert (damaged / "checkpoints" / "6.damaged").is_dir()


def test_an_older_checkpoint_that_cannot_be_read_stops_nobody(damaged, capsys):
    tear_metrics(damaged / "checkpoints" / "4")
    os.truncate(damaged / "metrics.jsonl", 0)
    empty(damaged / "checkpoints" / "6")
    run(CONFIG, damaged, resume=True)
    assert capsys.readouterr().err.count("\n") == 2
    assert epochs_saved(damaged) == [5, 6]


def test_when_all_checkpoints_are_damaged_none_is_touched_and_the_run_is_not_begun_anew(damaged):
    for epoch in (4, 5, 6):
        truncate(damaged / "checkpoints" / str(epoch))
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"^no checkpoint in .* is whole \(6: .*; 5: .*; 4: .*\): start again"):
            run(CONFIG, damaged, resume=True)
        assert epochs_saved(damaged) == [4, 5, 6]


def test_the_best_checkpoint_of_before_is_kept_by_a_resumed_run(tmp_path):
    state = make_train(CONFIG, (4,), 3, 105).init(jax.random.key(0), hyperparams(CONFIG))
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 4.0, 5.0], start=1):
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            checkpoints.save(epoch, state, {"valid_loss": loss}, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "5"]


def test_every_flipped_byte_is_noticed_or_harmless(damaged, rng):
    like = state_in(damaged)
    newest = damaged / "checkpoints" / "6"
    for path in sorted(p for p in newest.rglob("*") if p.is_file() and p.stat().st_size):
        data = path.read_bytes()
        for place in rng.integers(len(data), size=2):
            torn = bytearray(data)
            torn[place] ^= 1 << rng.integers(8)
            path.write_bytes(torn)
            with contextlib.suppress(Exception):
                found = Checkpoints(damaged / "checkpoints")._restore(6, like)
                assert checksum(found) == checksum(like)
        path.write_bytes(data)


# A full disk


def in_a_small_disk(folder, size):
    """A command that runs the rest in a file system of `size` bytes at `folder`; skips where that is not allowed."""
    before = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size={size} none "{folder}" && "$@"; x=$?; cp -r "{folder}" "{folder}-after"; exit $x', "sh"]
    folder.mkdir()
    if not shutil.which("unshare") or subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    shutil.rmtree(f"{folder}-after")
    return before


def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on_where_there_is_room(front_door, tmp_path):
    before = in_a_small_disk(tmp_path / "disk", "400k")
    flags = ["--epochs", 60, "--checkpoint-seconds", 0, "--keep", 100]
    status, _, errors = ends(front_door(*flags, "--workdir", tmp_path / "disk" / "run", before=before))
    assert status == 1
    assert errors.count("\n") == 1
    assert errors.startswith("error: cannot write")
    assert "No space left on device" in errors
    workdir = tmp_path / "disk-after" / "run"
    saved = epochs_saved(workdir)[-1]
    assert 0 < saved < 60
    status, _, errors = ends(front_door(*flags, "--resume", "--workdir", workdir))
    assert (status, errors) == (0, "")
    run(CONFIG_60, tmp_path / "unbroken")
    assert rows(workdir) == rows(tmp_path / "unbroken")
    assert checksum(state_in(workdir, CONFIG_60)) == checksum(state_in(tmp_path / "unbroken", CONFIG_60))
    assert not list(workdir.glob("checkpoints/*tmp*"))


CONFIG_60 = Config(data="iris", model="mlp", widths=(4,), ema_decay=0.9, batch_size=32, epochs=60, optimizer="momentum", learning_rate=0.5, schedule="constant", weight_decay=1 / 105)


# A loss that is not finite


def test_a_loss_that_is_not_finite_leaves_the_last_good_state(tmp_path, monkeypatch):
    def check(losses, steps_before, workdir):
        checked(np.where(steps_before >= 9, np.nan, losses), steps_before, workdir)

    checked = loop.check_finite
    with monkeypatch.context() as patch:
        patch.setattr(loop, "check_finite", check)
        with pytest.raises(TrainingError, match=r"^the loss is nan at step 10: "):
            run(CONFIG, tmp_path / "run", keep=10, checkpoint_seconds=0)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [1, 2, 3]
    assert set(epochs_saved(tmp_path / "run")) <= {1, 2, 3}
    assert np.isfinite(jax.tree.leaves(state_in(tmp_path / "run").params)[0]).all()
    run(CONFIG, tmp_path / "run", resume=True)
    assert len(rows(tmp_path / "run")) == 6


# Folders


def test_a_second_run_in_one_folder_is_refused_and_the_first_loses_nothing(front_door, tmp_path):
    workdir = tmp_path / "run"
    first = front_door("--epochs", 100_000, "--workdir", workdir)
    wait_for(first, lambda: (workdir / "metrics.jsonl").exists() and rows_so_far(workdir))
    for flags in ([], ["--resume"]):
        with pytest.raises(ConfigError, match=f"^another run is at work in {workdir}: wait until it ends"), lock(workdir):
            raise AssertionError(flags)
    status, _, errors = ends(front_door("--epochs", 100_000, "--resume", "--workdir", workdir))
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"error: another run is at work in {workdir}: wait until it ends")
    first.terminate()
    assert ends(first)[0] == 1
    assert [row["epoch"] for row in rows(workdir)] == list(range(1, epochs_saved(workdir)[-1] + 1))
    with lock(workdir):
        pass


def test_a_run_under_way_is_named_rather_than_its_files(tmp_path):
    with lock(tmp_path / "run"):
        write_json(tmp_path / "run" / "config.json", {})
        with pytest.raises(ConfigError, match="another run is at work"):
            run(CONFIG, tmp_path / "run")


def test_a_workdir_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="^workdir .*file is a file: name a folder"):
        run(CONFIG, tmp_path / "file")
    with pytest.raises(ConfigError, match="^cannot write to workdir .*: Not a directory; name another --workdir"):
        run(CONFIG, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_read_only_folder_is_told_in_one_line(front_door, tmp_path):
    before = in_a_small_disk(tmp_path / "disk", "1m,ro")
    status, _, errors = ends(front_door("--workdir", tmp_path / "disk" / "run", before=before))
    assert status == 2
    assert errors == (
        f"error: cannot write to workdir {tmp_path / 'disk' / 'run'}: Read-only file system; name another --workdir\n"
    )


# TensorBoard


def events_in(workdir):
    """What TensorBoard reads, file by file: records of length, its checksum, an event, its checksum."""
    for path in sorted(workdir.glob("events.out.tfevents.*")):
        data, start = path.read_bytes(), 0
        while start < len(data):
            (length,) = struct.unpack_from("<Q", data, start)
            yield Event.FromString(data[start + 12 : start + 12 + length])
            start += 16 + length


def test_events_hold_each_metric_of_each_epoch(finished):
    first, restart, *events = events_in(finished)
    assert first.file_version == "brain.Event:2"
    assert restart.session_log.status == SessionLog.START
    for row, event in zip(rows(finished), events, strict=True):
        values = {value.tag: value.simple_value for value in event.summary.value}
        assert event.step == row["epoch"]
        for tag in ("loss/train", "loss/valid", "accuracy/train", "accuracy/valid"):
            metric, part = tag.split("/")
            assert values[tag] == np.float32(row[f"{part}_{metric}"])


def test_events_of_a_resumed_run_take_back_those_it_repeats(tmp_path, monkeypatch):
    def die(losses, steps_before, workdir):
        if steps_before == 12:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "check_finite", die)
        run(CONFIG, tmp_path, checkpoint_seconds=3600)  # so that epoch 1 is saved, but 2 to 4 are not
    run(CONFIG, tmp_path, resume=True)
    shown = []
    for event in events_in(tmp_path):
        if event.HasField("session_log"):  # as TensorBoard does
            shown = [step for step in shown if step < event.step]
        elif event.HasField("summary"):
            shown.append(event.step)
    assert shown == [1, 2, 3, 4, 5, 6]
    assert len(list(tmp_path.glob("events.*"))) == 2
