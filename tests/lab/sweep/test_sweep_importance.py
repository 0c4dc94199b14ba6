"""Importance against known shares: exact on a full grid, and left out elsewhere."""

import numpy as np
import pytest

from jaxce.lab.config import load_config
from jaxce.lab.sweep.importance import importance_of, variances
from jaxce.lab.sweep.plan import Plan, settings_of


def plan_of(*over, sampler="grid", trials=None):
    return Plan("iris", load_config("iris"), over, sampler, trials, False, "accuracy")


def row(setting, values, result, state="complete"):
    return {"setting": setting, "state": state, "values": values, "valid": {"accuracy": result}}


def rows_of(plan, result):
    return [row(i, values, result(**values)) for i, values in enumerate(settings_of(plan))]


def ten_to_one(learning_rate, momentum):
    """10 a + b, of two numbers from 0 to 1."""
    return 10 * (np.log10(learning_rate) / 2 + 1) + momentum / 0.9


def two_to_one(learning_rate, momentum):
    return 2 * (np.log10(learning_rate) / 2 + 1) + momentum / 0.9


def test_variances_of_a_grid_are_those_by_hand():
    # Rows have means 2 and 7, columns 3, 5 and 5.5; all have mean 4.5, and variance 9.25.
    table = np.array([[1.0, 2.0, 3.0], [5.0, 8.0, 8.0]])
    rows, columns = (2.5**2), ((1.5**2 + 0.5**2 + 1.0**2) / 3)
    np.testing.assert_allclose(variances(table), [rows, columns, table.var() - rows - columns])


def test_a_full_grid_has_exact_shares():
    plan = plan_of("learning_rate=0.01..1:log:3", "momentum=0..0.9:4")
    found = importance_of(rows_of(plan, ten_to_one), plan)
    a, b = 100 * (1 / 6), 1 * (5 / 36)  # the variances of 0, 1/2, 1 and of 0, 1/3, 2/3, 1
    shares = {"learning_rate": a / (a + b), "momentum": b / (a + b), "interactions and chance": 0}
    assert found.shares == pytest.approx(shares)
    assert f"{found}".startswith("what explains the differences: learning rate 99 %, momentum 1 %, ")
    assert "exact shares of the variance, as every combination was trained" in found.method


def test_an_interaction_has_its_own_share():
    plan = plan_of("learning_rate=0.1,0.2", "momentum=0.1,0.2", "seed=seeds:2")
    rows = rows_of(plan, lambda learning_rate, momentum, seed: float(learning_rate == momentum))
    shares = importance_of(rows, plan).shares
    assert shares == pytest.approx({"learning_rate": 0, "momentum": 0, "interactions": 1, "chance": 0})


def test_the_variance_among_seeds_is_chance():
    plan = plan_of("seed=seeds:2", "learning_rate=0.1,0.2")
    rows = rows_of(plan, lambda seed, learning_rate: (6 + 2 * seed) * (learning_rate == 0.2))
    found = importance_of(rows, plan)
    # The means are 0 and 7, the variances among seeds 0 and 1.
    assert found.shares == pytest.approx({"learning_rate": 49 / 51, "interactions": 0, "chance": 2 / 51})
    assert "chance is the variance among seeds" in f"{found}"


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_settings_of_a_sampler_have_no_exact_shares(sampler):
    plan = plan_of("learning_rate=0.01..1:log", "momentum=0..0.9", sampler=sampler, trials=4)
    values = [{"learning_rate": rate, "momentum": 0.1 * i} for i, rate in enumerate([0.01, 0.1, 0.3, 1.0])]
    rows = [row(i, each, two_to_one(**each)) for i, each in enumerate(values)]
    assert importance_of(rows, plan) is None


def test_a_grid_with_a_pruned_or_failed_setting_has_no_exact_shares():
    plan = plan_of("learning_rate=0.1,0.2,0.3", "momentum=0..0.9:2")
    rows = rows_of(plan, two_to_one)
    assert importance_of(rows[:4], plan) is not None  # of two of its values of the learning rate
    for state in ("failed", "pruned"):
        assert importance_of([*rows[:5], rows[5] | {"state": state}], plan) is None


def test_importance_is_left_out_where_nothing_can_be_said():
    two = plan_of("learning_rate=0.1,0.2", "momentum=0.1,0.2")
    rows = rows_of(two, two_to_one)
    assert importance_of(rows, two) is not None
    assert importance_of(rows[:3], two) is None  # no grid
    assert importance_of(rows[:2], two) is None  # one field varies
    assert importance_of([row | {"state": "failed"} for row in rows], two) is None
    assert importance_of([row | {"valid": {"accuracy": 0.5}} for row in rows], two) is None
