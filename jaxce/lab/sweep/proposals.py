"""What Optuna proposes: its distributions for the fields that are swept, its samplers, and back to values."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from jaxce.lab.sweep.space import Choices, Dimension, parse_value

optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Where Optuna takes a field's values from."""
    if isinstance(dimension, Choices):
        return CategoricalDistribution([as_param(value) for value in dimension.values])
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def as_param(value: Any) -> Any:
    """A value as a storage can hold it: widths as text.

    >>> as_param((16, 32))
    '16x32'
    """
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def values_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The fields' values that a trial's parameters stand for.

    >>> values_of({"widths": "16x32", "seed": 1})
    {'widths': (16, 32), 'seed': 1}
    """
    return {
        field: parse_value(field, param) if field == "widths" and param is not None else param
        for field, param in params.items()
    }


def draws(space: Sequence[Dimension], count: int) -> list[dict[str, Any]]:
    """Random settings, the same each time."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = {dimension.field: distribution(dimension) for dimension in space}
    return [values_of(study.ask(distributions).params) for _ in range(count)]
