"""Sweeps end to end: each setting is what train.py gives, in one program; and what the command says."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxce.lab.config import load_config
from jaxce.lab.data import DATASETS, Split
from jaxce.lab.errors import TrainingError
from jaxce.lab.metrics import number
from jaxce.lab.sweep.program import Program
from jaxce.lab.sweep.run import sweep
from jaxce.lab.training.loop import run
from tests.lab.sweep.cases import IRIS, grid, rows_in

ROOT = Path(__file__).parents[3]


@pytest.fixture
def one_device(monkeypatch):
    """Runs on one device, as a setting of a sweep: over several, sums are added up in another order."""
    mesh = jax.make_mesh((1, 1), ("batch", "classes"), (AxisType.Auto,) * 2, devices=jax.devices()[:1])
    monkeypatch.setattr("jaxce.lab.training.loop.make_mesh", lambda batch_size, class_devices: mesh)


@pytest.mark.slow
def test_each_setting_has_the_bits_of_a_run_alone(one_device, tmp_path):
    config = replace(load_config("digits"), widths=(4, 8), epochs=2, clip_norm=1.0, ema_decay=0.9)
    configs = [
        replace(config, learning_rate=rate, label_smoothing=smoothing, seed=seed)
        for rate, smoothing, seed in [(3e-3, 0.0, 0), (1e-2, 0.1, 2**32 - 1)]
    ]
    dataset = DATASETS["digits"](Split(config.valid_fraction, config.test_fraction, config.split_seed))
    program = Program(configs[0], dataset, 4, jax.devices())
    places = [program.begin(each) for each in configs]
    measured = program.advance(config.epochs)
    tests = program.test(places)
    for i, (place, each) in enumerate(zip(places, configs, strict=True)):
        run(each, tmp_path / str(i))
        row = json.loads((tmp_path / str(i) / "metrics.jsonl").read_text().splitlines()[-1])
        assert number(measured[place].steps["loss"].mean()) == row["train_loss"]
        assert measured[place].scores["loss"] == row["valid_loss"]
        summary = json.loads((tmp_path / str(i) / "summary.json").read_text())
        assert tests[place]["loss"] == summary["test"]["loss"]
        assert tests[place]["accuracy"] == summary["test"]["accuracy"]


@pytest.mark.slow
def test_a_free_slot_takes_another_setting_as_others_train():
    dataset = DATASETS["iris"](Split(IRIS.valid_fraction, IRIS.test_fraction, 0))
    first, second, late = (replace(IRIS, learning_rate=rate) for rate in (0.1, 0.2, 0.4))

    def losses(program, place, epochs):
        return [program.advance()[place].scores["loss"] for _ in range(epochs)]

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
        np.testing.assert_array_equal([each.scores["loss"] for each in found], expected[skipped : skipped + 3])


@pytest.mark.slow
def test_epochs_of_one_call_are_those_of_many_calls():
    dataset = DATASETS["iris"](Split(IRIS.valid_fraction, IRIS.test_fraction, 0))

    def measured(*calls):
        program, last = Program(IRIS, dataset, 3, jax.devices()[:1]), {}
        for rate in (0.1, 1e19, 1e38):
            program.begin(replace(IRIS, learning_rate=rate))
        for epochs in calls:
            for place, found in program.advance(epochs).items():
                last[place] = found
                if not np.isfinite(found.scores["loss"]):
                    program.end(place)
        return [last[place] for place in range(3)]

    one_by_one, at_once = measured(1, 1, 1, 1, 1, 1), measured(6)
    assert [each.epoch for each in at_once] == [6, 3, 2]
    jax.tree.map(np.testing.assert_array_equal, at_once, one_by_one)


@pytest.mark.slow
def test_slots_side_by_side_give_the_numbers_of_turns(monkeypatch):
    dataset = DATASETS["iris"](Split(IRIS.valid_fraction, IRIS.test_fraction, 0))

    def losses():
        program = Program(IRIS, dataset, 3, jax.devices()[:1])
        first, second = (program.begin(replace(IRIS, learning_rate=rate, seed=1)) for rate in (0.1, 0.2))
        found = [program.advance(2)[place].scores["loss"] for place in (first, second)]
        program.end(first)
        late = program.begin(replace(IRIS, learning_rate=0.3, seed=2))
        later = program.advance()
        scores = [later[place].scores for place in (second, late)] + [program.test([late])[late]]
        return [*found, *(each["loss"] for each in scores)]

    expected = losses()
    monkeypatch.setattr("jaxce.lab.sweep.program.in_turns", jax.vmap)
    np.testing.assert_allclose(losses(), expected, rtol=1e-5)


@pytest.mark.slow
def test_a_sweep_of_one_setting_is_a_run_of_train(tmp_path, one_device):
    sweep(grid("seed=3"), tmp_path / "sweep", None, resume=False, parallel=None)
    (row,) = rows_in(tmp_path / "sweep")
    assert row["state"] == "complete"
    assert row["test"] == run(replace(IRIS, seed=3), tmp_path / "run")["test"]


def test_a_setting_that_fails_ends_no_other(tmp_path, capsys):
    sweep(grid("learning_rate=0.5,1e30"), tmp_path / "sweep", None, resume=False, parallel=None)
    good, bad = rows_in(tmp_path / "sweep")
    assert (good["state"], bad["state"]) == ("complete", "failed")
    assert "the loss is" in bad["error"]
    assert "best: valid accuracy" in capsys.readouterr().out


def test_a_sweep_without_results_fails(tmp_path):
    with pytest.raises(TrainingError, match="no setting could be trained; of the first: the loss is"):
        sweep(grid("learning_rate=1e30,2e30"), tmp_path / "sweep", None, resume=False, parallel=None)


@pytest.mark.slow
def test_settings_that_differ_in_numbers_are_one_program(tmp_path, monkeypatch, caplog):
    programs = []

    class Counted(Program):
        def __init__(self, *args):
            super().__init__(*args)
            programs.append(self)

    monkeypatch.setattr("jaxce.lab.sweep.worker.Program", Counted)
    over = ("learning_rate=0.1,0.2,0.3", "loss=softmax,sigmoid,focal", "gamma=1,2", "label_smoothing=0,0.1")
    with jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        sweep(grid(*over), tmp_path / "sweep", None, resume=False, parallel=2)
    assert len(rows_in(tmp_path / "sweep")) == 3 * (2 + 2 + 2)
    assert len(programs) == 3  # one for each loss
    compiled = [
        record.getMessage() for record in caplog.records if "Compiling jit(of_device)" in record.getMessage()
    ]
    assert len(compiled) == 3 * 2  # each to train and to test


def test_a_call_has_the_epochs_that_fit_between_updates(tmp_path, monkeypatch):
    advance, calls = Program.advance, []

    def counted(program, epochs):
        calls.append(epochs)
        return advance(program, epochs)

    def sweep_with(seconds):
        calls.clear()
        monkeypatch.setattr("jaxce.lab.sweep.worker.SECONDS_BETWEEN_UPDATES", seconds)
        plan = grid("learning_rate=0.1,0.2,0.3", base=replace(IRIS, epochs=20))
        sweep(plan, tmp_path / str(seconds), None, resume=False, parallel=2)
        unlike = ("seconds", "process")
        return [{k: v for k, v in row.items() if k not in unlike} for row in rows_in(tmp_path / str(seconds))]

    monkeypatch.setattr(Program, "advance", counted)
    rows = sweep_with(0.0)
    assert calls == [1] * 40
    assert sweep_with(1e9) == rows
    assert calls == [1, 19, 20]


def test_settings_worse_than_the_median_end_early(tmp_path, capsys):
    plan = replace(
        grid("learning_rate=0.5,0.4,0.3,0.2,0.1,1e-7,1e-8", base=replace(IRIS, epochs=20)), prune=True
    )
    sweep(plan, tmp_path / "sweep", None, resume=False, parallel=1)
    rows = rows_in(tmp_path / "sweep")
    assert [row["state"] for row in rows] == ["complete"] * 5 + ["pruned"] * 2
    assert all(row["epochs"] in range(2, 20, 2) for row in rows[5:])
    assert all("test" not in row for row in rows[5:])
    assert "pruned: valid accuracy" in capsys.readouterr().out


@pytest.mark.slow
def test_settings_spread_over_eight_devices_with_the_same_bits(command):
    script = """
import jax, numpy as np
from dataclasses import replace
from jaxce.lab.config import load_config
from jaxce.lab.data import DATASETS, Split
from jaxce.lab.sweep.program import Program
config = load_config("iris")
dataset = DATASETS["iris"](Split(0.1, 0.2, 0))
found = []
for devices in (jax.devices(), jax.devices()[:1]):
    program = Program(config, dataset, 12, devices)
    places = [program.begin(replace(config, seed=i, learning_rate=0.1 + i / 100)) for i in range(12)]
    for _ in range(3):
        measured = program.advance()
    found.append([measured[place].scores["loss"] for place in places])
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


@pytest.mark.slow
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
        (["--over", "epochs=1", "--trials", "some"], "--trials takes a whole number or None, not 'some'"),
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
