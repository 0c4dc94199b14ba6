"""What is read from --over, which settings that makes, and which of them share a program."""

import json
from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from jaxce.lab.config import Config, load_config
from jaxce.lab.errors import ConfigError
from jaxce.lab.sweep.plan import Plan, program_of, settings_of
from jaxce.lab.sweep.space import apply, parse_space

IRIS = replace(load_config("iris"), epochs=3)


def grid(*over, base=IRIS):
    return Plan("iris", base, over, "grid", None, False, "accuracy")


def rows_in(workdir):
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


# What --over says


@pytest.mark.parametrize(
    ("item", "distribution"),
    [
        ("learning_rate=0.1,0.2", CategoricalDistribution((0.1, 0.2))),
        ("learning-rate=1,1", CategoricalDistribution((1.0,))),
        ("learning_rate=1e-4..1e-1", FloatDistribution(1e-4, 1e-1)),
        ("learning_rate=1e-4..1e-1:log", FloatDistribution(1e-4, 1e-1, log=True)),
        ("learning_rate=1e-4..1e-1:log:4", CategoricalDistribution((1e-4, 1e-3, 1e-2, 1e-1))),
        ("label_smoothing=0..0.2:3", CategoricalDistribution((0.0, 0.1, 0.2))),
        ("label_smoothing=range:0:0.3:0.1", CategoricalDistribution((0.0, 0.1, 0.2, 0.3))),
        ("epochs=1..4", IntDistribution(1, 4)),
        ("epochs=range:10:35:10", CategoricalDistribution((10, 20, 30))),
        ("epochs=1..100:log:3", CategoricalDistribution((1, 10, 100))),
        ("seed=seeds:3", CategoricalDistribution((0, 1, 2))),
        ("clip_norm=None,1", CategoricalDistribution((None, 1.0))),
        ("batch_size=None,32", CategoricalDistribution((None, 32))),
        ("widths=16x32x64,8x16,None", CategoricalDistribution(("16x32x64", "8x16", None))),
        ("optimizer=sgd,adam", CategoricalDistribution(("sgd", "adam"))),
        (
            "loss=softmax,sigmoid,focal",
            CategoricalDistribution(
                (
                    "softmax_cross_entropy_with_integer_labels",
                    "sigmoid_binary_cross_entropy",
                    "softmax_focal_loss",
                ),
            ),
        ),
    ],
)
def test_a_spec_is_read_by_the_type_of_its_field(item, distribution):
    assert list(parse_space([item]).values()) == [distribution]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["learning_rat=1"], "no field 'learning_rat', did you mean learning_rate"),
        (["learning_rate"], "FIELD=SPEC"),
        (["seed=1", "seed=2"], "seed twice"),
        (["learning_rate=fast"], "learning_rate takes a number, not 'fast'"),
        (["learning_rate="], "learning_rate takes a number, not ''"),
        (["learning_rate=1,,2"], "learning_rate takes a number, not ''"),
        (["epochs=1.5"], "epochs takes a whole number, not '1.5'"),
        (["epochs=1..2.5"], "epochs takes a whole number, not '2.5'"),
        (["optimizer=adma"], "optimizer takes one of sgd, momentum, adam"),
        (["optimizer=adam..sgd"], "optimizer has no range: it takes one of"),
        (["data=a..b"], "data has no range"),
        (["clip_norm=None..1"], "clip_norm has no range"),
        (["learning_rate=nan..1"], "learning_rate takes a number, not 'nan'"),
        (["learning_rate=1e999..1"], "learning_rate has no range"),
        (["epochs=True"], "epochs takes a whole number, not 'True'"),
        (["joint_softmax=1"], "joint_softmax takes True or False, not '1'"),
        (["loss=softmx"], "did you mean softmax"),
        (["widths=16,32"], None),
        (["widths=16x"], "as in 16x32"),
        (["learning_rate=1..0.1"], "lower end comes first"),
        (["learning_rate=0..1:log"], "needs it above 0"),
        (["learning_rate=0.1..1:lin"], "behind lo..hi goes"),
        (["learning_rate=0.1..1:5:log"], "behind lo..hi goes"),
        (["learning_rate=0.1..1:0"], "behind lo..hi goes"),
        (["learning_rate=range:0:1"], "range:lo:hi:by"),
        (["learning_rate=range:0:1:0"], "step above 0"),
        (["learning_rate=range:1:0:0.1"], "goes up"),
        (["learning_rate=seeds:3"], "not for learning_rate"),
        (["seed=seeds:0"], "how many seeds"),
    ],
)
def test_a_spec_that_does_not_fit_its_field_says_so(items, message):
    if message is None:
        assert parse_space(items) == {"widths": CategoricalDistribution(("16", "32"))}
        return
    with pytest.raises(ConfigError, match=message):
        parse_space(items)


# Which settings there are


def test_a_grid_is_every_combination_group_by_group():
    settings = settings_of(grid("learning_rate=0.1,0.2", "optimizer=sgd,adam", "seed=seeds:2"))
    assert len(settings) == 8
    assert [setting["optimizer"] for setting in settings] == ["sgd"] * 4 + ["adam"] * 4
    assert len({tuple(setting.values()) for setting in settings}) == 8


def test_settings_that_differ_in_unused_options_run_once():
    settings = settings_of(
        grid("loss=softmax,focal", "label_smoothing=0,0.1", "gamma=1,2", base=replace(IRIS, z_loss=1e-4))
    )
    configs = [apply(IRIS, setting) for setting in settings]
    assert [(config.label_smoothing, config.gamma) for config in configs] == [
        (0.0, None),
        (0.1, None),
        (None, 1.0),
        (None, 2.0),
    ]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (("learning_rate=0.1,-1",), "setting learning_rate=-1: learning_rate must be above 0"),
        (("gamma=1,2",), "gamma is no option of"),
        (("learning_rate=0.1..1",), "say how many values, as in 0.1..1:5"),
        (("seed=0..99999", "epochs=1..99"), "a grid of 9,900,000 settings"),
    ],
)
def test_a_setting_that_does_not_fit_is_named_at_the_start(over, message):
    with pytest.raises(ConfigError, match=message):
        settings_of(grid(*over))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_ends_of_an_interval_are_checked_at_the_start(sampler):
    with pytest.raises(ConfigError, match="momentum must be at least 0 and below 1"):
        settings_of(Plan("iris", IRIS, ("momentum=0.99..2",), sampler, 1, False, "accuracy"))


def test_random_settings_lie_in_their_interval_and_repeat():
    plan = Plan("iris", IRIS, ("learning_rate=1e-3..1:log", "epochs=2..5"), "random", 40, False, "accuracy")
    settings = settings_of(plan)
    assert settings == settings_of(plan)
    rates = np.array([setting["learning_rate"] for setting in settings])
    assert rates.min() >= 1e-3
    assert rates.max() <= 1
    assert 10 < (rates < 10**-1.5).sum() < 30  # evenly by the logarithm
    assert {setting["epochs"] for setting in settings} == {2, 3, 4, 5}


def test_numbers_share_a_program_and_shapes_do_not():
    base = Config(label_smoothing=0.1, clip_norm=1.0)
    for change in ({"learning_rate": 1.0}, {"label_smoothing": 0.0}, {"seed": 7}, {"clip_norm": 5.0}):
        assert program_of(replace(base, **change)) == program_of(base)
    for change in (
        {"clip_norm": None},
        {"batch_size": 3},
        {"epochs": 3},
        {"loss": "softmax_focal_loss", "label_smoothing": None},
    ):
        assert program_of(replace(base, **change)) != program_of(base)
