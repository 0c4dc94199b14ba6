"""How far importance in sweeps is from known shares: `python docs/importance.py` prints a table of sweeps.md.

Settings proposed by TPE for functions of two numbers from 0 to 1, whose shares of the variance are known.
"""

from collections.abc import Callable

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator

from jaxce.lab.config import load_config
from jaxce.lab.sweep.importance import importance_of
from jaxce.lab.sweep.plan import Plan, quiet

STUDIES = 10
FIELDS = ("momentum", "label_smoothing")
PLAN = Plan("iris", load_config("iris"), ("momentum=0..1", "label_smoothing=0..1"), "tpe", 1, False, "accuracy")
FUNCTIONS: dict[str, tuple[Callable[[float, float], float], float, float, float]] = {
    "10 a + b": (lambda a, b: 10 * a + b, 100 / 101, 1 / 101, 0.0),
    "2 a + b": (lambda a, b: 2 * a + b, 4 / 5, 1 / 5, 0.0),
    "2 a + b, and a fifth of chance": (lambda a, b: 2 * a + b, 16 / 25, 4 / 25, (5 / 12 / 4) ** 0.5),
    "a b": (lambda a, b: a * b, 3 / 7, 3 / 7, 0.0),
    "2 [a > ½] + [b > ½]": (lambda a, b: 2 * (a > 0.5) + (b > 0.5), 4 / 5, 1 / 5, 0.0),
}


def distances(words: str, trials: int, seed: int) -> list[tuple[float, float, bool]]:
    """Of each field: the distance of Optuna's fANOVA, that of the sweep, and whether its error covers it."""
    function, *shares, noise = FUNCTIONS[words]
    rng = np.random.default_rng(seed)

    def objective(trial: optuna.Trial) -> float:
        return function(*(trial.suggest_float(field, 0, 1) for field in FIELDS)) + noise * rng.standard_normal()

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, trials)
    forest = FanovaImportanceEvaluator(seed=0).evaluate(study)
    rows = [
        {"state": "complete", "values": trial.params, "valid": {"accuracy": trial.value}}
        for trial in study.trials
    ]
    found = importance_of(rows, PLAN)
    return [
        (
            abs(forest[field] - share),
            abs(found.shares[field] - share),
            abs(found.shares[field] - share) <= found.errors[field] + 0.01,
        )
        for field, share in zip(FIELDS, shares, strict=True)
    ]


if __name__ == "__main__":
    with quiet():
        for words in FUNCTIONS:
            for trials in (20, 40, 80):
                found = [distances(words, trials, seed) for seed in range(STUDIES)]
                forest, process, covered = 100 * np.mean(found, (0, 1))
                print(f"| {words} | {trials} | {forest:.1f} | {process:.1f} | {covered:.0f} % |")
