"""The built-in networks against their layers, and models of other libraries, as docs/models.md shows them."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxce.lab.config import Config, hyperparams, load_config
from jaxce.lab.data import Dataset, Examples
from jaxce.lab.errors import ConfigError
from jaxce.lab.models import (
    adapt,
    built_in,
    convolve_by_patches,
    convolve_directly,
    make_model,
    max_pool,
    split,
)
from jaxce.lab.tasks import make_task
from jaxce.lab.training.loop import run
from jaxce.lab.training.step import make_train

ROOT = Path(__file__).parents[2]
KEY = jax.random.key(0)
MODELS = [
    ("cnn", 10, None),
    ("cnn", 3, (4, 5)),
    ("mlp", 3, None),
    ("mlp", 2, (6, 5)),
    ("linear", 3, None),
]


def network(name, num_outputs, widths=None):
    return adapt(built_in(name, num_outputs, widths), wrap=False)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_outputs", "widths"), MODELS)
def test_a_batch_is_its_examples(name, num_outputs, widths, rng):
    model = network(name, num_outputs, widths)
    images = rng.normal(size=(3, 8, 8, 2)).astype(np.float32)
    params = model.init(KEY, images[:1])
    outputs, carried = model.apply(params, images, None)
    assert carried == {}
    assert outputs.shape == (3, num_outputs)
    for image, output in zip(images, outputs, strict=True):
        alone, _ = model.apply(params, image[None], None)
        np.testing.assert_allclose(alone[0], output, rtol=1e-5, atol=1e-6)


def test_the_digits_network_has_the_layers_it_is_said_to_have():
    params = network("cnn", 10).init(KEY, jnp.zeros((1, 8, 8, 1)))
    kernels = [layer["kernel"].shape for layer in params.values()]
    assert kernels == [(3, 3, 1, 32), (3, 3, 32, 64), (2 * 2 * 64, 128), (128, 10)]
    assert all((layer["bias"] == 0).all() for layer in params.values())


def test_the_networks_are_their_layers_one_after_the_other(rng):
    images = rng.normal(size=(3, 8, 8, 2)).astype(np.float32)

    def affine(x, layer):
        return np.asarray(x) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    def stage(x, layer):
        x = jax.nn.relu(
            convolve_directly(jnp.asarray(x), layer["kernel"]) + np.asarray(layer["bias"])[None, None, None]
        )
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    for model in (network("cnn", 3, (4, 5, 6)), network("mlp", 3, (6, 5))):
        params = model.init(KEY, images[:1])
        # Biases away from zero, so that one left out is seen.
        params = jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32), params)
        *hidden, last = params.values()
        x = images
        for name, layer in zip(params, hidden, strict=False):
            if name.startswith("Convolution"):
                x = stage(x, layer)
            else:
                x = jax.nn.relu(affine(np.asarray(x).reshape(3, -1), layer))
        outputs, _ = model.apply(params, images, None)
        np.testing.assert_allclose(outputs, affine(x, last), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_kernel_keeps_the_scale_of_its_inputs():
    images = jax.random.normal(KEY, (64, 8, 8, 16))
    params = network("cnn", 2, (32, 2)).init(jax.random.key(1), images[:1])
    outputs = convolve_directly(images, params["Convolution_0"]["kernel"])
    np.testing.assert_allclose(outputs[:, 1:-1, 1:-1].std(), 1.0, rtol=0.1)


def test_a_linear_model_starts_at_zero_and_is_linear():
    model = network("linear", 2)
    params = model.init(KEY, jnp.zeros((1, 3)))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(params))
    (layer,) = params.values()
    layer["kernel"], layer["bias"] = jnp.arange(6.0).reshape(3, 2), jnp.array([10.0, 20.0])
    np.testing.assert_array_equal(model.apply(params, jnp.array([[1.0, 0, 2]]), None)[0], [[18.0, 31.0]])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (3, 5, 7, 4), (1, 1, 2, 3)])
def test_convolution_by_patches_equals_the_compilers(shape, rng):
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, shape[-1], 6)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(*shape[:-1], 6)), jnp.float32)
    values = [
        (*jax.vjp(convolve, images, kernel)[1](weights), convolve(images, kernel))
        for convolve in (convolve_by_patches, convolve_directly)
    ]
    for ours, theirs in zip(*values, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 5, 7, 3)])
def test_pooling_equals_a_windowed_maximum(shape, rng):
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    window = jax.lax.reduce_window(images, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    np.testing.assert_array_equal(max_pool(images), window)


# Models of other libraries


PAGE = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.S))
MAKERS = {"linen_model": "Network", "nnx_model": "make", "equinox_model": "make", "plain_model": "make"}


@pytest.fixture
def page_model(tmp_path, monkeypatch):
    """The name of a model whose code is a block of docs/models.md, in a file of the current folder."""
    monkeypatch.chdir(tmp_path)

    def name(block):
        if block == "equinox_model":
            pytest.importorskip("equinox")
        (tmp_path / f"{block}.py").write_text(PAGE[block])
        return f"{block}.py:{MAKERS[block]}"

    with jax.numpy_rank_promotion("allow"):
        yield name


def clouds(rng):
    labels = np.arange(60, dtype=np.int32) % 3
    return Examples((2 * np.eye(3)[labels] + rng.normal(size=(60, 3))).astype(np.float32), labels)


def trained(config, examples):
    """Functions and states before and after training."""
    task = make_task(config, Dataset(examples, examples, examples, classes=("a", "b", "c")))
    functions = make_train(config, (3,), task, len(examples.labels))
    numbers = hyperparams(config)
    state = functions.init(KEY, numbers)
    states, epoch = [state], jax.jit(functions.train_epoch)
    for _ in range(config.epochs):
        state, _ = epoch(state, numbers, examples)
        states.append(state)
    return functions, states


def test_the_page_has_these_models():
    assert PAGE.keys() == MAKERS.keys()


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, marks=pytest.mark.slow) if b in ("nnx_model", "equinox_model") else b for b in MAKERS],
)
def test_a_model_of_the_page_learns_and_resumes(block, page_model, tmp_path):
    config = Config(
        data="iris", model=page_model(block), learning_rate=3e-2, ema_decay=0.9, batch_size=16, epochs=8
    )
    summary = run(config, tmp_path / "run")
    assert summary["test"]["accuracy"] > 0.8
    before = (tmp_path / "run" / "report.html").read_bytes()
    again = run(config, tmp_path / "run", resume=True)  # the last checkpoint, whole, with what is carried
    assert again["test"] == summary["test"]
    assert len(before) > 1000


@pytest.mark.parametrize(
    "block", ["linen_model", *(pytest.param(b, marks=pytest.mark.slow) for b in ("nnx_model", "equinox_model"))]
)
def test_dropout_is_of_training_steps_alone(block, page_model, rng):
    model = make_model(Config(model=page_model(block)), 3, (4,))
    inputs = rng.normal(size=(16, 4)).astype(np.float32)
    params = model.init(KEY, inputs[:1])
    keys = None, None, KEY, KEY, jax.random.key(1)
    outputs = [model.apply(params, inputs, key)[0] for key in keys]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[2], outputs[3])
    assert not np.allclose(outputs[0], outputs[2])
    assert not np.allclose(outputs[2], outputs[4])


@pytest.mark.parametrize("block", ["linen_model", pytest.param("nnx_model", marks=pytest.mark.slow)])
def test_batch_statistics_are_carried_and_not_trained(block, page_model, rng):
    config = Config(model=page_model(block), learning_rate=1e-9, batch_size=60, schedule="constant", epochs=2)
    examples = clouds(rng)
    functions, states = trained(config, examples)
    before, first, second = (
        np.concatenate([x.ravel() for x in jax.tree.leaves(split(s.params)[1])]) for s in states
    )
    # Each step goes on from the statistics of the one before, by one share of the way.
    np.testing.assert_allclose((second - first) / (first - before), 0.99, rtol=1e-2)
    outputs = [
        functions.evaluate(states[-1]._replace(params=states[-1].params | split(each.params)[1]), {}, examples)[
            "outputs"
        ]
        for each in states
    ]
    assert not np.allclose(outputs[0], outputs[2])
    assert "batch_stats" not in states[0].params["network"]


@pytest.mark.slow
def test_a_margin_head_goes_behind_any_model(page_model, rng):
    config = Config(model=page_model("plain_model"), head="cosface", embedding_width=5, epochs=2)
    functions, states = trained(config, clouds(rng))
    assert set(states[-1].params) == {"network", "head"}
    assert functions.evaluate(states[-1], hyperparams(config), clouds(rng))["outputs"].shape == (60, 5)


def test_a_config_file_names_a_function_by_itself(page_model, tmp_path):
    text = PAGE["plain_model"] + "\n\nfrom jaxce.lab.config import Config\nconfig = Config(model=make)\n"
    (tmp_path / "mine.py").write_text(text)
    config = load_config("mine.py")
    assert config.model == "mine.py:make"
    assert hash(config) == hash(replace(config))
    assert make_model(config, 3, (4,)).init(KEY, jnp.zeros((1, 4)))["network"]["kernel"].shape == (4, 3)


def test_a_module_is_found_in_the_current_folder(page_model, tmp_path):
    page_model("plain_model")
    params = make_model(Config(model="plain_model:make"), 2, (4,)).init(KEY, jnp.zeros((1, 4)))
    assert params["network"]["bias"].shape == (2,)


BROKEN = """
from types import SimpleNamespace as Pair
import jax.numpy as jnp
def init(key, inputs): return {"bias": jnp.zeros(3)}
def empty(num_outputs): return Pair()
def fails(num_outputs): raise ValueError("no room")
def wide(num_outputs): return Pair(init=init, apply=lambda params, inputs: jnp.zeros((len(inputs), 7)))
def whole(num_outputs): return Pair(
    init=lambda key, inputs: jnp.zeros(3, int), apply=lambda params, inputs: jnp.zeros((len(inputs), 3)))
def images(num_outputs): return Pair(init=init, apply=lambda params, inputs: inputs[:, :, :, 0])
def drops(num_outputs): return Pair(init=lambda key, inputs: {"params": jnp.zeros(1.0), "stats": jnp.zeros(2)},
    apply=lambda params, inputs: jnp.zeros((len(inputs), 3)))
def grows(num_outputs): return Pair(init=lambda key, inputs: {"params": jnp.zeros(1), "stats": jnp.zeros(2)},
    apply=lambda params, inputs, train: (jnp.zeros((len(inputs), 3)), {"stats": jnp.zeros(3)}) if train else
    jnp.zeros((len(inputs), 3)))
"""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere:make", "cannot be made: ModuleNotFoundError: No module named 'nowhere'; name a function"),
        ("nowhere.py:make", "No such file or directory"),
        ("broken:wid", "module 'broken' has no attribute 'wid'"),
        ("broken:empty", "made a SimpleNamespace without init and apply: it must have init(key, inputs) and"),
        ("broken:fails", "cannot be made: ValueError: no room; name a function that takes num_outputs=3, as"),
        ("broken:wide", "it must give 3 numbers for each example, of shape (2, 3)"),
        ("broken:whole", "has parameters of type int32, which have no gradient"),
        ("broken:images", "cannot take inputs of shape (2, 4)"),
        ("broken:grows", "carries other arrays after a step than before it"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(model, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text(BROKEN)
    with pytest.raises(ConfigError) as caught:
        make_model(Config(model=model), 3, (4,))
    assert message in str(caught.value)


def test_a_model_without_a_name_cannot_be_stored():
    with pytest.raises(
        ConfigError, match="cannot be stored: give a function of a module's or file's top level"
    ):
        Config(model=lambda num_outputs: None)


def test_weight_decay_leaves_biases_alone_in_every_library(rng):
    from jaxce.lab.training.optimizers import is_kernel

    tree = {"conv": {"weight": np.zeros((3, 3, 3)), "bias": np.zeros((3, 1, 1))}, "scale": np.zeros(3)}
    assert is_kernel(tree) == {"conv": {"weight": True, "bias": False}, "scale": False}
