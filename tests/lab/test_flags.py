"""A config written as flags comes back from them; each mistake in a flag is named."""

from dataclasses import asdict, fields, replace

import pytest

from jaxce.lab.config import Config
from jaxce.lab.errors import ConfigError
from jaxce.lab.flags import SweepFlags, TrainFlags, read_flags, write_flags

SOFT = Config(loss="softmax_cross_entropy", data="captcha")
FOCAL = Config(loss="softmax_focal_loss")
ASYMMETRIC = Config(loss="asymmetric_loss")
ARCFACE = Config(head="arcface")

# For each field: a config, and another value.
CHANGES = {
    "data": (Config(), "my own digits.npz"),
    "valid_fraction": (Config(), 1 / 3),
    "test_fraction": (Config(), 1e-5),
    "split_seed": (Config(), 2**32 - 1),
    "model": (Config(), "mlp"),
    "widths": (Config(), (4, 8, 16)),
    "loss": (Config(), "softmax_focal_loss"),
    "joint_softmax": (SOFT, True),
    "label_smoothing": (Config(), 0.1),
    "z_loss": (Config(), 1e-4),
    "pos_weight": (Config(loss="sigmoid_binary_cross_entropy"), 2.0),
    "alpha": (FOCAL, 0.25),
    "gamma": (FOCAL, 3.0),
    "epsilon": (Config(loss="poly_loss_cross_entropy"), -0.5),
    "gamma_neg": (ASYMMETRIC, 4.0),
    "gamma_pos": (ASYMMETRIC, 1.0),
    "clip": (ASYMMETRIC, 0.05),
    "head": (Config(), "cosface"),
    "margin": (ARCFACE, 0.3),
    "scale": (ARCFACE, 16.0),
    "margin_epochs": (ARCFACE, 0.5),
    "embedding_width": (Config(), 8),
    "num_sampled": (Config(), 100),
    "class_devices": (Config(), 2),
    "optimizer": (Config(), "lion"),
    "learning_rate": (Config(), 1.1e-7),
    "schedule": (Config(), "constant"),
    "warmup_epochs": (Config(), 0.5),
    "momentum": (Config(), 0.0),
    "weight_decay": (Config(), 0.01),
    "clip_norm": (Config(), 1.0),
    "ema_decay": (Config(), 0.999),
    "batch_size": (Config(), None),
    "epochs": (Config(), 3),
    "seed": (Config(), 7),
}


def test_every_field_is_among_the_changes():
    assert set(CHANGES) == {field.name for field in fields(Config)}


@pytest.mark.parametrize("name", CHANGES)
def test_flags_turn_one_config_into_another_and_back(name):
    one, value = CHANGES[name]
    other = replace(one, **{name: value})
    assert one != other
    for base, config in ((one, other), (other, one)):
        flags = write_flags(asdict(config), base)
        assert read_flags((base,), flags, "jaxce train", "") == (config,)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "-mine.npz"},
        {"data": "--mine.npz"},
        {"model": "linear", "widths": ()},
        {"widths": None, "seed": 1, "label_smoothing": 0.0, "clip_norm": 1e30},
    ],
)
def test_awkward_values_come_back_from_flags(changes):
    config = Config(**changes)
    base = Config(model="mlp", widths=(5,))
    flags = write_flags(asdict(config), base)
    assert read_flags((base,), flags, "jaxce train", "") == (config,)


def test_a_config_as_json_has_it_is_no_change():
    config = Config(widths=(4, 8))
    assert write_flags({**asdict(config), "widths": [4, 8]}, config) == []


def test_fields_that_a_config_lacks_are_those_of_the_base():
    assert write_flags({"seed": 1, "gone": 2}, Config(epochs=5)) == ["--seed", "1"]


@pytest.mark.parametrize("words", [["a=1", "b=2", "--over", "c=3"], ["a=1", "--over", "b=2", "c=3"]])
def test_over_is_given_once_or_several_times(words):
    flags, _ = read_flags((SweepFlags(), Config()), ["--over", *words, "--seed", "1"], "jaxce sweep", "")
    assert [item for items in flags.over for item in items] == ["a=1", "b=2", "c=3"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--no-joint-softmax", "--epochs", "many"], "--epochs takes a whole number, not 'many'"),
        (["--joint-softmax", "False"], "--joint-softmax takes no value, not 'False'"),
        (["--no-resume"], "unknown flag --no-resume, did you mean --resume?"),
        (["--epochs"], "--epochs takes a whole number, not ''"),
        (["-e", "3"], "cannot read '-e 3'; see jaxce train --help"),
        (["--keep", "0"], "keep must be at least 1, not 0"),
        (["--process-id", "0"], "process_id needs a coordinator"),
    ],
)
def test_the_flag_that_does_not_fit_is_named(args, message):
    with pytest.raises(ConfigError) as caught:
        read_flags((TrainFlags(), Config()), args, "jaxce train", "")
    assert str(caught.value).startswith(message)
