"""One run, from its config to its summary; the pure functions that it calls are make_train's."""

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import jaxce
from jaxce.lab.config import Config, hyperparams
from jaxce.lab.data import Dataset, Split, Stream, load
from jaxce.lab.errors import Stopped, TrainingError
from jaxce.lab.metrics import number
from jaxce.lab.report.predictions import save_predictions
from jaxce.lab.tasks import Predictions, Task, make_task
from jaxce.lab.training.checkpoints import Checkpoints, reason
from jaxce.lab.training.devices import make_mesh
from jaxce.lab.training.events import events
from jaxce.lab.training.processes import is_first, require_same, together
from jaxce.lab.training.progress import progress
from jaxce.lab.training.signals import asked_to_stop, stop_requests
from jaxce.lab.training.step import make_train
from jaxce.lab.workdir import check_workdir, claim, keep_lines, write_json

VERSIONS_OF = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "scikit-learn", "numpy")


def run(
    config: Config,
    workdir: Path,
    *,
    resume: bool = False,
    started: float | None = None,
    keep: int = 2,
    checkpoint_seconds: float = 5.0,
) -> dict[str, Any]:
    """Train as `config` says, and leave in `workdir` what came of it.

    That is config.json, metrics.jsonl, checkpoints/, TensorBoard events, predictions.npz, summary.json and
    report.html. SIGINT and SIGTERM end a run after the epoch that is under way.

    Several processes that have joined one run (see processes.py) must all call this: each batch is
    divided over the devices of all, every device has all data, and process 0 alone writes.

    Args:
        config: The run.
        workdir: A folder that does not exist or is empty, unless resuming.
        resume: Go on from the newest checkpoint in `workdir`.
        started: `time.perf_counter()` when the clock of `wall_seconds` began; None for now. A run that is
            resumed counts what its checkpoint had taken, too.
        keep: How many of the last checkpoints to keep beside the best.
        checkpoint_seconds: How long after one checkpoint to write the next, at the end of an epoch.

    Returns:
        What summary.json holds.

    Raises:
        ConfigError: The data do not fit the config; or `workdir` is in use, holds another config or cannot be
            written, and nothing in it is touched.
        TrainingError: The loss is not finite, a file could not be written, or no checkpoint is whole; where
            it is only the page that could not be drawn, summary.json is there.
        Stopped: SIGINT or SIGTERM came, and the state is saved.
    """
    started = time.perf_counter() if started is None else started
    with together():
        if is_first():  # before the data are loaded, which may take minutes
            check_workdir(workdir, config, resume)
        dataset = load(config.data, Split(config.valid_fraction, config.test_fraction, config.split_seed))
        input_shape, num_train = dataset.train.inputs.shape[1:], len(dataset.train.labels)
        batch_size = min(config.batch_size or num_train, num_train)
        mesh = make_mesh(batch_size, config.class_devices)
        task = make_task(config, dataset, mesh)
        functions = make_train(config, input_shape, task, num_train, mesh)
    require_same("config", config)
    require_same("data set", dataset.train, dataset.valid, dataset.test)
    with ExitStack() as stack:
        with together():
            if is_first():
                stack.enter_context(claim(workdir, config, resume))
        requests = stack.enter_context(stop_requests())
        checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints", keep, checkpoint_seconds))

        everywhere = NamedSharding(mesh, PartitionSpec())
        train, valid, test = (
            part if isinstance(part, Stream) else jax.device_put(part, everywhere)
            for part in (dataset.train, dataset.valid, dataset.test)
        )
        numbers, evaluate = hyperparams(config), jax.jit(functions.evaluate)
        state = jax.jit(functions.init)(jax.random.key(config.seed), numbers)
        state = (checkpoints.restore_latest(like=state) if resume else None) or state
        first = int(state.epoch)
        train_epoch: Callable[..., Any]
        memory = {}
        if isinstance(train, Stream):
            # Two seconds of Grain, which a run on data that fit need not pay.
            from jaxce.lab.training.stream import in_blocks, read_blocks

            train_epoch = in_blocks(functions, mesh, num_train // batch_size)
            train = read_blocks(train, config.seed, batch_size, range(first, config.epochs))
        elif first < config.epochs:
            traced = jax.jit(functions.train_epoch, donate_argnums=0).lower(state, numbers, train)
            train_epoch = traced.compile()
            memory = memory_of(train_epoch)

        with ExitStack() as files:
            with together():
                if is_first():
                    started -= keep_lines(workdir / "metrics.jsonl", first)
                    unit = "images" if len(input_shape) == 3 else "examples"
                    lines = files.enter_context((workdir / "metrics.jsonl").open("a"))
                    log = files.enter_context(events(workdir, first))
                    show = files.enter_context(progress(config.epochs, first, num_train, unit, task.headline))
            for epoch in range(first, config.epochs):
                state, steps = train_epoch(state, numbers, train)
                steps, scores = jax.device_get((steps, evaluate(state, numbers, valid)))
                # The valid loss too: the last step's update may be the one that broke the parameters.
                check_finite(np.append(steps["loss"], scores["loss"]), epoch * len(steps["loss"]), workdir)
                means = {name: number(values.mean()) for name, values in steps.items()}
                grad_norm = means.pop("grad_norm")
                row = {
                    "epoch": epoch + 1,
                    **{f"train_{name}": value for name, value in means.items()},
                    "grad_norm": grad_norm,
                    **{f"valid_{k}": value for k, value in task.scores(scores, dataset.valid.labels).items()},
                    "seconds": round(time.perf_counter() - started, 3),
                }
                last, signal = epoch + 1 == config.epochs, asked_to_stop(requests)
                with together():
                    if is_first():
                        lines.write(json.dumps(row) + "\n")
                        lines.flush()
                        log(row)
                        checkpoints.save(epoch + 1, state, row, force=last or signal is not None)
                        show(row)
                if signal and not last:
                    raise Stopped(
                        f"{signal} came, and epoch {epoch + 1} of {config.epochs} is saved: "
                        f"--resume --workdir {workdir} continues"
                    )

        scores = jax.device_get(evaluate(state, numbers, test))
        summary = {
            "test": task.scores(scores, dataset.test.labels),
            "wall_seconds": round(time.perf_counter() - started, 3),
            "config": asdict(config),
            "versions": {"python": platform.python_version()} | versions(),
            "device": {"kind": jax.devices()[0].device_kind, "count": mesh.size},
            "memory": memory,
        }
        with together():
            if is_first():
                write_json(workdir / "summary.json", summary)
                draw(dataset, task, workdir, scores["outputs"])
    return summary


def draw(dataset: Dataset, task: Task, workdir: Path, outputs: np.ndarray) -> None:
    """Write predictions.npz and report.html; a run that is done stays so, whatever goes wrong here.

    Raises:
        TrainingError: One could not be written.
    """
    inputs, labels = map(np.asarray, dataset.test)
    try:
        # Jinja, which a run that fails need not import.
        from jaxce.lab.report.page import write_report

        classes = dataset.classes + dataset.unseen
        save_predictions(workdir, task, Predictions(outputs, labels, classes, inputs))
        write_report(workdir)
    except Exception as error:
        raise TrainingError(
            f"the run is done and {workdir / 'summary.json'} is whole, but report.html could not be written: "
            f"{reason(error)}; --resume --workdir {workdir} writes it"
        ) from error


def check_finite(losses: np.ndarray, steps_before: int, workdir: Path) -> None:
    """Raise TrainingError that names the first step whose loss is not a finite number."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise TrainingError(
            f"the loss is {losses[bad[0]]} at step {steps_before + bad[0] + 1}: lower the learning rate or set "
            f"clip_norm; {workdir / 'checkpoints'} holds only states from before"
        )


def memory_of(program: Any) -> dict[str, int]:
    """Bytes that a compiled program takes on one device: `held` by what it is given, and `temporary` beside."""
    found = program.memory_analysis()
    if found is None:  # not every device tells
        return {}
    return {"held": found.argument_size_in_bytes, "temporary": found.temp_size_in_bytes}


def versions() -> dict[str, str]:
    """Version of each library that the numbers depend on."""
    return {"jaxce": jaxce.__version__} | {name: importlib.metadata.version(name) for name in VERSIONS_OF}
