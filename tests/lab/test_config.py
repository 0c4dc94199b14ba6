from dataclasses import FrozenInstanceError, fields, replace

import pytest

import jaxce
from jaxce.lab.config import (
    HYPERPARAMS,
    LOSS_OPTIONS,
    TRAINABLE_LOSSES,
    Config,
    describe_configs,
    find_configs,
    hyperparams,
    load_config,
)
from jaxce.lab.errors import ConfigError


def test_a_config_is_a_value():
    assert Config(seed=1) == Config(seed=1)
    assert hash(Config(seed=1)) == hash(Config(seed=1))
    assert Config(seed=1) != Config(seed=2)
    assert Config(widths=[4, 5]) == Config(widths=(4, 5))
    with pytest.raises(FrozenInstanceError):
        Config().seed = 1


def test_every_number_of_every_loss_has_a_field():
    not_numbers = {"axis", "where", "class_weights", "ignore_index"}
    options = {option for name in TRAINABLE_LOSSES for option in jaxce.LOSSES[name].options} - not_numbers
    assert options <= set(LOSS_OPTIONS)
    assert set(HYPERPARAMS) <= {field.name for field in fields(Config)}


def test_hyperparams_are_the_numbers_that_are_set():
    numbers = hyperparams(Config(learning_rate=0.5, clip_norm=2, z_loss=0.1))
    assert numbers == {
        "learning_rate": 0.5,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "clip_norm": 2.0,
        "z_loss": 0.1,
    }
    assert all(isinstance(number, float) for number in numbers.values())


def test_an_option_of_another_loss_is_refused():
    with pytest.raises(
        ConfigError, match=r"^gamma is no option of softmax.*, which takes label_smoothing, z_loss$"
    ):
        Config(gamma=2.0)


def test_the_loss_itself_judges_the_range_of_its_options():
    with pytest.raises(ConfigError, match=r"label_smoothing.*1\.5"):
        Config(label_smoothing=1.5)
    with pytest.raises(ConfigError, match=r"gamma.*-1"):
        Config(loss="sigmoid_focal_loss", gamma=-1.0)
    assert Config(loss="sigmoid_focal_loss", gamma=0.0).gamma == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "digit"}, "unknown data 'digit', did you mean digits?"),
        ({"loss": "sigmoid_focal"}, "unknown loss 'sigmoid_focal', did you mean sigmoid_focal_loss?"),
        ({"valid_fraction": 0.0}, "valid_fraction must be between 0 and 1, not 0.0"),
        ({"test_fraction": 1.0}, "test_fraction must be between 0 and 1, not 1.0"),
        ({"valid_fraction": 0.5, "test_fraction": 0.5}, "valid_fraction + test_fraction must be below 1"),
        ({"model": "cnnn"}, "model must be one of cnn, group_norm_cnn, mlp, linear, not 'cnnn'"),
        ({"epochs": "ten"}, "epochs must be a whole number, not 'ten'"),
        ({"epochs": 1.5}, "epochs must be a whole number, not 1.5"),
        ({"learning_rate": True}, "learning_rate must be a number, not True"),
        ({"widths": (32, "x")}, "widths must be whole numbers or None, not (32, 'x')"),
        ({"widths": (32, 0)}, "widths must be at least 1 each, not (32, 0)"),
        ({"widths": (32,)}, "widths of model cnn must be two or more, the last a dense layer's, not (32,)"),
        ({"model": "mlp", "widths": ()}, "widths of model mlp must be one or more, not ()"),
        ({"model": "linear", "widths": (32,)}, "widths of model linear must be none, not (32,)"),
        ({"seed": -1}, "seed must be from 0 to 2**32 - 1, not -1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and finite, not 0.0"),
        ({"learning_rate": float("inf")}, "learning_rate must be above 0 and finite, not inf"),
        ({"clip_norm": -1.0}, "clip_norm must be above 0 and finite, not -1.0"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, not 1.0"),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1, not 1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0 and finite, not -0.1"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"warmup_epochs": 11.0, "epochs": 10}, "warmup_epochs must be from 0 to epochs = 10, not 11.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, or None for all examples, not 0"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_would(changes, message):
    with pytest.raises(ConfigError) as caught:
        replace(Config(), **changes)
    assert message in str(caught.value)


def test_each_config_loads_and_says_what_it_shows():
    assert {"digits", "tumor", "iris"} <= set(find_configs())
    for name, line in describe_configs().items():
        assert name.startswith(load_config(name).data)  # captcha_sigmoid is another way to read the captchas
        assert line.endswith(".")


def test_a_config_is_found_by_name_in_the_current_folder_first(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.py").write_text(
        "from jaxce.lab.config import Config\nconfig = Config(epochs=7)\n"
    )
    assert load_config("digits").epochs != 7
    monkeypatch.chdir(tmp_path)
    assert load_config("digits").epochs == 7


def test_an_installed_package_has_its_configs_within(tmp_path, monkeypatch):
    (tmp_path / "jaxce" / "configs").mkdir(parents=True)
    (tmp_path / "jaxce" / "configs" / "own.py").touch()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "strange.py").touch()  # of another package beside it
    monkeypatch.setattr(jaxce, "__file__", str(tmp_path / "jaxce" / "__init__.py"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert find_configs() == {"own": tmp_path / "jaxce" / "configs" / "own.py"}


def test_a_config_is_found_by_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from jaxce.lab.config import Config\nconfig = Config(epochs=3)\n")
    assert load_config(str(path)).epochs == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nconfig = Config()\n", "line 2: NameError: name 'Config' is not defined"),
        ("x = (\n", "line 1: '(' was never closed"),
        (
            "from jaxce.lab.config import Config\n\nconfig = Config(\n    epochs=0,\n)\n",
            "line 3: epochs must be at least 1, not 0",
        ),
        ("from jaxce.lab.config import Config\nconfig = Config(epoch=1)\n", "line 2: TypeError: "),
        ("config = {}\n", " defines no `config`: it must end with `config = Config(...)`"),
    ],
)
def test_an_error_in_a_config_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "wrong.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "unknown config 'digit', did you mean digits?; there are: "),
        ("nowhere.py", "there is no config file nowhere.py"),
    ],
)
def test_a_config_that_is_not_there_is_told_with_what_is(name, message):
    with pytest.raises(ConfigError) as caught:
        load_config(name)
    assert message in str(caught.value)
