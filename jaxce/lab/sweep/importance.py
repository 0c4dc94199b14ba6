"""How much of the variance of results each field explains: exact on a full grid, an estimate elsewhere."""

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from optuna.distributions import CategoricalDistribution

from jaxce.lab.sweep.plan import Plan
from jaxce.lab.sweep.results import Row, positions, value_of
from jaxce.lab.sweep.space import Distribution, Space

FEWEST_A_FIELD = 10  # settings for each swept field; fewer leave the estimate to chance
MOST_POINTS = 500  # of the grid on which the model is evaluated
MOST_LEVELS = 8  # of an interval in that grid
MOST_FITTED = 200  # settings, of which a fit takes a second
REFITS = 10  # to halves of the settings
DRAWS = 20  # functions from the posterior of each fit


class Importance(NamedTuple):
    """Shares of the variance of the results.

    Attributes:
        shares: Of each field by itself, of interactions between fields, and of chance; they sum to 1.
        errors: Two standard deviations of each share; None where the shares are exact.
        method: How the shares were found, in a sentence.
    """

    shares: dict[str, float]
    errors: dict[str, float] | None
    method: str

    def show(self, name: str) -> str:
        """One share in percent.

        >>> Importance({"seed": 0.8}, {"seed": 0.052}, "").show("seed")
        '80 ± 6 %'
        """
        error = "" if self.errors is None else f" ± {max(math.ceil(100 * self.errors[name]), 1)}"
        return f"{100 * self.shares[name]:.0f}{error} %"

    def __str__(self) -> str:
        """All shares and the method, as the terminal shows them."""
        words = ", ".join(f"{name.replace('_', ' ')} {self.show(name)}" for name in self.shares)
        return f"what explains the differences: {words}\n  ({self.method})"


def importance_of(rows: Sequence[Row], plan: Plan) -> Importance | None:
    """The importance of each field that takes several values; None where nothing can be said.

    That is so when fewer than two fields vary, counting the seed, when all results are equal, and when the
    settings are neither a full grid nor ten for each field.
    """
    complete = [row for row in rows if row["state"] == "complete"]
    results = np.array([row["valid"][plan.metric] for row in complete])
    space = {
        field: each for field, each in plan.space.items() if len({value_of(row, field) for row in rows}) > 1
    }
    if len(space) < 2 or len(set(results)) < 2:
        return None
    table = full_grid([[value_of(row, field) for field in space] for row in complete], results)
    if table is not None and len(complete) == len(rows):
        return exact(table, list(space))
    space.pop("seed", None)
    return estimate(complete, results, space) if len(complete) >= FEWEST_A_FIELD * len(space) else None


def variances(table: Float[np.ndarray, "..."]) -> list[float]:
    """The variance over a full grid, by functional ANOVA: the main effect of each axis, and the rest.

    The main effect of an axis is the variance of the means along all other axes. The rest is interactions.

    >>> variances(np.array([[0.0, 2.0], [4.0, 6.0]]))
    [4.0, 1.0, 0.0]
    """
    axes = range(table.ndim)
    main = [float(table.mean(tuple(other for other in axes if other != axis)).var()) for axis in axes]
    return [*main, max(float(table.var()) - sum(main), 0.0)]


def full_grid(settings: Sequence[Sequence[Any]], results: np.ndarray) -> np.ndarray | None:
    """The results by the values of each field, an axis a field; None where a combination is absent or twice."""
    levels = [list(dict.fromkeys(values)) for values in zip(*settings, strict=True)]
    if math.prod(map(len, levels)) != len(settings) or len(set(map(tuple, settings))) != len(settings):
        return None
    table = np.empty([len(each) for each in levels])
    for setting, result in zip(settings, results, strict=True):
        table[tuple(each.index(value) for each, value in zip(levels, setting, strict=True))] = result
    return table


def exact(table: np.ndarray, fields: Sequence[str]) -> Importance:
    """Shares of a full grid; the variance among seeds is chance."""
    names = [field for field in fields if field != "seed"]
    if "seed" in fields:
        table = np.moveaxis(table, fields.index("seed"), -1)
        parts = [*variances(table.mean(-1)), float(table.var(-1).mean())]
        names += ["interactions", "chance"]
        method = "chance is the variance among seeds"
    else:
        parts = variances(table)
        names += ["interactions and chance"]
        method = "one seed cannot tell interactions from chance"
    shares = {name: part / sum(parts) for name, part in zip(names, parts, strict=True)}
    return Importance(shares, None, f"exact shares of the variance, as every combination was trained; {method}")


def estimate(rows: Sequence[Row], results: np.ndarray, space: Space) -> Importance | None:
    """Shares of a Gaussian process fitted to the settings; None where the space needs too large a grid.

    Functions drawn from its posterior are evaluated on a grid, whose shares are exact. The error is their
    spread over fits to halves of the settings, since one fit is too sure of its own kernel. Optuna's fANOVA
    states no error, and is further from known shares of smooth functions (docs/sweeps.md).
    """
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    grids = ([levels_of(each, count) for each in space.values()] for count in range(MOST_LEVELS, 1, -1))
    levels = next((grid for grid in grids if math.prod(map(len, grid)) <= MOST_POINTS), None)
    if levels is None:
        return None
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(rows))[:MOST_FITTED]
    inputs = np.array([np.concatenate([encode(space[f], value_of(rows[i], f)) for f in space]) for i in chosen])
    targets = (results[chosen] - results.mean()) / results.std()
    lengths = RBF(np.full(inputs.shape[1], 0.5), (0.05, 20.0))
    kernel = ConstantKernel(1.0, (1e-2, 1e3)) * lengths + WhiteKernel(0.01, (1e-5, 1.0))
    kernel, draws = shares_of_draws(kernel, inputs, targets, levels)
    halves = (rng.permutation(len(chosen))[::2] for _ in range(REFITS))
    others = [shares_of_draws(kernel, inputs[each], targets[each], levels)[1] for each in halves]
    shares = draws.mean(0)
    errors = 2 * np.sqrt(((np.concatenate(others) - shares) ** 2).mean(0))
    names = [*space, "interactions", "chance"]
    return Importance(
        dict(zip(names, shares.tolist(), strict=True)),
        dict(zip(names, errors.tolist(), strict=True)),
        f"estimated shares of the variance, by a Gaussian process fitted to {len(chosen)} settings; ± is two "
        f"standard deviations, from fits to halves of them",
    )


def shares_of_draws(
    kernel: Any, inputs: np.ndarray, targets: np.ndarray, levels: Sequence[Sequence[np.ndarray]]
) -> tuple[Any, np.ndarray]:
    """The fitted kernel, and the shares [draws, names] of functions drawn from the posterior on a grid."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: a field of no effect
        fitted = GaussianProcessRegressor(kernel).fit(inputs, targets).kernel_
    noise = fitted.k2.noise_level
    model = GaussianProcessRegressor(fitted.k1, alpha=noise, optimizer=None).fit(inputs, targets)
    points = np.array([np.concatenate(point) for point in itertools.product(*levels)])
    functions = model.sample_y(points, DRAWS, random_state=0).T.reshape(DRAWS, *map(len, levels))
    parts = np.array([[*variances(table), noise] for table in functions])
    return fitted, parts / parts.sum(1, keepdims=True)


def levels_of(distribution: Distribution, count: int) -> list[np.ndarray]:
    """Encoded values of a field: all choices, or `count` of an interval."""
    if isinstance(distribution, CategoricalDistribution):
        return [encode(distribution, value) for value in distribution.choices]
    return [np.array([(i + 0.5) / count]) for i in range(count)]


def encode(distribution: Distribution, value: Any) -> np.ndarray:
    """A value as coordinates from 0 to 1: one of a number, one for each choice of others.

    A number is .5 where it is None, since the loss does not take the field.

    >>> encode(CategoricalDistribution(("sgd", "adam")), "adam").tolist()
    [0.0, 1.0]
    """
    if not isinstance(distribution, CategoricalDistribution):
        scale = math.log if distribution.log else float
        low, high = scale(distribution.low), scale(distribution.high)
        return np.array([0.5 if value is None else (scale(value) - low) / (high - low)])
    if any(isinstance(each, str | bool | None) for each in distribution.choices):
        return np.array([float(value == each) for each in distribution.choices])
    return np.array([positions(distribution.choices).get(value, 0.5)])
