"""The folder of one run, read: config, curves, summary and predictions, each said to be damaged where it is."""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxce.lab.config import find_configs, load_config
from jaxce.lab.errors import ConfigError
from jaxce.lab.flags import train_command, write_flags
from jaxce.lab.report.predictions import Predictions, load_predictions
from jaxce.lab.workdir import read_config, read_json
from jaxce.losses import LOSSES


@dataclass(frozen=True)
class Run:
    """One run, finished or not.

    Attributes:
        workdir: Where it lies.
        config: Its settings.
        rows: Metrics of each epoch, as metrics.jsonl has them.
        summary: What summary.json holds; None while the run is unfinished.
        predictions: For the test part; None where there are none.
    """

    workdir: Path
    config: dict[str, Any]
    rows: list[dict[str, float]]
    summary: dict[str, Any] | None
    predictions: Predictions | None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.workdir.resolve().name

    @property
    def status(self) -> str:
        """How far it came.

        >>> Run(Path("a"), {"epochs": 9}, [{"epoch": 1}], None, None).status
        'unfinished: 1 of 9 epochs'
        """
        if self.summary is not None:
            return f"finished: {len(self.rows)} epochs"
        return f"unfinished: {len(self.rows)} of {self.config['epochs']} epochs"

    def series(self, metric: str) -> tuple[list[float], list[float]]:
        """Epochs, and a metric in those where it is a finite number."""
        points = [(row["epoch"], row[metric]) for row in self.rows if math.isfinite(row.get(metric, math.nan))]
        return [epoch for epoch, _ in points], [value for _, value in points]


def read_run(workdir: Path) -> Run:
    """What `train` left in `workdir`.

    Raises:
        ConfigError: It is no run's folder, or a file in it is damaged.
    """
    config = read_config(workdir)
    missing = [name for name in ("data", "loss", "epochs") if name not in config]
    if missing or config["loss"] not in LOSSES:
        problem = (
            f"no {missing[0]}" if missing else f"a loss {config['loss']!r} that this version does not know"
        )
        raise ConfigError(f"{workdir / 'config.json'} is no config of a run: it has {problem}")
    summary = None
    if (workdir / "summary.json").exists():
        summary = read_json(workdir / "summary.json")
        for name in ("test", "wall_seconds"):
            if name not in summary:
                raise ConfigError(f"{workdir / 'summary.json'} is damaged: it has no {name}; train again")
    rows = read_rows(workdir / "metrics.jsonl")
    return Run(workdir, config, rows, summary, load_predictions(workdir, config["loss"]))


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl; a last line that was cut short, as by kill -9, is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # what follows the last line's end is not whole
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            row = error
        if not isinstance(row, dict) or "epoch" not in row:
            raise ConfigError(f"{path}, line {number} is damaged: remove the line to report on the others")
        rows.append(row)
    return rows


def repeat_command(config: Mapping[str, Any]) -> str | None:
    """The command that trains with this config: the named config nearest to it, and flags for the rest.

    None where no named config is at hand.
    """
    found = []
    for name in find_configs():
        with contextlib.suppress(ConfigError):  # somebody's unfinished config is no reason to report nothing
            found.append((name, write_flags(config, load_config(name))))
    return train_command(*min(found, key=lambda each: len(each[1]))) if found else None
