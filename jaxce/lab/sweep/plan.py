"""Which settings there are, checked before anything runs, and which of them one program can run."""

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution

from jaxce.lab.config import HYPERPARAMS, Config
from jaxce.lab.errors import ConfigError, quiet
from jaxce.lab.sweep.space import Space, apply, parse_space, show
from jaxce.losses import LOSSES

MOST_SETTINGS = 100_000


@dataclass(frozen=True)
class Plan:
    """One sweep: what is common to all processes that work on it.

    Attributes:
        name: What CONFIG was called.
        base: The config that settings are changes of.
        over: FIELD=SPEC items.
        sampler: `grid`, `random` or `tpe`.
        trials: How many settings the samplers propose; None for the grid.
        prune: Whether settings that are worse than the median end early.
        metric: What settings are compared by, on valid.
    """

    name: str
    base: Config
    over: tuple[str, ...]
    sampler: str
    trials: int | None
    prune: bool
    metric: str

    @property
    def space(self) -> Space:
        """What is swept."""
        return parse_space(self.over)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what is swept."""
        return tuple(self.space)


def plan_of(found: Mapping[str, Any]) -> Plan:
    """The plan that `dataclasses.asdict` turned into JSON."""
    return Plan(**{**found, "base": Config(**found["base"]), "over": tuple(found["over"])})


def settings_of(plan: Plan) -> list[dict[str, Any]]:
    """The values of each setting, by field; `tpe` proposes them later, so its are empty.

    Settings of a grid that have the same config are run once; those of one program follow each other.

    Raises:
        ConfigError: Some values do not fit the config or each other.
    """
    if plan.sampler == "grid":
        settings = grid(plan.space)
    else:
        assert plan.trials is not None
        settings = draws(plan.space, plan.trials)
        if plan.sampler == "tpe":
            check(plan.base, [*settings, *corners(plan.space)])
            return [{} for _ in settings]
    configs = check(plan.base, settings)
    if plan.sampler == "random":
        return settings
    unique: dict[Config, dict[str, Any]] = {}
    for config, setting in zip(configs, settings, strict=True):
        unique.setdefault(config, setting)
    order = {program: i for i, program in enumerate(dict.fromkeys(map(program_of, unique)))}
    return [unique[config] for config in sorted(unique, key=lambda config: order[program_of(config)])]


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination, the last field's values changing fastest."""
    values: list[Sequence[Any]] = []
    for field, each in space.items():
        if isinstance(each, CategoricalDistribution):
            values.append(each.choices)
        elif isinstance(each, IntDistribution):
            values.append(range(each.low, each.high + 1))
        else:
            ends = f"{each.low:g}..{each.high:g}{':log' * each.log}"
            raise ConfigError(
                f"{field}={ends} is no list for a grid: say how many values, as in {ends}:5, or let a sampler "
                f"choose with --trials"
            )
    count = math.prod(map(len, values))
    if count > MOST_SETTINGS:
        raise ConfigError(f"a grid of {count:,} settings: let a sampler choose some with --trials")
    return [dict(zip(space, each, strict=True)) for each in itertools.product(*values)]


def check(base: Config, settings: Sequence[Mapping[str, Any]]) -> list[Config]:
    """The config of each setting; ConfigError names the setting that has none."""
    configs = []
    for setting in settings:
        try:
            configs.append(apply(base, setting))
        except ConfigError as error:
            raise ConfigError(f"setting {describe(setting)}: {error}") from error
    return configs


def corners(space: Space) -> list[dict[str, Any]]:
    """The first value of each field, and with them every other value, or other end, of one field."""
    values = {
        field: each.choices if isinstance(each, CategoricalDistribution) else (each.low, each.high)
        for field, each in space.items()
    }
    first = {field: each[0] for field, each in values.items()}
    return [first | {field: value} for field, each in values.items() for value in each]


def describe(setting: Mapping[str, Any]) -> str:
    """A setting in a few words.

    >>> describe({"learning_rate": 0.00123456, "widths": (8, 16), "seed": 1})
    'learning_rate=0.001235 widths=8x16 seed=1'
    """
    return " ".join(f"{field}={show(value)}" for field, value in setting.items())


def program_of(config: Config) -> Config:
    """What a compiled program depends on: configs for which this is equal share a program.

    Numbers that enter the program as arguments are replaced by one value; None stays None.

    >>> program_of(Config(learning_rate=0.1, seed=3)) == program_of(Config(label_smoothing=None))
    True
    >>> program_of(Config(label_smoothing=0.0)) == program_of(Config(label_smoothing=None))
    False
    """
    traced = {name for name in HYPERPARAMS if getattr(config, name) is not None}
    if config.margin is not None and config.head is not None and "margin" in LOSSES[config.head].static:
        traced.remove("margin")
    like = copy(config)
    # Not through replace: 0.5, the same for all, need not be in the range of each.
    for name, value in {**dict.fromkeys(traced, 0.5), "seed": 0}.items():
        object.__setattr__(like, name, value)
    return like


def draws(space: Space, count: int) -> list[dict[str, Any]]:
    """Random settings, the same each time."""
    with quiet_optuna():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        return [study.ask({**space}).params for _ in range(count)]


def quiet_optuna() -> AbstractContextManager[None]:
    """Keep the logs of Optuna, and of Alembic that sets up its tables, to warnings."""
    return quiet("optuna", "alembic", below=logging.WARNING)
