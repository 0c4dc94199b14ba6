"""The settings of a sweep and their results in an Optuna storage, which several processes share."""

import contextlib
import os
import re
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import optuna
import sqlalchemy
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from jaxce.lab.errors import ConfigError, TrainingError
from jaxce.lab.sweep.plan import Plan, quiet_optuna, settings_of
from jaxce.lab.sweep.results import Row
from jaxce.lab.tasks import find_metric

HEARTBEAT_SECONDS = 4
GRACE_SECONDS = 20  # without a heartbeat, before the settings of a process run again
LAYOUT_SECONDS = 60.0  # for the process that begins a sweep to write down its settings
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@contextlib.contextmanager
def experimental() -> Iterator[None]:
    """Allow heartbeats, of which Optuna warns: nothing else tells a killed process from a slow one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


with experimental():
    # A setting that killed so many processes is not run again.
    RETRY = RetryHeartbeatStaleTrialCallback(max_retry=10)

# The first few run to their end, for the others to be compared with.
PRUNER = optuna.pruners.MedianPruner(n_startup_trials=5)

PROCESS = f"{socket.gethostname()}:{os.getpid()}"


@contextlib.contextmanager
def open_storage(url: str) -> Iterator[RDBStorage]:
    """Yield a connection to a database, with tables made if need be; Optuna logs only warnings meanwhile.

    Raises:
        ConfigError: The address is wrong, its driver is not installed or nothing answers there.
    """
    kind = url.partition("://")[0]
    with quiet_optuna():
        try:
            storage = connect(url)
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


def connect(url: str) -> RDBStorage:
    """Open a database; try again where another process makes the same table at the same moment."""
    is_sqlite = sqlalchemy.make_url(url).get_dialect().name == "sqlite"
    options = {"connect_args": {"timeout": 60}} if is_sqlite else {"pool_pre_ping": True}
    for attempt in range(10):
        try:
            with experimental():
                storage = RDBStorage(
                    url,
                    engine_kwargs=options,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=RETRY,
                )
            if is_sqlite:
                set_up_sqlite(storage.engine)
            return storage
        except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
            why = str(error.__cause__ or error).lower()
            if attempt == 9 or not re.search(r"exists|unique|duplicate|locked", why):
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


def set_up_sqlite(engine: sqlalchemy.Engine) -> None:
    """Let a SQLite transaction begin with the lock for writing, and end without waiting for the disk.

    Without the lock two processes read that a setting is waiting, and both then take it: SQLite has no
    SELECT ... FOR UPDATE, with which Optuna keeps them apart in other databases. A setting needs about twenty
    transactions, and the devices would wait for each: with a write-ahead log a power cut may lose the last of
    them, whose settings then run again, but the database stays whole.
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
    """One sweep in a storage, joined by this process; a context manager that sends heartbeats."""

    def __init__(self, storage: RDBStorage, name: str, plan: Plan) -> None:
        """Join the sweep, or begin it.

        Args:
            storage: Where it is.
            name: Its name there.
            plan: What to sweep.

        Raises:
            ConfigError: A setting does not fit.
            TrainingError: Another process began it and has not written down its settings.
        """
        self.plan, self._space = plan, plan.space
        self._storage = storage
        self._beating: set[int] = set()
        self._stop = threading.Event()
        with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
            up = find_metric(plan.metric, plan.base.loss).larger_is_better
            direction = StudyDirection.MAXIMIZE if up else StudyDirection.MINIMIZE
            self._lay_out(optuna.create_study(study_name=name, storage=storage, direction=direction))
        self._study = optuna.load_study(study_name=name, storage=storage, pruner=PRUNER)
        deadline = time.monotonic() + LAYOUT_SECONDS
        while "num_settings" not in self._study.user_attrs:
            if time.monotonic() > deadline:
                raise TrainingError(
                    f"the sweep {name} was killed before it began: start it again with another --storage or "
                    f"--workdir"
                )
            time.sleep(0.5)
        self.num_settings: int = self._study.user_attrs["num_settings"]

    def _lay_out(self, study: optuna.Study) -> None:
        """Enqueue every setting; their number, written last, says that all are there."""
        settings = settings_of(self.plan)
        for number, setting in enumerate(settings):
            study.enqueue_trial(setting, user_attrs={"setting": number})
        study.set_user_attr("num_settings", len(settings))

    def take(self) -> Trial | None:
        """Take a waiting setting, which no other process gets then; None where none waits."""
        for waiting in self._trials(TrialState.WAITING):
            trial_id = waiting._trial_id
            # First, since a running trial that never had a heartbeat never goes stale.
            self._storage.record_heartbeat(trial_id)
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                if self._storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
                    self._beating.add(trial_id)
                    # A seed for each trial: proposals then depend on the trials before, not on the process.
                    self._study.sampler = TPESampler(seed=waiting.number)
                    trial = Trial(self._study, trial_id)
                    for field, each in self._space.items():
                        trial._suggest(field, each)
                    trial.set_user_attr("process", PROCESS)
                    return trial
        return None

    def finish(self, trial: Trial, row: Row) -> bool:
        """Record the result of a setting; False where the setting was given to another process."""
        self._beating.discard(trial._trial_id)
        try:
            trial.set_user_attr("row", row)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        value = row["valid"][self.plan.metric] if row["state"] == "complete" else None
        self._study.tell(trial, value, STATES[row["state"]], skip_if_finished=True)
        return True

    def should_prune(self, trial: Trial, epoch: int, value: float) -> bool:
        """Whether to end a setting that has reached `value` after `epoch` epochs."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.report(value, epoch)
            return trial.should_prune()
        return False

    def revive(self) -> int:
        """Let settings of killed processes wait again.

        Returns:
            How many settings other processes have, alive or dead.
        """
        with experimental():
            fail_stale_trials(self._study)
        return sum(trial._trial_id not in self._beating for trial in self._trials(TrialState.RUNNING))

    def requeue(self) -> int:
        """Let settings wait again that were lost because a process was killed while it revived them.

        Returns:
            How many there were.
        """
        last = {trial.user_attrs["setting"]: trial for trial in self._trials(TrialState.FAIL)}
        alive = {trial.user_attrs["setting"] for trial in self._trials() if trial.state != TrialState.FAIL}
        before = len(self._trials(TrialState.WAITING))
        for setting, trial in last.items():
            if setting not in alive and "row" not in trial.user_attrs:
                RETRY(self._study, trial)
        return len(self._trials(TrialState.WAITING)) - before

    def is_waiting(self) -> bool:
        """Whether a setting waits to be taken."""
        return bool(self._trials(TrialState.WAITING))

    def rows(self) -> list[Row]:
        """The result of each finished setting, in the order of settings."""
        rows = [
            trial.user_attrs["row"] for trial in self._trials(*STATES.values()) if "row" in trial.user_attrs
        ]
        return sorted(rows, key=lambda row: row["setting"])

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def __enter__(self) -> "Study":
        """Begin to send heartbeats."""
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            for trial_id in tuple(self._beating):
                with contextlib.suppress(Exception):  # the database may be away for a moment
                    self._storage.record_heartbeat(trial_id)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the heartbeats, and let settings wait again that this process has not finished."""
        self._stop.set()
        self._thread.join()
        for trial in self._trials(TrialState.RUNNING):
            if trial._trial_id in self._beating:
                with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process has it
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                    RETRY(self._study, trial)
