"""One process at work on a sweep: takes settings that wait, trains them side by side, writes results."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from optuna.trial import Trial, TrialState

from jaxce.lab.config import Config
from jaxce.lab.errors import ConfigError
from jaxce.lab.files import write_whole
from jaxce.lab.metrics import number
from jaxce.lab.sweep.plan import program_of
from jaxce.lab.sweep.program import Measured, Program, load_whole
from jaxce.lab.sweep.proposals import values_of
from jaxce.lab.sweep.space import apply
from jaxce.lab.sweep.study import PROCESS, Row, Study

SECONDS_BETWEEN_LOOKS = 1.0
LOOKS_AT_NOTHING = 5
LOOKS_AT_HOPE = 10  # a setting, when hopeless ones are to end: each is a line in the database


@dataclass
class Running:
    """A setting in its place."""

    trial: Trial
    setting: dict[str, Any]
    config: Config
    started: float
    epoch: int = 0
    valid: float | None = None


Watch = Callable[[Mapping[int, Running], list[Row]], None]


class Worker:
    """Works on a sweep until no setting is left."""

    def __init__(
        self, study: Study, workdir: Path, parallel: int, devices: list[jax.Device], watch: Watch
    ) -> None:
        """Nothing is done yet.

        Args:
            study: Where settings come from, and results go.
            workdir: Where results.jsonl is written.
            parallel: Settings to train side by side.
            devices: Where.
            watch: Called each second, or each epoch if that is longer, with the settings in their places, and
                what is done.
        """
        self._study, self._workdir, self._parallel = study, workdir, parallel
        self._devices, self._watch = devices, watch
        self._programs: dict[Config, Program] = {}
        self._taken: list[Running] = []
        self._places: dict[int, Running] = {}
        self._group: Config | None = None
        self._epochs = 1  # at a time, so that somebody who watches or interrupts need not wait for long

    def work(self) -> list[Row]:
        """Train what waits, and wait for what other processes have, lest one of them dies.

        Returns:
            What came of every setting of the sweep.
        """
        self._write()
        looks = 0
        while True:
            self._fill()
            self._watch(self._places, self._study_rows if self._places else self._write())
            if self._places:
                self._advance()
            elif len(self._study_rows) == self._study.num_settings:
                return self._study_rows
            elif self._study.revive() or self._study.is_waiting():
                looks = 0
                time.sleep(SECONDS_BETWEEN_LOOKS)
            elif (looks := looks + 1) < LOOKS_AT_NOTHING:
                # Another process is between giving a dead one's setting up and letting it wait.
                time.sleep(SECONDS_BETWEEN_LOOKS)
            elif self._study.requeue() == 0:
                return self._study_rows

    def _fill(self) -> None:
        """Take settings that wait, and put those of the group at hand into places."""
        while len(self._taken) + len(self._places) < self._parallel:
            trial = self._study.take()
            if trial is None:
                break
            self._take(trial)
        while self._taken:
            if not self._places:
                self._group = program_of(self._taken[0].config)
            fitting = [each for each in self._taken if program_of(each.config) == self._group]
            if not fitting:
                return
            for running in fitting:
                self._taken.remove(running)
                try:
                    self._places[self._program(running.config).begin(running.config)] = running
                except Exception as error:  # what cannot be built or compiled is one group's misfortune
                    self._fail(running, error)

    def _take(self, trial: Trial) -> None:
        setting = values_of(trial.params)
        running = Running(trial, setting, self._study.plan.base, time.perf_counter())
        try:
            running.config = apply(self._study.plan.base, setting)
        except ConfigError as error:
            self._fail(running, error)
        else:
            self._taken.append(running)

    def _program(self, config: Config) -> Program:
        group = program_of(config)
        if group not in self._programs:
            dataset = load_whole(config)
            count = min(self._parallel, self._study.num_settings)
            devices = self._devices[:count]
            # One at a time: the places of a group that is done with would only hold memory.
            self._programs = {group: Program(config, dataset, count, devices)}
            self._epochs = 1
        return self._programs[group]

    def _advance(self) -> None:
        """Some epochs of all settings in places, as far as none is looked at; those that end make room."""
        assert self._group is not None
        program = self._programs[self._group]
        epochs = min(self._epochs, *(self._until_look(running) for running in self._places.values()))
        started = time.perf_counter()
        try:
            measured = program.advance(epochs)
        except Exception as error:
            for place in list(self._places):
                self._fail(self._places.pop(place), error)
            self._programs = {}
            return
        self._epochs = max(int(epochs * SECONDS_BETWEEN_LOOKS / (time.perf_counter() - started)), 1)
        done = []
        for place, (epoch, steps, scores) in measured.items():
            running = self._places[place]
            running.epoch = epoch
            running.valid = scores[self._study.plan.metric]
            losses = np.append(steps["loss"], scores["loss"])
            bad = np.flatnonzero(~np.isfinite(losses))
            if bad.size:
                step = (epoch - 1) * len(steps["loss"]) + bad[0] + 1
                self._end(place, self._fail, f"the loss is {losses[bad[0]]} at step {step}")
            elif epoch == running.config.epochs:
                done.append(place)
            elif self._is_hopeless(running):
                self._end(place, self._prune, measured[place])
        tests = program.test(done) if done else {}
        for place in done:
            self._end(place, self._complete, measured[place], tests[place])
        if len(self._places) < len(measured):
            self._write()

    def _until_look(self, running: Running) -> int:
        """Epochs until the setting is at its end, or where a hopeless one is ended."""
        epochs = running.config.epochs
        apart = epochs_between_looks(running.config) if self._study.plan.prune else epochs
        return min(apart - running.epoch % apart, epochs - running.epoch)

    def _is_hopeless(self, running: Running) -> bool:
        if not self._study.plan.prune or running.epoch % epochs_between_looks(running.config):
            return False
        assert running.valid is not None
        return self._study.is_hopeless(running.trial, running.epoch, running.valid)

    def _end(self, place: int, how: Callable[..., None], *args: Any) -> None:
        assert self._group is not None
        self._programs[self._group].end(place)
        how(self._places.pop(place), *args)

    def _complete(self, running: Running, measured: Measured, test: dict[str, float]) -> None:
        row = self._row(running, "complete") | trained(measured) | {"test": test}
        self._study.finish(running.trial, TrialState.COMPLETE, row["valid"][self._study.plan.metric], row)

    def _prune(self, running: Running, measured: Measured) -> None:
        row = self._row(running, "pruned") | trained(measured)
        self._study.finish(running.trial, TrialState.PRUNED, None, row)

    def _fail(self, running: Running, error: Exception | str) -> None:
        row = self._row(running, "failed") | {"error": " ".join(str(error).split())[:300]}
        self._study.finish(running.trial, TrialState.FAIL, None, row)

    def _row(self, running: Running, state: str) -> Row:
        return {
            "setting": running.trial.user_attrs["setting"],
            "state": state,
            "values": {field: getattr(running.config, field) for field in self._study.plan.fields},
            "loss": running.config.loss,
            "epochs": running.epoch,
            "seconds": round(time.perf_counter() - running.started, 3),
            "process": PROCESS,
        }

    def _write(self) -> list[Row]:
        """Write results.jsonl: all of it, or nothing."""
        self._study_rows = self._study.rows()
        lines = "".join(json.dumps(row) + "\n" for row in self._study_rows)
        write_whole(self._workdir / "results.jsonl", lines)
        return self._study_rows


def epochs_between_looks(config: Config) -> int:
    """After how many epochs a setting shows whether it is hopeless."""
    return max(config.epochs // LOOKS_AT_HOPE, 1)


def trained(measured: Measured) -> Row:
    """What is known of a setting after an epoch."""
    return {"train_loss": number(measured.steps["loss"].mean()), "valid": measured.scores}
