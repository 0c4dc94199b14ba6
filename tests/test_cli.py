"""The command line without its extras, and `jaxce verify`; other commands are tested beside what they run."""

import dataclasses
import json
import subprocess
import sys

import pytest

import jaxce
from jaxce.cli import COMMANDS, run_command
from jaxce.verification import parallel


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def without(modules, call):
    """Run `call`, with no such modules installed."""
    return python(
        f"import sys; sys.modules.update(dict.fromkeys({modules!r}))\n"
        f"import jaxce, jax.numpy as jnp\nfrom jaxce.cli import main, run_command\n{call}"
    )


def test_importing_jaxce_loads_jax_numpy_jaxtyping_alone():
    code = """
import sys, jax, jax.numpy, numpy, jaxtyping
before = set(sys.modules)
import jaxce
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - sys.stdlib_module_names - {name.partition(".")[0] for name in before}))
"""
    assert python(code).stdout.split() in (["jaxce"], ["jaxce", "wadler_lindig"])  # which jaxtyping requires


BASE = ["tyro", "rich", "flint", "flax", "optax", "matplotlib", "jinja2", "platformdirs", "sklearn", "optuna"]


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_version_and_help_need_no_extra(flag):
    done = without(BASE, f"sys.argv[1:] = ['{flag}']; sys.exit(main())")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"jaxce {jaxce.__version__}\n" if flag == "--version" else "usage: jaxce ")


def test_a_command_without_its_extra_names_it():
    done = without(
        BASE,
        f"for name in {list(COMMANDS)}:\n"
        "    for flag in ('', '--help'): assert run_command(name, [flag], '') == 2",
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        f'error: jaxce {name} needs the extra "{extra}": pip install "jaxce[{extra}]"'
        for name in COMMANDS
        for extra in 2 * ["verify" if name in ("verify", "conform") else "train"]
    ]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("verify", "jaxce.verify(lambda x, y: (x - y) ** 2, jnp.array([0.5, -2.0]), jnp.array([1.0, 1.0]))"),
        ("exact", "jaxce.exact(jnp.exp)(1.0)"),
    ],
)
def test_a_function_without_its_extra_names_it(name, call):
    last = without(BASE, call).stderr.splitlines()[-1]
    assert last == f'ImportError: {name} needs the extra "verify": pip install "jaxce[verify]"'


def test_verify_prints_a_table_and_returns_zero(capsys):
    assert run_command("verify", ["squared_error", "--dtype", "float32", "bfloat16"], "jaxce verify") == 0
    printed = capsys.readouterr().out
    assert "squared_error" in printed
    assert "bfloat16" in printed
    assert "nothing falls short" in printed
    assert "\033[" not in printed  # no terminal, no colours


def test_verify_returns_one_when_a_loss_falls_short(monkeypatch, capsys):
    right = parallel.verify_losses(["squared_error"], ["float32"], 1)
    wrong = [
        dataclasses.replace(each, check=dataclasses.replace(each.check, error=2 * each.check.limit))
        for each in right
    ]
    monkeypatch.setattr(parallel, "verify_losses", lambda *_: wrong)
    assert run_command("verify", [], "jaxce verify") == 1
    assert "Falls short" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["softmax_cros_entropy"], "unknown loss 'softmax_cros_entropy', did you mean softmax_cross_entropy?"),
        (["--dtype", "float8"], "--dtype takes one of float32, float64, bfloat16, float16, not 'float8'"),
        (["--dtype"], "--dtype must be one dtype or more, not ''"),
        (["entropy", "--jso"], "unknown flag --jso, did you mean --json?"),
    ],
)
def test_a_mistake_in_verify_is_one_line(args, line, capsys):
    assert run_command("verify", args, "jaxce verify") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line}")
    assert error.count("\n") == 1


def test_json_says_everything(capsys):
    assert run_command("verify", ["entropy", "--dtype", "float64", "--json"], "jaxce verify") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert {each["comparison"] for each in report["findings"]} >= {
        "value",
        "closed form",
        "differences",
        "convexity",
    }
    for each in report["findings"]:
        assert set(each) == {"loss", "setting", "dtype", "comparison", "error", "limit", "unit", "ok", "where"}
        assert each["error"] <= each["limit"]
