"""One sweep, several processes: each setting is run once, also when a process is killed or stopped."""

import contextlib
import itertools
import logging
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy
from optuna.trial import TrialState

from jaxce.lab.errors import ConfigError, Stopped
from jaxce.lab.sweep.plan import Plan
from jaxce.lab.sweep.program import Program
from jaxce.lab.sweep.run import read_plan, sweep, write_plan
from jaxce.lab.sweep.study import Study, open_storage
from tests.lab.sweep.cases import IRIS, grid, rows_in

ROOT = Path(__file__).parents[3]


@pytest.fixture
def join(tmp_path):
    """Join the sweep of a plan in one database, as another process would."""
    with contextlib.ExitStack() as stack:

        def joined(plan):
            storage = stack.enter_context(open_storage(f"sqlite:///{tmp_path / 'shared.db'}"))
            return Study(storage, "shared", plan)

        yield joined


def done(setting, accuracy=0.1):
    return {"setting": setting, "state": "complete", "valid": {"accuracy": accuracy}}


def test_no_setting_is_taken_twice(join):
    plan = grid("seed=seeds:30")
    studies = [join(plan) for _ in range(3)]
    start = threading.Barrier(3)

    def take_all(study):
        start.wait()
        taken = []
        while (trial := study.take()) is not None:
            taken.append(trial.user_attrs["setting"])
            time.sleep(0.02)  # at work: who asks again at once, always comes first
        return taken

    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(take_all, studies))
    assert sorted(itertools.chain(*taken)) == list(range(30))
    assert sum(map(bool, taken)) > 1


def test_the_levels_of_loggers_are_as_before(tmp_path):
    loggers = [logging.getLogger(name) for name in ("optuna", "alembic")]
    before = [logger.level for logger in loggers]
    with open_storage(f"sqlite:///{tmp_path / 'a.db'}"):
        assert [logger.level for logger in loggers] == [logging.WARNING] * 2
    assert [logger.level for logger in loggers] == before


def test_no_transaction_waits_for_the_disk(join):
    with join(grid("seed=1"))._storage.engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {each}").scalar() for each in ("journal_mode", "synchronous")
        ]
    assert found == ["wal", 1]


def test_unfinished_settings_wait_again_when_a_process_leaves(join):
    plan = grid("seed=seeds:2")
    with join(plan) as leaving:
        first = leaving.take()
        leaving.take()
        assert leaving.finish(first, done(0))
        assert leaving.take() is None
    with join(plan) as other:
        again = other.take()
        assert again.user_attrs["setting"] == 1
        assert again.params == {"seed": 1}
        assert other.take() is None
        assert other.revive() == 0


@pytest.mark.slow
def test_a_process_without_heartbeats_loses_its_setting(join, monkeypatch):
    monkeypatch.setattr("jaxce.lab.sweep.study.GRACE_SECONDS", 1)
    plan = grid("seed=seeds:1")
    silent, other = join(plan), join(plan)
    trial = silent.take()
    assert other.revive() == 1
    assert other.take() is None
    time.sleep(2.5)  # a database's clock has whole seconds
    assert other.revive() == 0
    again = other.take()
    assert again.user_attrs["setting"] == 0
    assert not silent.finish(trial, done(0))
    assert other.finish(again, done(0, 0.2))
    assert silent.rows() == [done(0, 0.2)]


def test_a_setting_lost_while_it_was_given_back_runs_again(join):
    plan = grid("seed=seeds:2")
    killed, other = join(plan), join(plan)
    finished, lost = killed.take(), killed.take()
    killed.finish(finished, done(0))
    killed._storage.set_trial_state_values(lost._trial_id, TrialState.FAIL)  # and then it is killed
    assert other.take() is None
    assert other.requeue() == 1
    assert other.take().user_attrs["setting"] == 1
    assert other.requeue() == 0


def test_a_password_is_not_kept_and_asked_for_again(tmp_path):
    plan, url = grid("seed=1"), "postgresql+psycopg://me:secret@host/sweeps"
    write_plan(tmp_path, plan, url)
    assert "secret" not in (tmp_path / "sweep.json").read_text()
    assert read_plan(tmp_path, None, url) == (plan, url)
    with pytest.raises(ConfigError, match="does not hold the storage's password: give --storage again"):
        read_plan(tmp_path, None, None)


def test_the_sampler_that_learns_comes_near_the_best_value(join):
    plan = Plan("iris", IRIS, ("learning_rate=1e-4..1:log",), "tpe", 30, False, "accuracy")
    study = join(plan)
    distances = []
    while (trial := study.take()) is not None:
        distances.append(abs(np.log10(trial.params["learning_rate"]) + 1))
        study.finish(trial, done(trial.user_attrs["setting"], -distances[-1]))
    assert len(distances) == 30
    assert np.mean(distances[10:]) < 0.8 < np.mean(distances[:10])


def without_clock(rows):
    return [{name: row[name] for name in row if name not in ("seconds", "process")} for row in rows]


@pytest.mark.slow
def test_an_interrupted_sweep_resumes_to_the_same_results(tmp_path, monkeypatch, capsys):
    over = ("learning_rate=0.1,0.5,1e30", "seed=seeds:4")
    sweep(grid(*over), tmp_path / "whole", None, resume=False, parallel=3)

    advance, calls = Program.advance, []

    def interrupted(program, epochs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return advance(program, epochs)

    monkeypatch.setattr(Program, "advance", interrupted)
    with pytest.raises(Stopped, match=r"with [1-9]\d* of 12 settings done: --resume --workdir"):
        sweep(grid(*over), tmp_path / "parts", None, resume=False, parallel=3)
    sweep(None, tmp_path / "parts", None, resume=True, parallel=2)
    assert without_clock(rows_in(tmp_path / "parts")) == without_clock(rows_in(tmp_path / "whole"))
    with pytest.raises(ConfigError, match="is not empty: add --resume"):
        sweep(grid(*over), tmp_path / "parts", None, resume=False, parallel=2)
    with pytest.raises(ConfigError, match="with another sweep"):
        sweep(grid("seed=1"), tmp_path / "parts", None, resume=True, parallel=2)


SHARED = ["sweep", "iris", "--over", "learning_rate=0.01..1:log:6", "seed=seeds:2", "--epochs", "1500"]


def ask(url, query):
    """The rows that a database answers with; none before there are tables."""
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text(query)).fetchall()
    except sqlalchemy.exc.DBAPIError:
        return []
    finally:
        engine.dispose()


def running(url):
    """Which process has which settings now, as the database says."""
    found = ask(
        url,
        "select s.value_json, p.value_json from trials t "
        "join trial_user_attributes p on p.trial_id = t.trial_id and p.key = 'process' "
        "join trial_user_attributes s on s.trial_id = t.trial_id and s.key = 'setting' "
        "where t.state = 'RUNNING'",
    )
    return {int(setting): int(process.strip('"').rpartition(":")[2]) for setting, process in found}


# An empty database that the tests may fill, as postgresql+psycopg://user@host/name, of a server that runs.
POSTGRESQL = os.environ.get("JAXCE_TEST_POSTGRESQL")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_others_run_the_settings_of_a_killed_process(kind, command, tmp_path):
    if kind == "postgresql" and POSTGRESQL is None:
        pytest.skip("needs JAXCE_TEST_POSTGRESQL, the address of an empty database")
    url = f"sqlite:///{tmp_path / 'shared.db'}" if kind == "sqlite" else POSTGRESQL
    storage = ["--storage", url, "--parallel", "2"]
    workers = [
        subprocess.Popen(**command(*SHARED, *storage, "--workdir", f"w{i}"), stdout=subprocess.DEVNULL)
        for i in range(3)
    ]
    pids = {worker.pid for worker in workers}
    deadline = time.monotonic() + 120
    while set((had := running(url)).values()) != pids:
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
    states = dict(map(tuple, ask(url, "select state, count(*) from trials group by state")))
    assert states["COMPLETE"] == 12
    assert 1 <= states["FAIL"] <= 2  # what the killed one had, and nothing else, was run again
    assert set(states) == {"COMPLETE", "FAIL"}


@pytest.mark.slow
def test_a_killed_sweep_resumes_to_the_same_results(command, tmp_path):
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
