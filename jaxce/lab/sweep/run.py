"""One sweep in one process: its folder, devices and storage, the training, and the summary of results."""

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import jax
from rich.console import Console
from sqlalchemy.engine import make_url

from jaxce.lab.config import Config
from jaxce.lab.errors import ConfigError, Stopped, TrainingError
from jaxce.lab.sweep.importance import importance_of
from jaxce.lab.sweep.page import write_page
from jaxce.lab.sweep.plan import Plan, corners, plan_of, settings_of
from jaxce.lab.sweep.program import load_whole
from jaxce.lab.sweep.results import best_of, by_rank, cells, command_of, table_of
from jaxce.lab.sweep.space import apply
from jaxce.lab.sweep.study import Study, open_storage
from jaxce.lab.sweep.worker import Worker, watching
from jaxce.lab.tasks import find_metric, make_task
from jaxce.lab.training.devices import cache_compilations, make_cpu_devices
from jaxce.lab.workdir import new_workdir, read_json, write_json

SLOTS_PER_DEVICE = 4
HIDDEN = "***"  # what SQLAlchemy writes for a password


def sweep(
    plan: Plan | None, workdir: Path | None, storage: str | None, *, resume: bool, parallel: int | None
) -> None:
    """Begin a sweep or join it, train until it is done, and leave results.jsonl and sweep.html in `workdir`.

    Args:
        plan: What to sweep; None for the plan stored in `workdir`.
        workdir: A folder that does not exist or is empty, unless resuming; None for a new one.
        storage: Address of a database; None for the one used before, or a SQLite file in `workdir`.
        resume: Continue the sweep in `workdir`, or join it.
        parallel: Settings side by side; None for SLOTS_PER_DEVICE on each device.

    Raises:
        ConfigError: A setting does not fit, `workdir` is in use, or the storage cannot be used.
        TrainingError: No setting could be trained.
        Stopped: SIGINT or SIGTERM came; settings that are not done wait for another process.
    """
    started = time.perf_counter()
    with contextlib.suppress(ValueError):  # not in the main thread: there no signal arrives
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    make_cpu_devices(os.cpu_count() or 1)  # a step of a small network does not fill two cores, two networks do
    cache_compilations()
    if resume:
        assert workdir is not None
        plan, storage = read_plan(workdir, plan, storage)
    else:
        assert plan is not None
        if workdir is not None and workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
            raise ConfigError(
                f"workdir {workdir} is not empty: add --resume to continue the sweep in it, or name another "
                f"--workdir"
            )
        if storage is not None:
            with open_storage(storage):
                pass
        workdir = workdir or new_workdir(f"{Path(plan.name).stem}-sweep")
        workdir.mkdir(parents=True, exist_ok=True)
        write_plan(workdir, plan, storage)

    console = Console(highlight=False)
    devices = jax.local_devices()
    with open_storage(storage or f"sqlite:///{workdir.resolve() / 'sweep.db'}") as database:
        study = Study(database, study_name(plan), plan)
        slots = parallel or SLOTS_PER_DEVICE * len(devices)
        try:
            with study, watching(study, console) as watch:
                rows = Worker(study, workdir, slots, devices, watch).work()
        except KeyboardInterrupt as stop:
            raise Stopped(
                f"with {len(study.rows())} of {study.num_settings} settings done: "
                f"--resume --workdir {workdir} trains the others"
            ) from stop
    importance = importance_of(rows, plan)
    write_page(rows, importance, plan, workdir / "sweep.html")
    ranked = by_rank(rows, plan.metric)
    console.print(table_of([cells(row, plan) for row in ranked], plan, f"{plan.name}: {len(rows)} settings"))
    if importance is not None:
        console.print(f"{importance}", soft_wrap=True)
    best = best_of(rows, plan.metric)
    if not best:
        raise TrainingError(f"no setting could be trained; of the first: {rows[0]['error']}")
    seeds = " by the mean over seeds, here its first" if "seed" in plan.fields else ""
    metric = find_metric(plan.metric, best[0]["loss"])
    scores = ", ".join(
        f"{part} {metric.words} {metric.show(best[0][part][metric.name])}" for part in ("valid", "test")
    )
    console.print(
        f"best{seeds}: {scores}, by\n"
        f"  {command_of(best[0], plan)}\n"
        f"{len(rows)} settings; {time.perf_counter() - started:.1f} s; results in {workdir}",
        soft_wrap=True,
    )


def make_plan(
    name: str, base: Config, over: Sequence[str], sampler: str, trials: int | None, prune: bool
) -> Plan:
    """The plan, whose settings are compared by the metric that a run shows beside its loss.

    Raises:
        ConfigError: A setting does not fit its field, the others or the data.
    """
    plan = Plan(name, base, tuple(over), sampler, trials, prune, metric="")
    first = apply(base, settings_of(plan)[0] or corners(plan.space)[0])
    dataset = load_whole(first)
    return replace(plan, metric=make_task(first, dataset).headline.name)


def study_name(plan: Plan) -> str:
    """The same for the same plan on any machine, so that processes with the same flags share a sweep."""
    words = json.dumps(asdict(plan), sort_keys=True)
    return f"{Path(plan.name).stem}-{hashlib.sha256(words.encode()).hexdigest()[:12]}"


def write_plan(workdir: Path, plan: Plan, storage: str | None) -> None:
    """Write the plan and the storage, without its password, for `read_plan`."""
    shown = None if storage is None else make_url(storage).render_as_string(hide_password=True)
    write_json(workdir / "sweep.json", {"storage": shown, "plan": asdict(plan)})


def read_plan(workdir: Path, plan: Plan | None, storage: str | None) -> tuple[Plan, str | None]:
    """The plan and the storage of the sweep in `workdir`.

    Raises:
        ConfigError: There is none, or it is another one.
    """
    path = workdir / "sweep.json"
    try:
        found = read_json(path)
        before, stored = plan_of(found["plan"]), found["storage"]
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{path} holds no sweep of this version: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"nothing to resume: {error}") from error
    if plan is not None and plan != before:
        raise ConfigError(
            f"cannot resume {workdir} with another sweep: leave out all but --resume and --workdir, or name "
            f"another --workdir"
        )
    if storage is None and stored is not None and HIDDEN in stored:
        raise ConfigError(f"{path} does not hold the storage's password: give --storage again")
    return before, storage or stored
