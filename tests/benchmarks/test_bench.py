import json
import time

import jax
import numpy as np
import pytest

import benchmarks.__main__ as command
from benchmarks import eager, heads, losses
from benchmarks.timing import Contender, Work, measure


def sleeps(seconds, steps=1):
    return Contender(lambda: time.sleep(seconds * steps), steps)


@pytest.mark.slow
def test_times_are_of_one_step_without_the_first_turn():
    turns = []

    def slow_at_first():
        turns.append(None)
        time.sleep(0.2 if len(turns) == 1 else 0.001)

    work = Work("w", "", lambda: {"jaxce": Contender(slow_at_first), "slow": sleeps(0.01, steps=3)}, rounds=3)
    timings = measure(work)
    assert timings["jaxce"].slowest < 0.15
    assert 0.009 < timings["slow"].fastest < 0.02
    assert len(turns) == 4


@pytest.mark.parametrize(("goal", "verdict"), [(2.0, "met"), (200.0, "missed")])
@pytest.mark.slow
def test_the_table_says_whether_a_goal_was_met(goal, verdict, monkeypatch, capsys):
    work = Work(
        "w", "words", lambda: {"jaxce": sleeps(0.001), "peer": sleeps(0.01), "absent": None}, {"peer": goal}
    )
    monkeypatch.setattr(command, "WORKS", {"w": work})
    assert command.main(["w"]) == 0
    shown = capsys.readouterr().out
    assert f"≥ {goal:.2g} {verdict}" in shown
    assert "not installed" in shown


def test_json_has_seconds_by_work_and_contender(monkeypatch, capsys):
    work = Work("w", "words", lambda: {"jaxce": sleeps(0.001), "absent": None}, rounds=2)
    monkeypatch.setattr(command, "WORKS", {"w": work})
    assert command.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)["works"]["w"]
    assert found["absent"] is None
    assert found["jaxce"]["fastest"] <= found["jaxce"]["median"] <= found["jaxce"]["slowest"]


def test_an_unknown_work_is_a_mistake(capsys):
    assert command.main(["los-wide"]) == 2
    assert "error: unknown work 'los-wide', did you mean loss-wide?" in capsys.readouterr().err


@pytest.mark.parametrize("contenders", [losses.value_contenders, losses.grad_contenders])
def test_the_libraries_are_given_the_same_work(contenders):
    found = contenders(8, 5)
    ours, optax = (jax.tree.leaves(found[name].run()) for name in ("jaxce", "optax"))
    for mine, theirs in zip(ours, optax, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_eager_calls_are_of_functions_that_give_the_same(monkeypatch):
    given = []
    monkeypatch.setattr(eager, "repeated", lambda function, *arguments: given.append(function(*arguments)))
    for work in eager.WORKS:
        assert list(work.contenders()) == ["jaxce", "optax", "jaxce compiled"]
    assert len(given) == 3 * len(eager.WORKS)
    for mine, theirs, compiled in zip(given[::3], given[1::3], given[2::3], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(compiled, mine, rtol=1e-6)


@pytest.mark.slow
def test_memory_has_a_goal_and_what_does_not_fit_is_said(monkeypatch, capsys):
    def contenders():
        return {
            "jaxce": Contender(lambda: None, memory=2**20),
            "peer": Contender(lambda: None, memory=2**23),
            "larger": Contender("does not fit", memory=2**40),
        }

    work = Work("w", "words", contenders, memory_goals={"peer": 8, "larger": 2**21}, rounds=1)
    monkeypatch.setattr(command, "WORKS", {"w": work})
    assert command.main(["w"]) == 0
    shown = capsys.readouterr().out
    assert "≥ 8 met" in shown
    assert "≥ 2.1e+06 missed" in shown
    assert "does not fit" in shown
    assert command.main(["w", "--json"]) == 0
    larger = json.loads(capsys.readouterr().out)["works"]["w"]["larger"]
    assert larger["median"] is None
    assert larger["memory"] == 2**40


def test_heads_do_the_same_work_and_fit_in_memory(monkeypatch):
    found = heads.contenders(32, 8, 40)
    ours, optax = (jax.tree.leaves(found[name].run()) for name in ("jaxce", "optax, plain"))
    for mine, theirs in zip(ours, optax, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-7)
    monkeypatch.setattr(heads.os, "sysconf", lambda name: 1)
    assert heads.contenders(32, 8, 40)["optax, plain"].run == "does not fit"
    assert "accelerator" in heads.contenders(8, 8, 8, accelerator=True)["jaxce"].run
