"""Sweeps: what is read from --over, which settings share a program, and that each is what train.py gives."""

import contextlib
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from optuna.trial import TrialState

from jaxce.config import Config, load_config
from jaxce.data import DATASETS, Split
from jaxce.errors import ConfigError, TrainingError
from jaxce.sweep.plan import Plan, program_of, settings_of
from jaxce.sweep.program import Program
from jaxce.sweep.run import sweep
from jaxce.sweep.space import Choices, Interval, apply, parse_space
from jaxce.sweep.study import Study, open_storage
from jaxce.training.loop import number, run

ROOT = Path(__file__).parents[1]
IRIS = replace(load_config("iris"), epochs=3)


def grid(*over, base=IRIS):
    return Plan("iris", base, over, "grid", None)


def rows_in(workdir):
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


# What --over says


@pytest.mark.parametrize(
    ("item", "dimension"),
    [
        ("learning_rate=0.1,0.2", Choices("learning_rate", (0.1, 0.2))),
        ("learning-rate=1,1", Choices("learning_rate", (1.0,))),
        ("learning_rate=1e-4..1e-1", Interval("learning_rate", 1e-4, 1e-1, False, False)),
        ("learning_rate=1e-4..1e-1:log", Interval("learning_rate", 1e-4, 1e-1, True, False)),
        ("learning_rate=1e-4..1e-1:log:4", Choices("learning_rate", (1e-4, 1e-3, 1e-2, 1e-1))),
        ("label_smoothing=0..0.2:3", Choices("label_smoothing", (0.0, 0.1, 0.2))),
        ("label_smoothing=range:0:0.3:0.1", Choices("label_smoothing", (0.0, 0.1, 0.2, 0.3))),
        ("epochs=1..4", Interval("epochs", 1, 4, False, True)),
        ("epochs=range:10:35:10", Choices("epochs", (10, 20, 30))),
        ("epochs=1..100:log:3", Choices("epochs", (1, 10, 100))),
        ("seed=seeds:3", Choices("seed", (0, 1, 2))),
        ("clip_norm=None,1", Choices("clip_norm", (None, 1.0))),
        ("batch_size=None,32", Choices("batch_size", (None, 32))),
        ("widths=16x32x64,8x16,None", Choices("widths", ((16, 32, 64), (8, 16), None))),
        ("optimizer=sgd,adam", Choices("optimizer", ("sgd", "adam"))),
        (
            "loss=softmax,sigmoid,focal",
            Choices(
                "loss",
                (
                    "softmax_cross_entropy_with_integer_labels",
                    "sigmoid_binary_cross_entropy",
                    "softmax_focal_loss",
                ),
            ),
        ),
    ],
)
def test_a_spec_is_read_by_the_type_of_its_field(item, dimension):
    assert parse_space([item]) == (dimension,)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["learning_rat=1"], "no field 'learning_rat', did you mean learning_rate"),
        (["learning_rate"], "FIELD=SPEC"),
        (["seed=1", "seed=2"], "seed twice"),
        (["learning_rate=fast"], "learning_rate takes a number, not 'fast'"),
        (["learning_rate="], "learning_rate takes a number, not ''"),
        (["learning_rate=1,,2"], "learning_rate takes a number, not ''"),
        (["epochs=1.5"], "epochs takes a whole number, not '1.5'"),
        (["epochs=1..2.5"], "epochs takes a whole number, not '2.5'"),
        (["optimizer=adma"], "optimizer takes one of sgd, momentum, adam"),
        (["optimizer=adam..sgd"], "optimizer has no range: it takes one of"),
        (["data=a..b"], "data has no range"),
        (["clip_norm=None..1"], "clip_norm has no range"),
        (["learning_rate=nan..1"], "learning_rate has no range"),
        (["loss=softmx"], "did you mean softmax"),
        (["widths=16,32"], None),
        (["widths=16x"], "as in 16x32"),
        (["learning_rate=1..0.1"], "lower end comes first"),
        (["learning_rate=0..1:log"], "needs it above 0"),
        (["learning_rate=0.1..1:lin"], "behind lo..hi goes"),
        (["learning_rate=0.1..1:5:log"], "behind lo..hi goes"),
        (["learning_rate=0.1..1:0"], "behind lo..hi goes"),
        (["learning_rate=range:0:1"], "range:lo:hi:by"),
        (["learning_rate=range:0:1:0"], "step above 0"),
        (["learning_rate=range:1:0:0.1"], "goes up"),
        (["learning_rate=seeds:3"], "not for learning_rate"),
        (["seed=seeds:0"], "how many seeds"),
    ],
)
def test_a_spec_that_does_not_fit_its_field_says_so(items, message):
    if message is None:
        assert parse_space(items) == (Choices("widths", ((16,), (32,))),)
        return
    with pytest.raises(ConfigError, match=message):
        parse_space(items)


# Which settings there are


def test_a_grid_is_every_combination_group_by_group():
    settings = settings_of(grid("learning_rate=0.1,0.2", "optimizer=sgd,adam", "seed=seeds:2"))
    assert len(settings) == 8
    assert [setting["optimizer"] for setting in settings] == ["sgd"] * 4 + ["adam"] * 4
    assert len({tuple(setting.values()) for setting in settings}) == 8


def test_options_that_a_loss_does_not_take_are_left_out_and_settings_that_become_equal_run_once():
    settings = settings_of(
        grid("loss=softmax,focal", "label_smoothing=0,0.1", "gamma=1,2", base=replace(IRIS, z_loss=1e-4))
    )
    configs = [apply(IRIS, setting) for setting in settings]
    assert [(config.label_smoothing, config.gamma) for config in configs] == [
        (0.0, None),
        (0.1, None),
        (None, 1.0),
        (None, 2.0),
    ]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (("learning_rate=0.1,-1",), "setting learning_rate=-1: learning_rate must be above 0"),
        (("gamma=1,2",), "gamma is no option of"),
        (("learning_rate=0.1..1",), "say how many values, as in 0.1..1:5"),
        (("seed=0..99999", "epochs=1..99"), "a grid of 9,900,000 settings"),
    ],
)
def test_a_setting_that_does_not_fit_is_named_before_anything_runs(over, message):
    with pytest.raises(ConfigError, match=message):
        settings_of(grid(*over))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_ends_of_an_interval_are_checked_before_anything_runs(sampler):
    with pytest.raises(ConfigError, match="momentum must be at least 0 and below 1"):
        settings_of(Plan("iris", IRIS, ("momentum=0.99..2",), sampler, 1))


def test_random_settings_lie_in_their_interval_and_are_the_same_each_time():
    plan = Plan("iris", IRIS, ("learning_rate=1e-3..1:log", "epochs=2..5"), "random", 40)
    settings = settings_of(plan)
    assert settings == settings_of(plan)
    rates = np.array([setting["learning_rate"] for setting in settings])
    assert rates.min() >= 1e-3
    assert rates.max() <= 1
    assert 10 < (rates < 10**-1.5).sum() < 30  # evenly by the logarithm
    assert {setting["epochs"] for setting in settings} == {2, 3, 4, 5}


def test_numbers_share_a_program_and_shapes_do_not():
    base = Config(label_smoothing=0.1, clip_norm=1.0)
    for change in ({"learning_rate": 1.0}, {"label_smoothing": 0.0}, {"seed": 7}, {"clip_norm": 5.0}):
        assert program_of(replace(base, **change)) == program_of(base)
    for change in (
        {"clip_norm": None},
        {"batch_size": 3},
        {"epochs": 3},
        {"loss": "softmax_focal_loss", "label_smoothing": None},
    ):
        assert program_of(replace(base, **change)) != program_of(base)


# That each setting is what train.py gives


def test_each_setting_has_the_bits_of_a_run_alone(tmp_path):
    config = replace(load_config("digits"), widths=(4, 8), epochs=2, clip_norm=1.0, ema_decay=0.9)
    configs = [
        replace(config, learning_rate=rate, label_smoothing=smoothing, seed=seed)
        for rate, smoothing, seed in [(3e-3, 0.0, 0), (1e-2, 0.1, 2**32 - 1)]
    ]
    dataset = DATASETS["digits"](Split(config.valid_fraction, config.test_fraction, config.split_seed))
    program = Program(configs[0], dataset, 4, jax.devices())
    places = [program.begin(each) for each in configs]
    for _ in range(config.epochs):
        measured = program.advance()
    tests = program.test(places)
    for i, (place, each) in enumerate(zip(places, configs, strict=True)):
        run(each, tmp_path / str(i))
        row = json.loads((tmp_path / str(i) / "metrics.jsonl").read_text().splitlines()[-1])
        steps, scores = measured[place]
        assert number(steps["loss"].mean()) == row["train_loss"]
        assert number(scores["loss"]) == row["valid_loss"]
        summary = json.loads((tmp_path / str(i) / "summary.json").read_text())
        assert number(tests[place]["loss"]) == summary["test"]["loss"]
        assert number(tests[place]["accuracy"]) == summary["test"]["accuracy"]


def test_a_place_takes_another_setting_while_its_neighbour_goes_on():
    dataset = DATASETS["iris"](Split(IRIS.valid_fraction, IRIS.test_fraction, 0))
    first, second, late = (replace(IRIS, learning_rate=rate) for rate in (0.1, 0.2, 0.4))

    def losses(program, place, epochs):
        return [program.advance()[place][1]["loss"] for _ in range(epochs)]

    program = Program(IRIS, dataset, 2, jax.devices())
    place, neighbour = program.begin(first), program.begin(second)
    program.advance()
    program.end(place)
    assert program.begin(late) == place
    later = [program.advance() for _ in range(3)]
    for config, found in (
        (late, [each[place] for each in later]),
        (second, [each[neighbour] for each in later]),
    ):
        alone = Program(IRIS, dataset, 1, jax.devices())
        start = alone.begin(config)
        expected = losses(alone, start, 4)
        skipped = 1 if config is second else 0
        np.testing.assert_array_equal([scores["loss"] for _, scores in found], expected[skipped : skipped + 3])


def test_a_sweep_of_one_setting_is_a_run_of_train(tmp_path):
    sweep(grid("seed=3"), tmp_path / "sweep", None, resume=False, parallel=None)
    (row,) = rows_in(tmp_path / "sweep")
    assert row["state"] == "complete"
    assert row["test"] == run(replace(IRIS, seed=3), tmp_path / "run")["test"]


def test_a_setting_that_breaks_is_recorded_and_the_others_go_on(tmp_path, capsys):
    sweep(grid("learning_rate=0.5,1e30"), tmp_path / "sweep", None, resume=False, parallel=None)
    good, bad = rows_in(tmp_path / "sweep")
    assert (good["state"], bad["state"]) == ("complete", "failed")
    assert "the loss is" in bad["error"]
    assert "best: valid accuracy" in capsys.readouterr().out


def test_a_sweep_of_which_nothing_came_fails(tmp_path):
    with pytest.raises(TrainingError, match="no setting could be trained; of the first: the loss is"):
        sweep(grid("learning_rate=1e30,2e30"), tmp_path / "sweep", None, resume=False, parallel=None)


# Several settings, several processes, one study


@pytest.fixture
def join(tmp_path):
    """Join the sweep of a plan in one database, as another process would."""
    with contextlib.ExitStack() as stack:

        def joined(plan):
            storage = stack.enter_context(open_storage(f"sqlite:///{tmp_path / 'shared.db'}"))
            return Study(storage, "shared", plan)

        yield joined


def test_no_setting_is_taken_twice(join):
    plan = grid("seed=seeds:30")
    studies = [join(plan) for _ in range(3)]

    def take_all(study):
        taken = []
        while (trial := study.take()) is not None:
            taken.append(trial.user_attrs["setting"])
        return taken

    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(take_all, studies))
    assert sorted(itertools.chain(*taken)) == list(range(30))
    assert all(taken)


def test_what_a_process_did_not_finish_waits_again_when_it_leaves(join):
    plan = grid("seed=seeds:2")
    with join(plan) as leaving:
        first = leaving.take()
        leaving.take()
        assert leaving.finish(first, TrialState.COMPLETE, 0.5, {"setting": 0})
        assert leaving.take() is None
    with join(plan) as other:
        again = other.take()
        assert again.user_attrs["setting"] == 1
        assert again.params == {"seed": 1}
        assert other.take() is None
        assert other.revive() == 0


def test_a_process_without_heartbeats_loses_its_setting_and_cannot_finish_it(join, monkeypatch):
    monkeypatch.setattr("jaxce.sweep.study.GRACE_SECONDS", 1)
    plan = grid("seed=seeds:1")
    silent, other = join(plan), join(plan)
    trial = silent.take()
    assert other.revive() == 1
    assert other.take() is None
    time.sleep(2.5)  # a database's clock has whole seconds
    assert other.revive() == 0
    again = other.take()
    assert again.user_attrs["setting"] == 0
    assert not silent.finish(trial, TrialState.COMPLETE, 0.1, {"setting": 0, "from": "silent"})
    assert other.finish(again, TrialState.COMPLETE, 0.2, {"setting": 0, "from": "other"})
    assert silent.rows() == [{"setting": 0, "from": "other"}]


def test_the_sampler_that_learns_comes_near_the_best_value(join):
    plan = Plan("iris", IRIS, ("learning_rate=1e-4..1:log",), "tpe", 40)
    study = join(plan)
    distances = []
    while (trial := study.take()) is not None:
        distances.append(abs(np.log10(trial.params["learning_rate"]) + 1))
        study.finish(trial, TrialState.COMPLETE, -distances[-1], {"setting": trial.user_attrs["setting"]})
    assert len(distances) == 40
    assert np.mean(distances[10:]) < 0.8 < np.mean(distances[:10])


def without_clock(rows):
    return [{name: row[name] for name in row if name not in ("seconds", "process")} for row in rows]


def test_an_interrupted_sweep_goes_on_to_the_results_of_one_that_was_not(tmp_path, monkeypatch, capsys):
    over = ("learning_rate=0.1,0.5,1e30", "optimizer=sgd,momentum", "seed=seeds:2")
    sweep(grid(*over), tmp_path / "whole", None, resume=False, parallel=3)

    advance, calls = Program.advance, []

    def interrupted(program):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return advance(program)

    monkeypatch.setattr(Program, "advance", interrupted)
    with pytest.raises(
        TrainingError, match=r"interrupted, with [1-9]\d* of 12 settings done: --resume --workdir"
    ):
        sweep(grid(*over), tmp_path / "parts", None, resume=False, parallel=3)
    sweep(None, tmp_path / "parts", None, resume=True, parallel=2)
    assert without_clock(rows_in(tmp_path / "parts")) == without_clock(rows_in(tmp_path / "whole"))
    with pytest.raises(ConfigError, match="is not empty: add --resume"):
        sweep(grid(*over), tmp_path / "parts", None, resume=False, parallel=2)
    with pytest.raises(ConfigError, match="with another sweep"):
        sweep(grid("seed=1"), tmp_path / "parts", None, resume=True, parallel=2)


def test_settings_that_differ_in_numbers_are_one_program_and_nothing_compiles_again(tmp_path, monkeypatch):
    programs = []

    class Counted(Program):
        def __init__(self, *args):
            super().__init__(*args)
            programs.append(self)

    monkeypatch.setattr("jaxce.sweep.worker.Program", Counted)
    over = ("learning_rate=0.1,0.2,0.3", "loss=softmax,sigmoid,focal", "gamma=1,2", "label_smoothing=0,0.1")
    sweep(grid(*over), tmp_path / "sweep", None, resume=False, parallel=2)
    assert len(rows_in(tmp_path / "sweep")) == 3 * (2 + 2 + 2)
    assert len(programs) == 3  # one for each loss
    assert [program._advance._cache_size() for program in programs] == [1, 1, 1]


def test_hopeless_settings_end_early_in_the_same_program(tmp_path, capsys):
    plan = replace(
        grid("learning_rate=0.5,0.4,0.3,0.2,0.1,1e-7,1e-8", base=replace(IRIS, epochs=20)), prune=True
    )
    sweep(plan, tmp_path / "sweep", None, resume=False, parallel=1)
    rows = rows_in(tmp_path / "sweep")
    assert [row["state"] for row in rows] == ["complete"] * 5 + ["pruned"] * 2
    assert all(row["epochs"] in range(2, 20, 2) for row in rows[5:])
    assert all("test" not in row for row in rows[5:])
    assert "ended after 2 epochs" in capsys.readouterr().out


def test_settings_spread_over_eight_devices_with_the_same_bits(command):
    script = """
import jax, numpy as np
from dataclasses import replace
from jaxce.config import load_config
from jaxce.data import DATASETS, Split
from jaxce.sweep.program import Program
config = load_config("iris")
dataset = DATASETS["iris"](Split(0.1, 0.2, 0))
found = []
for devices in (jax.devices(), jax.devices()[:1]):
    program = Program(config, dataset, 12, devices)
    places = [program.begin(replace(config, seed=i, learning_rate=0.1 + i / 100)) for i in range(12)]
    for _ in range(3):
        measured = program.advance()
    found.append([float(measured[place][1]["loss"]) for place in places])
    leaf = jax.tree.leaves(program._states.params)[0]
    on_device = np.bincount([place * len(devices) // program.num_slots for place in places])
    print(len(leaf.sharding.device_set), program.num_slots, on_device)
assert found[0] == found[1] and len(set(found[0])) == 12, found
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    settings = command(**flags)
    settings["args"] = [sys.executable, "-c", script]
    done = subprocess.run(**settings, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["8 16 [2 2 2 2 1 1 1 1]", "1 12 [12]"]


# The command


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command(tmp_path, caches):
    """Arguments and settings of a process that runs `python -m jaxce` in an empty folder."""

    def build(*args, **changes):
        settings = {"XDG_CACHE_HOME": str(caches), "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
        return {
            "args": [sys.executable, "-m", "jaxce", *args],
            "cwd": tmp_path,
            "env": os.environ | settings | changes,
            "text": True,
        }

    return build


@pytest.fixture
def jaxce(command):
    return lambda *args, **changes: subprocess.run(
        **command(*args, **changes), capture_output=True, check=False
    )


def test_the_best_settings_command_gives_its_accuracy(jaxce, tmp_path):
    done = jaxce("sweep", "iris", "--over", "learning_rate=0.01,0.5", "seed=seeds:2", "--epochs", "5")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[0].startswith("1/4  learning_rate=0.01 seed=0  complete: valid accuracy ")
    (workdir,) = (tmp_path / "runs").iterdir()
    assert workdir.name.startswith("iris-sweep-")
    assert len(rows_in(workdir)) == 4
    *_, best, repeat, last = done.stdout.splitlines()
    assert last.endswith(f"results in runs/{workdir.name}")
    again = jaxce(*repeat.split()[3:])
    assert again.returncode == 0, again.stderr
    said = best.split("test accuracy ")[1].split(",")[0]
    assert again.stdout.splitlines()[-1].startswith(f"test accuracy {said},")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--over", "learning_rat=1"], "did you mean learning_rate?"),
        (["--over", "optimizer.learning_rate=1"], "did you mean learning_rate?"),
        (["--over", "epochs=1", "--trails", "3"], "unknown flag --trails, did you mean --trials?"),
        (["--over", "epochs=1", "--trials", "some"], "--trials: invalid int value: 'some'"),
        (["--over", "epochs=1", "--trials", "0"], "--trials must be at least 1, not 0"),
        (["--over", "epochs=1", "--trials", "3", "--sampler", "grid"], "a grid has as many settings as it has"),
        (["--over", "epochs=1", "--sampler", "tpe"], "--sampler tpe needs --trials N"),
        (["--over", "epochs=1", "--learning-rate", "x"], "--learning-rate takes a number, not 'x'"),
        (["--over", "epochs=1", "--resume"], "--resume needs --workdir"),
        (["--over", "epochs=1", "--storage", "nothing"], "--storage takes the address of a database"),
        (
            ["--over", "epochs=1", "--storage", "sqlite:////no/such/folder/a.db"],
            "--storage sqlite: cannot be used: ",
        ),
        (["--resume", "--workdir", "nowhere"], "nothing to resume: nowhere/sweep.json cannot be read"),
        ([], "what to sweep? --over FIELD=SPEC"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(args, message, tmp_path, capsys, monkeypatch):
    from jaxce.cli import run_command

    monkeypatch.chdir(tmp_path)
    assert run_command("sweep", ["iris", *args], "jaxce sweep") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


SHARED = ["sweep", "iris", "--over", "learning_rate=0.01..1:log:6", "seed=seeds:2", "--epochs", "1500"]


def running(database):
    """Which process has which settings now, as the database says."""
    if not database.exists():
        return {}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        query = (
            "select p.value_json, s.value_json from trials t "
            "join trial_user_attributes p on p.trial_id = t.trial_id and p.key = 'process' "
            "join trial_user_attributes s on s.trial_id = t.trial_id and s.key = 'setting' "
            "where t.state = 'RUNNING'"
        )
        try:
            found = connection.execute(query).fetchall()
        except sqlite3.OperationalError:  # no tables yet
            return {}
    return {int(setting): int(process.strip('"').rpartition(":")[2]) for process, setting in found}


@pytest.mark.slow
def test_three_processes_share_a_sweep_and_what_a_killed_one_had_another_runs(command, tmp_path):
    database = tmp_path / "shared.db"
    storage = ["--storage", f"sqlite:///{database}", "--parallel", "2"]
    workers = [
        subprocess.Popen(**command(*SHARED, *storage, "--workdir", f"w{i}"), stdout=subprocess.DEVNULL)
        for i in range(3)
    ]
    pids = {worker.pid for worker in workers}
    deadline = time.monotonic() + 120
    while set((had := running(database)).values()) != pids:
        assert time.monotonic() < deadline, had
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.02)
    victim = workers[1]
    victim.kill()
    lost = {setting for setting, pid in had.items() if pid == victim.pid}
    assert [worker.wait(240) for worker in workers] == [0, -9, 0]
    rows = rows_in(tmp_path / "w0")
    assert rows == rows_in(tmp_path / "w2")
    assert [row["setting"] for row in rows] == list(range(12))
    assert {row["state"] for row in rows} == {"complete"}
    by = {row["setting"]: int(row["process"].rpartition(":")[2]) for row in rows}
    assert lost
    assert {by[setting] for setting in lost} <= {workers[0].pid, workers[2].pid}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        states = dict(connection.execute("select state, count(*) from trials group by state").fetchall())
    assert states["COMPLETE"] == 12
    assert 1 <= states["FAIL"] <= 2  # what the killed one had, and nothing else, was run again
    assert set(states) == {"COMPLETE", "FAIL"}


@pytest.mark.slow
def test_a_killed_sweep_resumes_to_the_results_of_one_that_was_not(command, tmp_path):
    whole = subprocess.run(**command(*SHARED, "--workdir", "whole"), check=False)
    assert whole.returncode == 0
    killed = subprocess.Popen(**command(*SHARED, "--workdir", "parts", "--parallel", "2"))
    results = tmp_path / "parts" / "results.jsonl"
    while not (results.exists() and len(results.read_text().splitlines()) >= 4):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert len(rows_in(tmp_path / "parts")) < 12
    resumed = subprocess.run(**command("sweep", "--resume", "--workdir", "parts"), check=False)
    assert resumed.returncode == 0
    assert without_clock(rows_in(tmp_path / "parts")) == without_clock(rows_in(tmp_path / "whole"))
