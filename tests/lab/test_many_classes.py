"""Training with more classes than a step forms logits of: sampled, and spread over devices."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from numpy.testing import assert_allclose

from jaxce.lab.config import Config, hyperparams
from jaxce.lab.data import Split, many_classes
from jaxce.lab.data.planted import planted
from jaxce.lab.errors import ConfigError
from jaxce.lab.sweep.program import load_whole
from jaxce.lab.tasks import make_task
from jaxce.lab.training.checkpoints import Checkpoints, as_numpy
from jaxce.lab.training.devices import make_mesh
from jaxce.lab.training.loop import run
from jaxce.lab.training.step import make_train

CLASSES, SEEN = 1024, 64
SPLIT = Split(0.1, 0.2, 0)
NO_HEAD = {"head": None, "margin": None, "scale": None}
WAYS = {
    "sampled": {"num_sampled": 256},
    "spread": {"class_devices": 8},
    "sampled and spread": {"class_devices": 4, "num_sampled": 512},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A user's own features, of 64 of 1,024 classes."""
    dataset = planted(SPLIT, CLASSES, SEEN)
    path = tmp_path_factory.mktemp("arrays") / "features.npz"
    both = dataset.train, dataset.valid
    inputs, labels = (np.concatenate(arrays) for arrays in zip(*both, strict=True))
    np.savez(path, inputs=inputs, labels=labels, classes=np.array(dataset.classes))
    return path


@pytest.fixture
def config(file):
    return Config(
        data=str(file), model="mlp", widths=(32,), head="cosface", margin=0.2, scale=16.0, embedding_width=16,
        learning_rate=2e-2, batch_size=64, epochs=2,
    )  # fmt: skip


def made_on(config, mesh=None):
    dataset = load_whole(replace(config, class_devices=1))
    task = make_task(config, dataset, mesh)
    made = make_train(config, dataset.train.inputs.shape[1:], task, len(dataset.train.labels), mesh)
    return made, hyperparams(config), dataset


def test_planted_examples_lie_about_their_class_directions():
    dataset = planted(SPLIT, CLASSES, SEEN)
    labels = dataset.train.labels
    assert (len(dataset.classes), len(set(labels.tolist())), labels.max() < CLASSES) == (CLASSES, SEEN, True)
    assert set(dataset.test.labels.tolist()) <= set(labels.tolist())
    assert not set(map(bytes, dataset.test.inputs)) & set(map(bytes, dataset.train.inputs))
    means = np.stack([dataset.train.inputs[labels == label].mean(0) for label in dataset.test.labels])
    assert abs(np.std(dataset.test.inputs - means) - 0.5 * np.sqrt(1 + 1 / 8)) < 0.02
    again, other = planted(SPLIT, CLASSES, SEEN), planted(replace(SPLIT, seed=1), CLASSES, SEEN)
    np.testing.assert_array_equal(again.train.inputs, dataset.train.inputs)
    assert set(other.train.labels.tolist()) != set(labels.tolist())


def test_the_config_has_a_million_classes():
    dataset = many_classes(SPLIT)
    assert (len(dataset.classes), len(set(dataset.train.labels.tolist()))) == (10**6, 4096)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
def test_a_run_learns_to_name_them_among_all(way, config, tmp_path):
    summary = run(replace(config, epochs=8, **WAYS[way]), tmp_path / "run")
    assert summary["test"]["accuracy"] > 0.9
    assert summary["device"]["count"] == 8
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["valid_accuracy"] < rows[-1]["valid_accuracy"]
    if "sampled" in way:  # a part of the classes, a part of the loss
        assert rows[-1]["train_loss"] < rows[-1]["valid_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("head", ["cosface", None])
@pytest.mark.parametrize("class_devices", [8, 2])
def test_classes_spread_over_devices_are_those_on_one(head, class_devices, config):
    # With a sample of all classes, which is no sample, on one device.
    config = replace(config, num_sampled=CLASSES, **({} if head else NO_HEAD))
    spread = replace(config, num_sampled=None, class_devices=class_devices)
    mesh = make_mesh(config.batch_size, class_devices)
    assert dict(mesh.shape) == {"batch": 8 // class_devices, "classes": class_devices}
    found = []
    for made, numbers, dataset in (made_on(config), made_on(spread, mesh)):
        state = jax.jit(made.init)(jax.random.key(0), numbers)
        program = jax.jit(made.train_epoch).lower(state, numbers, dataset.train).compile()
        state, steps = program(state, numbers, dataset.train)
        scores = jax.jit(made.evaluate)(state, numbers, dataset.test)
        found.append((as_numpy(state.params), *jax.device_get((steps, scores))))
    jax.tree.map(lambda one, many: assert_allclose(many, one, rtol=2e-4, atol=2e-5), *found)
    kernel = state.params["head"]["kernel"]
    assert kernel.sharding.spec == PartitionSpec(None, "classes")
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(16, CLASSES // class_devices)}
    assert f"{CLASSES // class_devices}]" in program.as_text()
    assert f",{CLASSES}]" not in program.as_text(), "a device has something of every class"


@pytest.mark.slow
def test_each_step_samples_anew_and_a_run_draws_the_same_again(config):
    made, numbers, dataset = made_on(replace(config, num_sampled=128, learning_rate=1e-12))
    first = made.train_epoch(made.init(jax.random.key(0), numbers), numbers, dataset.train)[1]["loss"]
    again = made.train_epoch(made.init(jax.random.key(0), numbers), numbers, dataset.train)[1]["loss"]
    np.testing.assert_array_equal(again, first)
    # Batches alike: what differs from step to step is the sample.
    alike = jax.tree.map(lambda rows: np.repeat(rows[:1], len(rows), 0), dataset.train)
    losses = made.train_epoch(made.init(jax.random.key(0), numbers), numbers, alike)[1]["loss"]
    assert len(set(losses.tolist())) == len(losses)


def test_a_state_that_is_spread_comes_back_spread_and_the_same(config, tmp_path):
    config = replace(config, class_devices=4)
    made, numbers, _ = made_on(config, make_mesh(64, 4))
    init = jax.jit(made.init)
    state = init(jax.random.key(1), numbers)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {"valid_loss": 1.0}, force=True)
    restored = Checkpoints(tmp_path).restore_latest(like=init(jax.random.key(2), numbers))
    jax.tree.map(np.testing.assert_array_equal, as_numpy(restored), as_numpy(state))
    assert restored.params["head"]["kernel"].sharding == state.params["head"]["kernel"].sharding


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_devices": 3}, "1024 classes of data .* cannot be spread evenly over class_devices = 3"),
        ({"num_sampled": 32}, "num_sampled must be a multiple of class_devices = 1, from 64, .* not 32"),
        ({"num_sampled": 2048}, "to the 1024 classes of data .*; not 2048"),
        ({"num_sampled": 255, "class_devices": 2}, "a multiple of class_devices = 2, from 128"),
        ({"class_devices": 16}, "class_devices is 16, but a process has 8 of cpu: take 8 or fewer"),
        (
            NO_HEAD | {"num_sampled": 256, "loss": "softmax_cross_entropy"},
            "num_sampled or class_devices on data .* needs labels that are class numbers",
        ),
    ],
)
def test_a_run_says_what_does_not_fit(changes, message, config, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run(replace(config, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_head_of_whole_features_is_neither_sampled_nor_spread(config):
    options = {"head": "large_margin_softmax", "margin": 2, "scale": None}
    for way in ({"num_sampled": 256}, {"class_devices": 2}):
        with pytest.raises(ConfigError, match="large_margin_softmax forms all logits"):
            replace(config, **options, **way)


def test_a_sweep_spreads_settings_not_classes(config):
    with pytest.raises(ConfigError, match="a sweep gives a setting one device"):
        load_whole(replace(config, class_devices=2))
