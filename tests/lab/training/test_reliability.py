"""What can happen to a run: kills, signals, damage, a full disk, a folder that is taken; nothing is lost."""

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
from jax.experimental.compilation_cache import compilation_cache
from tensorboardX.proto.event_pb2 import Event, SessionLog

from jaxce.lab import charts
from jaxce.lab.config import Config, hyperparams
from jaxce.lab.errors import ConfigError, Stopped, TrainingError
from jaxce.lab.files import write_whole
from jaxce.lab.tasks import ClassTask
from jaxce.lab.training import loop
from jaxce.lab.training.checkpoints import Checkpoints, checksum
from jaxce.lab.training.loop import run
from jaxce.lab.training.step import make_train
from jaxce.lab.workdir import keep_lines, lock, write_json

ROOT = Path(__file__).parents[3]
CONFIG = Config(data="iris", model="mlp", widths=(4,), ema_decay=0.9, batch_size=32, epochs=6)
FLAGS = ["iris", "--model=mlp", "--widths", "4", "--ema-decay=0.9", "--batch-size=32"]


EPOCHS = 300  # of runs through the front door: a second of training


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Compile each program once, in these tests and in the processes that they start."""
    folder = tmp_path_factory.mktemp("cache")
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(folder / "jaxce"), 0.05), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def front_door(cache):
    """Start `python train.py` in a process of its own, with a cache folder of the tests' own."""
    shared = cache

    def start(*flags, before=(), cache=shared):
        command = [*before, sys.executable, str(ROOT / "train.py"), *FLAGS, *map(str, flags)]
        settings = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=settings, stdout=pipe, stderr=pipe, text=True)

    return start


@pytest.fixture(scope="module")
def unbroken(front_door, tmp_path_factory):
    """A run of EPOCHS epochs that nothing happened to."""
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    status, _, errors = ends(front_door("--epochs", EPOCHS, "--workdir", workdir))
    assert (status, errors) == (0, "")
    return workdir


def same_as(unbroken, workdir):
    """Assert that a run ended with the files and bits of one that nothing happened to."""
    assert rows(workdir) == rows(unbroken)
    config = Config(**json.loads((workdir / "config.json").read_text()))
    assert checksum(state_in(workdir, config)) == checksum(state_in(unbroken, config))
    test, expected = (json.loads((path / "summary.json").read_text())["test"] for path in (workdir, unbroken))
    assert test == expected
    assert (workdir / "report.html").read_text().endswith("</html>")
    assert not [path for path in workdir.rglob("*") if "tmp" in path.name or path.suffix == ".part"]


def ends(process):
    """Exit status, output, errors."""
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def state_in(workdir, config=CONFIG):
    return Checkpoints(workdir / "checkpoints").restore_latest(first_state(config))


def first_state(config=CONFIG):
    functions = make_train(config, (4,), ClassTask(config.loss, num_classes=3), num_train=105)
    return functions.init(jax.random.key(0), hyperparams(config))


def rows(workdir):
    return [{**row, "seconds": 0} for row in rows_with_seconds(workdir)]


def rows_with_seconds(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def epochs_saved(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*") if path.name.isdigit())


def wait_for(process, condition):
    while process.poll() is None and not condition():
        time.sleep(0.01)
    assert condition(), process.communicate()


# Kills


def kill_and_resume(front_door, unbroken, folder, kills, seed, longest):
    """Kill runs at random moments, `kills` times in all; each run that ends must be as the unbroken one."""
    config = Config(**json.loads((unbroken / "config.json").read_text()))
    draw, killed, finished, moments = random.Random(seed), 0, 0, []
    while killed < kills or not finished:
        workdir = folder / f"run-{finished}"
        resume = ["--resume"] if (workdir / "config.json").exists() else []
        process = front_door("--epochs", config.epochs, "--checkpoint-seconds=0", *resume, "--workdir", workdir)
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
        same_as(unbroken, workdir)
        finished += 1
    print(f"{killed} kills, with these epochs saved: {moments}; {finished} runs ended as the unbroken one")


@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_bits_of_another(front_door, unbroken, tmp_path):
    flags = ["--epochs", EPOCHS, "--checkpoint-seconds", 0]
    workdir = tmp_path / "killed"
    for kill, epoch in enumerate((EPOCHS // 8, EPOCHS // 2)):
        process = front_door(*flags, *["--resume"][:kill], "--workdir", workdir)
        wait_for(process, lambda epoch=epoch: len(rows_so_far(workdir)) > epoch and epochs_saved(workdir))
        process.kill()
        assert ends(process)[0] == -signal.SIGKILL
        assert 0 < max(epochs_saved(workdir)) < EPOCHS
    status, _, errors = ends(front_door(*flags, "--resume", "--workdir", workdir))
    assert (status, errors) == (0, "")
    same_as(unbroken, workdir)


def rows_so_far(workdir):
    file = workdir / "metrics.jsonl"
    return file.read_bytes().splitlines() if file.exists() else []


@pytest.mark.long
def test_a_run_killed_twenty_times_ends_with_the_same_bits(front_door, tmp_path):
    epochs = 3000
    status, _, errors = ends(front_door("--epochs", epochs, "--workdir", tmp_path / "unbroken"))
    assert (status, errors) == (0, "")
    kill_and_resume(front_door, tmp_path / "unbroken", tmp_path, kills=20, seed=0, longest=20.0)


def test_a_torn_line_and_what_no_checkpoint_holds_are_cut_off(tmp_path):
    file = tmp_path / "metrics.jsonl"
    whole = '{"epoch": 1, "seconds": 1.5}\n{"epoch": 2, "seconds": 2.5}\n'
    for torn in [
        "",
        '{"epoch": 3, "a": 1}\n',
        '{"epoch": 3, "a"',
        '{"epoch": 2',
        "\n",
        "\0\0\0",
        '{"epoch": 3}\n{"ep',
    ]:
        file.write_text(whole + torn)
        assert keep_lines(file, 2) == 2.5
        assert file.read_text() == whole
    assert keep_lines(file, 0) == 0
    assert file.read_text() == ""
    assert keep_lines(tmp_path / "absent", 2) == 0


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


@pytest.mark.slow
def test_a_signal_saves_and_stops_with_one_line(front_door, tmp_path):
    workdir = tmp_path / "run"
    process = front_door("--epochs", 100_000, "--checkpoint-seconds", 3600, "--workdir", workdir)
    wait_for(process, lambda: len(rows_so_far(workdir)) > 20)
    process.terminate()
    status, _, errors = ends(process)
    epoch = len(rows(workdir))
    assert status == 1
    assert errors == (
        f"stopped: SIGTERM came, and epoch {epoch} of 100000 is saved: --resume --workdir {workdir} continues\n"
    )
    assert epochs_saved(workdir)[-1] == epoch > 20


def test_a_signal_in_the_last_epoch_changes_nothing(tmp_path, monkeypatch):
    def stop_at(epoch):
        def check(losses, steps_before, workdir):
            if steps_before == (epoch - 1) * len(losses[:-1]):
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(loop, "check_finite", check)

    handler = signal.getsignal(signal.SIGINT)
    stop_at(4)
    with pytest.raises(Stopped, match="SIGINT came, and epoch 4 of 6 is saved"):
        run(CONFIG, tmp_path)
    assert epochs_saved(tmp_path) == [1, 4]
    stop_at(6)
    run(CONFIG, tmp_path, resume=True)
    assert len(rows(tmp_path)) == 6
    assert signal.getsignal(signal.SIGINT) == handler


# Damage


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with the checkpoints of its last three epochs."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    run(CONFIG, workdir, keep=3, checkpoint_seconds=0)
    with Checkpoints(workdir / "checkpoints", keep=3) as checkpoints:  # whatever there was time for
        for path in (workdir / "checkpoints").iterdir():
            shutil.rmtree(path)
        like = first_state()
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


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        remove_file,
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (truncate, empty, tear_metrics, change_numbers)
        ),
    ],
)
def test_a_damaged_checkpoint_is_named_and_an_older_one_used(damage, damaged, capsys):
    damage(damaged / "checkpoints" / "6")
    assert state_in(damaged).epoch == 5
    errors = capsys.readouterr().err
    assert errors.startswith("warning: checkpoint 6 is damaged (")
    assert errors.count("\n") == 1
    assert (damaged / "checkpoints" / "6.damaged").is_dir()
    assert state_in(damaged).epoch == 5
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_an_unreadable_older_checkpoint_does_no_harm(damaged, capsys):
    tear_metrics(damaged / "checkpoints" / "4")
    os.truncate(damaged / "metrics.jsonl", 0)
    empty(damaged / "checkpoints" / "6")
    run(CONFIG, damaged, resume=True)
    assert capsys.readouterr().err.count("\n") == 2
    assert epochs_saved(damaged) == [5, 6]


def test_an_older_checkpoint_half_removed_is_removed_silently(damaged, capsys):
    shutil.rmtree(damaged / "checkpoints" / "5" / "metrics")
    assert state_in(damaged).epoch == 6
    assert (epochs_saved(damaged), capsys.readouterr().err) == ([4, 6], "")
    assert not list((damaged / "checkpoints").glob("*.damaged"))


@pytest.mark.slow
def test_when_all_checkpoints_are_damaged_none_is_touched(damaged):
    for epoch in (4, 5, 6):
        truncate(damaged / "checkpoints" / str(epoch))
    for _ in range(2):
        with pytest.raises(
            TrainingError, match=r"^all checkpoints in .* are damaged \(6: .*; 5: .*; 4: .*\): start again"
        ):
            run(CONFIG, damaged, resume=True)
        assert epochs_saved(damaged) == [4, 5, 6]


def test_the_best_checkpoint_of_before_is_kept_by_a_resumed_run(tmp_path):
    state = first_state()
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 4.0, 5.0], start=1):
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            checkpoints.save(epoch, state, {"valid_loss": loss}, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "5"]


@pytest.mark.slow
def test_every_flipped_byte_is_noticed_or_harmless(damaged, rng):
    like = state_in(damaged)
    for epoch in "45":
        shutil.rmtree(damaged / "checkpoints" / epoch)
    newest, noticed = damaged / "checkpoints" / "6", 0
    for path in sorted(p for p in newest.rglob("*") if p.is_file() and p.stat().st_size):
        data = path.read_bytes()
        for place in rng.integers(len(data), size=2):
            torn = bytearray(data)
            torn[place] ^= 1 << rng.integers(8)
            path.write_bytes(torn)
            try:
                found = state_in(damaged)
            except TrainingError:
                noticed += 1
            else:
                assert checksum(found) == checksum(like)
        path.write_bytes(data)
    assert noticed > 5


# A full disk


def small_disk(folder, size):
    """What to put before a command, for it to see a file system of `size` bytes at `folder`.

    It is gone when the command ends, and what was on it lies in `folder`-after. Skips where nobody may mount.
    """
    mount, copy = f'mount -t tmpfs -o size={size} none "{folder}"', f'cp -r "{folder}" "{folder}-after"'
    script = f'{mount} && "$@"; status=$?; {copy}; exit $status'
    before = ["unshare", "-rm", "sh", "-c", script, "sh"]
    folder.mkdir()
    if not shutil.which("unshare") or subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    shutil.rmtree(f"{folder}-after")
    return before


def goes_on(front_door, workdir):
    """Resume in a folder with room."""
    status, _, errors = ends(front_door("--epochs", EPOCHS, "--resume", "--workdir", workdir))
    assert (status, errors) == (0, "")


@pytest.mark.slow
def test_a_disk_too_small_for_checkpoints_is_one_line(front_door, unbroken, tmp_path):
    before = small_disk(tmp_path / "disk", "160k")
    flags = ["--epochs", EPOCHS, "--checkpoint-seconds", 0, "--keep", 100]
    status, _, errors = ends(front_door(*flags, "--workdir", tmp_path / "disk" / "run", before=before))
    assert status == 1
    assert errors.count("\n") == 1
    assert errors.startswith("error: cannot write")
    assert "No space left on device" in errors
    workdir = tmp_path / "disk-after" / "run"
    assert 0 < epochs_saved(workdir)[-1] < EPOCHS
    assert not (workdir / "summary.json").exists()
    goes_on(front_door, workdir)
    same_as(unbroken, workdir)


@pytest.mark.slow
def test_a_disk_too_small_for_the_page_leaves_a_finished_run(front_door, unbroken, tmp_path):
    before = small_disk(tmp_path / "disk", "350k")
    shown = tmp_path / "disk" / "run"
    flags = ["--epochs", EPOCHS, "--checkpoint-seconds", 3600, "--workdir", shown]
    status, _, errors = ends(front_door(*flags, before=before))
    assert errors == (
        f"error: the run is done and {shown}/summary.json is whole, but report.html could not be written: "
        f"No space left on device; --resume --workdir {shown} writes it\n"
    )
    assert status == 1
    workdir = tmp_path / "disk-after" / "run"
    summary = json.loads((workdir / "summary.json").read_text())
    assert not list(workdir.glob("*.part"))
    assert not (workdir / "report.html").exists()
    goes_on(front_door, workdir)
    same_as(unbroken, workdir)
    assert json.loads((workdir / "summary.json").read_text())["test"] == summary["test"]


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_one_line(front_door, unbroken, tmp_path):
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); "
    before = [sys.executable, "-c", limited + "os.execv(sys.argv[1], sys.argv[1:])"]
    workdir = tmp_path / "run"
    flags = ["--epochs", EPOCHS, "--checkpoint-seconds", 0, "--workdir", workdir]
    # The compiled programs are larger too, and are done without.
    status, _, errors = ends(front_door(*flags, before=before, cache=tmp_path / "cache"))
    assert errors == (
        f"error: cannot write to {workdir}: File too large; once that is corrected, --resume continues from "
        f"the last checkpoint\n"
    )
    assert status == 1
    assert 0 < epochs_saved(workdir)[-1] < EPOCHS
    goes_on(front_door, workdir)
    same_as(unbroken, workdir)


def test_a_page_that_cannot_be_drawn_leaves_a_run_that_is_done(tmp_path, monkeypatch):
    def fail(axes):
        raise RuntimeError("no such font")

    with monkeypatch.context() as patch:
        patch.setattr(charts, "label_ends", lambda axes, *args: fail(axes))
        with pytest.raises(TrainingError, match=r"^the run is done and .*summary.json is whole, but report"):
            run(CONFIG, tmp_path)
    before = json.loads((tmp_path / "summary.json").read_text())
    assert before["test"]["accuracy"] > 0
    run(CONFIG, tmp_path, resume=True)
    after = json.loads((tmp_path / "summary.json").read_text())
    assert after["test"] == before["test"]
    assert after["wall_seconds"] > rows_with_seconds(tmp_path)[-1]["seconds"]
    assert (tmp_path / "report.html").exists()


def test_what_cannot_be_written_leaves_what_stood_there(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", "first")
    monkeypatch.setattr(os, "fsync", lambda file: os.write(-1, b""))
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_whole(tmp_path / "a", "second")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "first")]


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


@pytest.mark.slow
def test_a_second_run_in_one_folder_is_refused(front_door, tmp_path):
    workdir = tmp_path / "run"
    first = front_door("--epochs", 100_000, "--workdir", workdir)
    wait_for(first, lambda: rows_so_far(workdir))
    for flags in ([], ["--resume"]):
        with (
            pytest.raises(ConfigError, match=f"^another run is at work in {workdir}: wait until it ends"),
            lock(workdir),
        ):
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


def test_a_workdir_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"^workdir .*file is a file: name a folder"):
        run(CONFIG, tmp_path / "file")
    with pytest.raises(ConfigError, match=r"^cannot write to workdir .*: Not a directory; name another"):
        run(CONFIG, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_read_only_folder_is_one_line(front_door, tmp_path):
    before = small_disk(tmp_path / "disk", "1m,ro")
    status, _, errors = ends(front_door("--workdir", tmp_path / "disk" / "run", before=before))
    assert status == 2
    assert errors == (
        f"error: cannot write to workdir {tmp_path / 'disk' / 'run'}: Read-only file system; "
        f"name another --workdir\n"
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

    with monkeypatch.context() as patch:
        patch.setattr(loop, "check_finite", die)
        with pytest.raises(KeyboardInterrupt):
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
