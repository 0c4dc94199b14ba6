"""One process of a sweep: takes settings that wait, trains them side by side, writes and shows results."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from optuna.trial import Trial
from rich.console import Console
from rich.live import Live

from jaxce.lab.config import Config
from jaxce.lab.errors import ConfigError
from jaxce.lab.files import write_whole
from jaxce.lab.metrics import number
from jaxce.lab.sweep.plan import describe, program_of
from jaxce.lab.sweep.program import Program, load_whole
from jaxce.lab.sweep.results import Row, table_of
from jaxce.lab.sweep.space import apply, show
from jaxce.lab.sweep.study import PROCESS, Study
from jaxce.lab.tasks import find_metric

SECONDS_BETWEEN_UPDATES = 1.0
CHECKS_WITHOUT_WORK = 5
PRUNING_CHECKS = 10  # of a setting: each is a line in the database


@dataclass
class Running:
    """A setting in a slot."""

    trial: Trial
    config: Config
    started: float
    epoch: int = 0
    valid: float | None = None


Watch = Callable[[Sequence[Running], Sequence[Row]], None]


class Worker:
    """Works on a sweep until no setting is left."""

    def __init__(
        self, study: Study, workdir: Path, parallel: int, devices: Sequence[jax.Device], watch: Watch
    ) -> None:
        """Prepare; `work` begins.

        Args:
            study: Where settings come from, and results go.
            workdir: Where results.jsonl is written.
            parallel: Settings to train side by side.
            devices: Where.
            watch: Called each second, or each epoch if that is longer, with the settings in slots and the rows.
        """
        self._study, self._plan, self._workdir, self._parallel = study, study.plan, workdir, parallel
        self._devices, self._watch = devices, watch
        self._program: Program | None = None
        self._group: Config | None = None
        self._taken: list[Running] = []
        self._slots: dict[int, Running] = {}
        self._epochs = 1  # of a call of the program

    def work(self) -> list[Row]:
        """Train what waits, and wait for the settings of other processes, in case one of them dies.

        Returns:
            The result of every setting of the sweep.
        """
        idle = 0
        rows = self._write()
        while True:
            self._fill()
            if not self._slots:
                rows = self._write()
            self._watch(list(self._slots.values()), rows)
            if self._slots:
                if self._advance():
                    rows = self._write()
                continue
            if len(rows) == self._study.num_settings:
                return rows
            is_work = self._study.revive() or self._study.is_waiting()
            idle = 0 if is_work else idle + 1
            # A setting may be between two states, as another process gives it up and then lets it wait.
            if idle >= CHECKS_WITHOUT_WORK and self._study.requeue() == 0:
                return rows
            time.sleep(SECONDS_BETWEEN_UPDATES)

    def _fill(self) -> None:
        """Take settings that wait, and put those of the current program into slots."""
        while (
            len(self._taken) + len(self._slots) < self._parallel and (trial := self._study.take()) is not None
        ):
            running = Running(trial, self._plan.base, time.perf_counter())
            try:
                running.config = apply(self._plan.base, trial.params)
                self._taken.append(running)
            except ConfigError as error:
                self._finish(running, "failed", error=error)
        while self._taken:
            group = self._group if self._slots else program_of(self._taken[0].config)
            fitting = [each for each in self._taken if program_of(each.config) == group]
            if not fitting:
                return
            for running in fitting:
                self._taken.remove(running)
                try:
                    slot = self._program_for(running.config).begin(running.config)
                except Exception as error:  # a program that cannot be built or compiled ends only its settings
                    self._finish(running, "failed", error=error)
                else:
                    self._slots[slot] = running

    def _program_for(self, config: Config) -> Program:
        """The program of a config; one at a time, since the slots of another would only hold memory."""
        if self._program is None or self._group != program_of(config):
            count = min(self._parallel, self._study.num_settings)
            self._program = None
            self._program = Program(config, load_whole(config), count, self._devices[:count])
            self._group, self._epochs = program_of(config), 1
        return self._program

    def _advance(self) -> bool:
        """Train all settings in slots up to the next update, check or end; whether a slot became free."""
        assert self._program is not None
        program, num_running = self._program, len(self._slots)
        epochs = min(self._epochs, *map(self._epochs_to, self._slots.values()))
        started = time.perf_counter()
        try:
            measured = program.advance(epochs)
        except Exception as error:
            for slot in list(self._slots):
                self._finish(self._slots.pop(slot), "failed", error=error)
            self._program = None
            return True
        self._epochs = max(int(epochs * SECONDS_BETWEEN_UPDATES / (time.perf_counter() - started)), 1)
        ended: dict[int, tuple[str, dict[str, Any]]] = {}
        for slot, (epoch, steps, scores) in measured.items():
            running = self._slots[slot]
            running.epoch, running.valid = epoch, scores[self._plan.metric]
            found = {"train_loss": number(steps["loss"].mean()), "valid": scores}
            losses = np.append(steps["loss"], scores["loss"])
            bad = np.flatnonzero(~np.isfinite(losses))
            if bad.size:
                step = (epoch - 1) * len(steps["loss"]) + bad[0] + 1
                ended[slot] = "failed", {"error": f"the loss is {losses[bad[0]]} at step {step}"}
            elif epoch == running.config.epochs:
                ended[slot] = "complete", found
            elif epoch % self._apart(running) == 0 and self._study.should_prune(
                running.trial, epoch, running.valid
            ):
                ended[slot] = "pruned", found
        done = [slot for slot, (state, _) in ended.items() if state == "complete"]
        for slot, scores in (program.test(done) if done else {}).items():
            ended[slot][1]["test"] = scores
        for slot, (state, found) in ended.items():
            program.end(slot)
            self._finish(self._slots.pop(slot), state, **found)
        return len(self._slots) < num_running

    def _epochs_to(self, running: Running) -> int:
        """Epochs until the setting is at its end, or the pruner is asked."""
        apart = self._apart(running)
        return min(apart - running.epoch % apart, running.config.epochs - running.epoch)

    def _apart(self, running: Running) -> int:
        """Epochs between questions to the pruner."""
        epochs = running.config.epochs
        return max(epochs // PRUNING_CHECKS, 1) if self._plan.prune else epochs

    def _finish(self, running: Running, state: str, **found: Any) -> None:
        """Record the result of a setting."""
        if "error" in found:
            found["error"] = " ".join(str(found["error"]).split())[:300]
        row = {
            "setting": running.trial.user_attrs["setting"],
            "state": state,
            "values": {field: getattr(running.config, field) for field in self._plan.fields},
            "loss": running.config.loss,
            "epochs": running.epoch,
            "seconds": round(time.perf_counter() - running.started, 3),
            "process": PROCESS,
        }
        self._study.finish(running.trial, row | found)

    def _write(self) -> list[Row]:
        """Write results.jsonl: all of it, or nothing."""
        rows = self._study.rows()
        write_whole(self._workdir / "results.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        return rows


@contextmanager
def watching(study: Study, console: Console) -> Iterator[Watch]:
    """Yield a function that prints new results, also of other processes, and on a terminal what trains here."""
    plan, shown = study.plan, set[int]()

    def update(training: Sequence[Running], rows: Sequence[Row]) -> None:
        for row in rows:
            if row["setting"] not in shown:
                shown.add(row["setting"])
                count, setting = f"{len(shown)}/{study.num_settings}", describe(row["values"])
                metric = find_metric(plan.metric, row["loss"])
                score = (
                    f"valid {metric.words} {metric.show(row['valid'][metric.name])}"
                    if "valid" in row
                    else row["error"]
                )
                console.print(f"{count}  {setting}  {row['state']}: {score}", soft_wrap=True)
        lines = []
        for each in training:
            values = [show(each.trial.params[field]) for field in plan.fields]
            score = find_metric(plan.metric, each.config.loss).show(each.valid)
            lines.append([*values, score, "–", f"epoch {each.epoch}/{each.config.epochs}"])
        waiting = "" if training or len(rows) == study.num_settings else "; waiting for other processes"
        live.update(table_of(lines, plan, f"{len(training)} settings in training here{waiting}"))

    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield update
