"""The command: a table, an exit status, JSON."""

import dataclasses
import functools
import json

import jaxce
from jaxce.verification import command

SQUARED = jaxce.LOSSES["squared_error"]


def test_the_command_prints_a_table_and_returns_zero(capsys):
    assert command.main(["squared_error", "--dtype", "float32", "bfloat16"]) == 0
    printed = capsys.readouterr().out
    assert "squared_error" in printed
    assert "bfloat16" in printed
    assert "nothing falls short" in printed
    assert "\033[" not in printed  # no terminal, no colours


def test_the_command_returns_one_when_a_loss_falls_short(monkeypatch, capsys):
    wrong = dataclasses.replace(SQUARED, grad=functools.wraps(SQUARED.grad)(lambda x, y: x - y))
    monkeypatch.setattr(command, "LOSSES", {"squared_error": wrong})
    assert command.main(["--dtype", "float32", "--processes", "1"]) == 1
    printed = capsys.readouterr().out
    assert "Falls short" in printed
    assert "closed form" in printed


def test_the_command_returns_two_for_a_mistake(capsys):
    assert command.main(["softmax_cros_entropy"]) == 2
    assert "did you mean softmax_cross_entropy?" in capsys.readouterr().err
    assert command.main(["--dtype", "float8"]) == 2
    assert command.main(["--help"]) == 0


def test_json_says_everything(capsys):
    assert command.main(["entropy", "--dtype", "float64", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert {each["comparison"] for each in report["findings"]} >= {"value", "gradient", "hessian", "convexity"}
    for each in report["findings"]:
        assert set(each) == {"loss", "setting", "dtype", "comparison", "error", "limit", "ok", "where"}
        assert each["error"] <= each["limit"]
