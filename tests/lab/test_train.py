"""The front door, run as a process: what it leaves, what it prints, how it exits."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from jaxce.cli import main
from jaxce.lab.config import Config, find_configs

ROOT = Path(__file__).parents[2]
TRAIN = [str(ROOT / "train.py")]
MODULE = ["-m", "jaxce", "train"]
TINY = ["iris", "--epochs", "2"]


@pytest.fixture
def python(tmp_path, caches):
    """Run Python in an empty folder, with a cache folder of the tests' own."""

    def run(*args, **changes):
        settings = {"XDG_CACHE_HOME": str(caches), "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
        environment = os.environ | settings | changes
        return subprocess.run(
            [sys.executable, *args], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.mark.slow
def test_training_prints_scores_time_and_folder(python, tmp_path, caches):
    done = python(*TRAIN, *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *epochs, last = done.stdout.splitlines()
    assert epochs[0].startswith("epoch 1/2  loss ")
    assert epochs[-1].startswith("epoch 2/2  loss ")
    (workdir,) = (tmp_path / "runs").iterdir()
    assert workdir.name.startswith("iris-")
    summary = json.loads((workdir / "summary.json").read_text())
    found = summary["test"]
    assert last.startswith(
        f"test accuracy {100 * found['accuracy']:.4g} %, cross-entropy {found['cross_entropy']:.4g} nats, loss "
    )
    kilobytes = sum(summary["memory"].values()) / 1000
    assert 1 <= kilobytes < 1000
    assert last.endswith(f" s, {kilobytes:.1f} kB a device; results in runs/{workdir.name}")
    assert summary["config"]["epochs"] == 2
    assert summary["config"]["data"] == "iris"
    assert (caches / "jaxce").is_dir()


def test_the_default_config_is_digits_and_flags_change_it(python, tmp_path):
    done = python(*TRAIN, "--epochs=1", "--widths", "2", "3", "--label-smoothing", "None", "--workdir", "here")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "here" / "config.json").read_text())
    assert (config["data"], config["epochs"], config["widths"]) == ("digits", 1, [2, 3])
    assert config["label_smoothing"] is None


@pytest.mark.slow
def test_the_command_of_the_package_is_the_same_and_resumes(python, tmp_path):
    (tmp_path / "mine.py").write_text(
        'from jaxce.lab.config import Config\nconfig = Config(data="iris", model="linear", epochs=2)\n'
    )
    first = python(*MODULE, "mine.py", "--workdir", "run")
    assert first.returncode == 0, first.stderr
    again = python(*MODULE, "mine.py", "--workdir", "run")
    assert again.returncode == 2
    assert again.stderr.startswith("error: workdir run is not empty: add --resume")
    resumed = python(*MODULE, "--workdir", "run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.split(";")[0] == first.stdout.splitlines()[-1].split(";")[0]


def test_help_lists_every_flag_with_its_meaning_and_every_config(python):
    done = python(*TRAIN, "--help")
    assert done.returncode == 0
    for field in fields(Config):
        assert f"--{field.name.replace('_', '-')}" in done.stdout
    for name in find_configs():
        assert f"- {name}: " in done.stdout
    assert "--workdir" in done.stdout
    assert "Passes over the training examples. (default: 100)" in done.stdout


@pytest.mark.slow
def test_a_cache_folder_that_cannot_be_made_is_done_without(python, tmp_path):
    (tmp_path / "file").touch()
    done = python(*TRAIN, *TINY, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["train", "--learn-rate", "1"], "unknown flag --learn-rate, did you mean --learning-rate?"),
        (["train", "digit"], "unknown config 'digit', did you mean digits?"),
        (["train", "wrong.py"], "wrong.py, line 2: NameError: name 'Confg' is not defined"),
        (["train", "nowhere.py"], "there is no config file nowhere.py"),
        (["train", "iris", "--epochs", "many"], "--epochs takes a whole number, not 'many'"),
        (["train", "iris", "--learning-rate=fast"], "--learning-rate takes a number, not 'fast'"),
        (["train", "--clip-norm", "high"], "--clip-norm takes a number or None, not 'high'"),
        (["train", "--widths", "8", "x"], "--widths takes whole numbers or None, not '8 x'"),
        (
            ["train", "--optimizer", "adm"],
            "--optimizer takes one of sgd, momentum, adam, adamw, lamb, lion, not 'adm'",
        ),
        (["train", "--joint-softmax", "False"], "--joint-softmax takes no value, not 'False'"),
        (["train", "--resume=yes", "--workdir", "x"], "--resume takes no value, not 'yes'"),
        (["train", "--loss", "softmax"], "unknown loss 'softmax', did you mean softmax_focal_loss?"),
        (["train", "--data", "digit"], "unknown data 'digit', did you mean digits?"),
        (
            ["train", "--gamma", "2"],
            "gamma is no option of softmax_cross_entropy_with_integer_labels, which takes",
        ),
        (["train", "--label-smoothing", "1.5"], "label_smoothing is 1.5"),
        (["train", "--epochs", "0"], "epochs must be at least 1, not 0"),
        (["train", "digits", "iris"], "cannot read 'iris': CONFIG comes first, then flags"),
        (
            ["train", "iris", "--valid-fraction", "0.01"],
            "valid_fraction = 0.01 and test_fraction = 0.2 leave 2 of 150 examples for valid",
        ),
        (["train", "--resume"], "--resume needs --workdir"),
        (["train", "--resume", "--workdir", "nowhere"], "nothing to resume: "),
        (["trian"], "unknown command 'trian', did you mean train?"),
    ],
    ids=lambda value: None if isinstance(value, list) else value.partition(",")[0],
)
def test_a_mistake_is_one_line_and_leaves_nothing(args, line, tmp_path, monkeypatch, capsys):
    (tmp_path / "wrong.py").write_text("from jaxce.lab.config import Config\nconfig = Confg()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["jaxce", *args])
    assert main() == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {line}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert {path.name for path in tmp_path.rglob("*")} <= {"wrong.py", "runs"}


@pytest.mark.parametrize("args", [TRAIN, MODULE])
def test_a_mistake_ends_the_process_with_two(args, python):
    done = python(*args, "digit")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown config 'digit', did you mean digits?")


@pytest.mark.slow
def test_a_run_that_fails_says_why_in_one_line(python):
    done = python(*TRAIN, *TINY, "--learning-rate", "1e38", "--model", "mlp")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the loss is ")
    assert done.stderr.count("\n") == 1


def test_help_waits_for_no_heavy_import(python):
    code = (
        "import sys; from jaxce.cli import run_command\n"
        "try: run_command('train', ['--help'], 'train.py')\n"
        "except SystemExit: print(*sys.modules)"
    )
    modules = set(python("-c", code).stdout.split())
    assert "jaxce.lab.config" in modules
    assert not modules & {"flax", "optax", "sklearn", "orbax.checkpoint", "scipy", "matplotlib"}
