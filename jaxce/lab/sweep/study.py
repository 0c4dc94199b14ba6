"""The study in an Optuna storage: what waits, who works on what, and what came of it, for many processes."""

import contextlib
import json
import os
import re
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any

import optuna
import sqlalchemy
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from jaxce.lab.errors import ConfigError, TrainingError
from jaxce.lab.sweep.plan import Plan, plan_of, settings_of
from jaxce.lab.sweep.proposals import as_param, distribution

HEARTBEAT_SECONDS = 4
GRACE_SECONDS = 20  # without a heartbeat, before a process is taken for dead and its settings run again
LAYOUT_SECONDS = 60.0  # to write down all settings, before the process that does it is taken for dead


@contextlib.contextmanager
def experimental() -> Iterator[None]:
    """Heartbeats, which Optuna warns of: nothing else tells a killed process from a slow one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


with experimental():
    # A setting that killed so many processes is not tried on another.
    RETRY = RetryHeartbeatStaleTrialCallback(max_retry=10)

# Against those that are done, so never the first few.
PRUNER = optuna.pruners.MedianPruner(n_startup_trials=5)

# Who has a setting, for people to read.
PROCESS = f"{socket.gethostname()}:{os.getpid()}"

Row = dict[str, Any]


@contextlib.contextmanager
def open_storage(url: str) -> Iterator[RDBStorage]:
    """Yield a connection to a database, in which tables are made if need be.

    Raises:
        ConfigError: The address is wrong, its driver is not installed or nothing answers there.
    """
    kind = url.partition("://")[0]
    try:
        dialect = sqlalchemy.make_url(url).get_dialect()
        is_sqlite = dialect.name == "sqlite"
        for attempt in range(10):
            try:
                with experimental():
                    storage = RDBStorage(
                        url,
                        engine_kwargs={"connect_args": {"timeout": 60}}
                        if is_sqlite
                        else {"pool_pre_ping": True},
                        heartbeat_interval=HEARTBEAT_SECONDS,
                        grace_period=GRACE_SECONDS,
                        heartbeat_stale_trial_callback=RETRY,
                    )
                if is_sqlite:
                    set_up_sqlite(storage.engine)
                break
            except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
                # Another process made the same table, or wrote the same line, at the same moment.
                same_moment = re.search(
                    r"exists|unique|duplicate|locked", str(error.__cause__ or error).lower()
                )
                if attempt == 9 or not same_moment:
                    raise
                time.sleep(0.2 * (attempt + 1))
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise ConfigError(f"--storage {kind}: its driver is not installed ({error})") from error
    except sqlalchemy.exc.ArgumentError as error:
        raise ConfigError(
            f"--storage takes the address of a database, as sqlite:///sweep.db or "
            f"postgresql+psycopg://user@host/name, not {url!r}"
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        why = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigError(f"--storage {kind}: cannot be used: {why}") from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def set_up_sqlite(engine: sqlalchemy.Engine) -> None:
    """Let a SQLite transaction begin with the lock for writing, and not wait for the disk to end.

    Without the lock two processes read that a setting is waiting, and then both write that they have it: SQLite
    has no SELECT ... FOR UPDATE, with which Optuna keeps them apart in other databases. A setting is a score of
    transactions, for each of which the devices would wait: with a log that is written ahead, a power cut may
    take the last of them, and their settings run again, but the database stays whole.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    engine.dispose()

    @sqlalchemy.event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        connection.execute("PRAGMA synchronous = NORMAL")

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class Study:
    """One sweep in a storage, joined by this process; a context manager that keeps its trials alive."""

    def __init__(self, storage: RDBStorage, name: str, plan: Plan | None) -> None:
        """Join the sweep, or begin it.

        Args:
            storage: Where it is.
            name: What it is called there.
            plan: What to do; None for what the storage says.

        Raises:
            ConfigError: No such sweep in the storage, or a setting does not fit.
            TrainingError: Another process began it and does not finish writing down its settings.
        """
        self._storage = storage
        self._beating: set[int] = set()
        self._stop = threading.Event()
        if plan is not None:
            with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
                self._lay_out(optuna.create_study(study_name=name, storage=storage, direction="maximize"), plan)
        try:
            self._study = optuna.load_study(study_name=name, storage=storage, pruner=PRUNER)
        except KeyError as error:
            raise ConfigError(f"there is no sweep {name} in the storage: leave out --resume") from error
        deadline = time.monotonic() + LAYOUT_SECONDS
        while "num_settings" not in self._study.user_attrs:
            if time.monotonic() > deadline:
                raise TrainingError(f"the sweep {name} was killed before it began: start it in another place")
            time.sleep(0.5)
        self.plan = plan_of(self._study.user_attrs["plan"])
        self.num_settings: int = self._study.user_attrs["num_settings"]
        self._distributions = {each.field: distribution(each) for each in self.plan.space}

    def _lay_out(self, study: optuna.Study, plan: Plan) -> None:
        """Write down every setting, waiting; the last thing written says that all are."""
        study.set_user_attr("plan", json.loads(json.dumps(asdict(plan))))
        settings = settings_of(plan)
        for number, setting in enumerate(settings):
            params = {field: as_param(value) for field, value in setting.items()}
            study.enqueue_trial(params, user_attrs={"setting": number})
        study.set_user_attr("num_settings", len(settings))

    def take(self) -> Trial | None:
        """A waiting setting, which no other process gets then; None where none waits."""
        for waiting in self._trials(TrialState.WAITING):
            trial_id = waiting._trial_id
            # First, so that no moment is without: a trial that never had a heartbeat never goes stale.
            self._storage.record_heartbeat(trial_id)
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                if self._storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
                    self._beating.add(trial_id)
                    # Its own sampler: what is proposed then depends on the trials before, not on the process.
                    self._study.sampler = sampler(waiting.number)
                    trial = Trial(self._study, trial_id)
                    for field, each in self._distributions.items():
                        trial._suggest(field, each)
                    trial.set_user_attr("process", PROCESS)
                    return trial
        return None

    def finish(self, trial: Trial, state: TrialState, value: float | None, row: Row) -> bool:
        """Record what came of a setting; False where this process was taken for dead and another has it."""
        self._beating.discard(trial._trial_id)
        try:
            trial.set_user_attr("row", row)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        self._study.tell(trial, value, state, skip_if_finished=True)
        return True

    def is_hopeless(self, trial: Trial, epoch: int, value: float) -> bool:
        """Whether the pruner ends a setting that has come to `value` after `epoch` epochs."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.report(value, epoch)
            return trial.should_prune()
        return False

    def revive(self) -> int:
        """Let settings of killed processes wait again; how many other processes have, dead or alive."""
        with experimental():
            fail_stale_trials(self._study)
        return sum(trial._trial_id not in self._beating for trial in self._trials(TrialState.RUNNING))

    def requeue(self) -> int:
        """Let settings wait again that were lost with a process killed as it revived them; how many."""
        last = {trial.user_attrs["setting"]: trial for trial in self._trials(TrialState.FAIL)}
        alive = {trial.user_attrs["setting"] for trial in self._trials() if trial.state != TrialState.FAIL}
        lost = [
            trial for number, trial in last.items() if number not in alive and "row" not in trial.user_attrs
        ]
        before = len(self._trials(TrialState.WAITING))
        for trial in lost:
            RETRY(self._study, trial)
        return len(self._trials(TrialState.WAITING)) - before

    def is_waiting(self) -> bool:
        """Whether a setting waits to be taken."""
        return bool(self._trials(TrialState.WAITING))

    def rows(self) -> list[Row]:
        """What came of each finished setting, in the order of settings."""
        finished = self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        rows = [trial.user_attrs["row"] for trial in finished if "row" in trial.user_attrs]
        return sorted(rows, key=lambda row: row["setting"])

    def importances(self) -> Mapping[str, float]:
        """How much each field matters to the value, by Optuna; nothing where that cannot be said."""
        with warnings.catch_warnings(), contextlib.suppress(ValueError, RuntimeError, UserWarning):
            warnings.simplefilter(
                "error", UserWarning
            )  # too few trials: then it says that all fields are equal
            return optuna.importance.get_param_importances(self._study)
        return {}

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def __enter__(self) -> "Study":
        """Begin to beat."""
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            for trial_id in tuple(self._beating):
                with contextlib.suppress(Exception):  # a database that is away for a moment
                    self._storage.record_heartbeat(trial_id)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop beating; what this process did not finish waits again, at once."""
        self._stop.set()
        self._thread.join()
        for trial in self._trials(TrialState.RUNNING):
            if trial._trial_id in self._beating:
                with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # it was taken for dead
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                    RETRY(self._study, trial)


def sampler(number: int) -> BaseSampler:
    """The sampler of one trial, for those fields that are not laid down."""
    return TPESampler(seed=number)
