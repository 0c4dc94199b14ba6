"""One run, config to summary: with checkpoints and progress, all that touches clock, files and terminal."""

import importlib.metadata
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxce.config import Config, hyperparams
from jaxce.data import DATASETS, Split
from jaxce.errors import ConfigError, TrainingError
from jaxce.report.predictions import save_predictions
from jaxce.training.checkpoints import Checkpoints
from jaxce.training.progress import progress
from jaxce.training.step import make_train

VERSIONS_OF = ("jaxce", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "scikit-learn", "numpy")


def run(config: Config, workdir: Path, *, resume: bool = False, started: float | None = None) -> dict[str, Any]:
    """Train as `config` says, and leave in `workdir` what came of it.

    That is config.json, metrics.jsonl, checkpoints/, predictions.npz, summary.json and report.html.

    Args:
        config: The run.
        workdir: A folder that does not exist or is empty, unless resuming.
        resume: Go on from the newest checkpoint in `workdir`.
        started: `time.perf_counter()` when the clock of `wall_seconds` began; None for now.

    Returns:
        What summary.json holds.

    Raises:
        ConfigError: `workdir` is in use, or holds another config; nothing in it is touched.
        TrainingError: The loss is not finite.
    """
    started = time.perf_counter() if started is None else started
    dataset = DATASETS[config.data](Split(config.valid_fraction, config.test_fraction, config.split_seed))
    claim(workdir, config, resume)

    input_shape, num_train = dataset.train.inputs.shape[1:], len(dataset.train.labels)
    mesh = make_mesh(min(config.batch_size or num_train, num_train))
    everywhere = NamedSharding(mesh, PartitionSpec())
    train, valid, test = (
        jax.device_put(part, everywhere) for part in (dataset.train, dataset.valid, dataset.test)
    )

    functions = make_train(config, input_shape, len(dataset.classes), num_train, mesh)
    train_epoch = jax.jit(functions.train_epoch, donate_argnums=0)
    evaluate = jax.jit(functions.evaluate)
    numbers = hyperparams(config)
    state = jax.jit(functions.init)(jax.random.key(config.seed), numbers)

    unit = "images" if len(input_shape) == 3 else "examples"
    metrics_file = workdir / "metrics.jsonl"
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = (checkpoints.restore_latest(like=state) if resume else None) or state
        first = int(state.epoch)
        keep_lines(metrics_file, first)
        with metrics_file.open("a") as lines, progress(config.epochs, first, num_train, unit) as show:
            for epoch in range(first, config.epochs):
                state, steps = train_epoch(state, numbers, train)
                scores = evaluate(state, numbers, valid)
                steps, scores = jax.device_get((steps, scores))
                # The valid loss too: the last step's update may be the one that broke the parameters.
                check_finite(np.append(steps["loss"], scores["loss"]), epoch * len(steps["loss"]), workdir)
                row = {
                    "epoch": epoch + 1,
                    "train_loss": number(steps["loss"].mean()),
                    "train_accuracy": number(steps["accuracy"].mean()),
                    "valid_loss": number(scores["loss"]),
                    "valid_accuracy": number(scores["accuracy"]),
                    "grad_norm": number(steps["grad_norm"].mean()),
                    "seconds": round(time.perf_counter() - started, 3),
                }
                lines.write(json.dumps(row) + "\n")
                lines.flush()
                checkpoints.save(epoch + 1, state, row, force=epoch + 1 == config.epochs)
                show(row)
        scores = jax.device_get(evaluate(state, numbers, test))

    summary = {
        "test": {"accuracy": number(scores["accuracy"]), "loss": number(scores["loss"])},
        "wall_seconds": round(time.perf_counter() - started, 3),
        "config": asdict(config),
        "versions": {"python": platform.python_version()} | versions(),
        "device": {"kind": jax.devices()[0].device_kind, "count": mesh.size},
    }
    test_inputs, test_labels = map(np.asarray, dataset.test)
    save_predictions(workdir, config.loss, test_inputs, test_labels, scores["outputs"], dataset.classes)
    write_json(workdir / "summary.json", summary)
    from jaxce.report.page import (
        write_report,
    )  # half a second of Matplotlib, which a run that fails need not pay

    write_report(workdir)
    return summary


def claim(workdir: Path, config: Config, resume: bool) -> None:
    """Make `workdir` this run's own, or raise ConfigError and touch nothing."""
    settings = json.loads(json.dumps(asdict(config)))
    if resume:
        if not (workdir / "config.json").is_file():
            raise ConfigError(
                f"nothing to resume: {workdir} holds no config.json; leave out --resume to start there"
            )
        before = json.loads((workdir / "config.json").read_text())
        changed = [name for name in settings if settings[name] != before.get(name)]
        if changed:
            name = changed[0]
            raise ConfigError(
                f"cannot resume {workdir} with {name} = {settings[name]}: it was started with "
                f"{name} = {before.get(name)}; give the same config, or another --workdir"
            )
        return
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise ConfigError(
            f"workdir {workdir} is not empty: add --resume to go on with it, or name another --workdir"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", settings)


def make_mesh(batch_size: int) -> Mesh:
    """The axis `batch`, over as many of the local devices as divide a batch evenly."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return jax.make_mesh((count,), ("batch",), axis_types=(AxisType.Auto,), devices=devices[:count])


def check_finite(losses: np.ndarray, steps_before: int, workdir: Path) -> None:
    """Raise TrainingError that names the first step whose loss is not a finite number."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise TrainingError(
            f"the loss is {losses[bad[0]]} at step {steps_before + bad[0] + 1}: lower the learning rate or set "
            f"clip_norm; {workdir / 'checkpoints'} holds only states from before"
        )


def keep_lines(metrics_file: Path, epochs: int) -> None:
    """Drop what was logged after the checkpoint that the run goes on from: it will be logged again."""
    if metrics_file.exists():
        rows = [line for line in metrics_file.read_text().splitlines() if json.loads(line)["epoch"] <= epochs]
        metrics_file.write_text("".join(line + "\n" for line in rows))


def number(value: np.ndarray) -> float:
    """A float32 with as many digits as it has: 0.997, where `float` alone would give 0.996999979019165."""
    return float(str(value))


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Version of each library that the numbers depend on."""
    found = {}
    for name in VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # jaxce itself, run from a checkout
            found[name] = "not installed"
    return found
