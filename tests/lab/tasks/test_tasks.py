"""What outputs mean, for each kind of task: against the definitions, and on real examples."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxce
from jaxce.lab.config import Config, hyperparams, load_config
from jaxce.lab.data import Dataset, Examples, Split, multilabel
from jaxce.lab.errors import ConfigError
from jaxce.lab.tasks import MARGIN_SHARE, TASKS, find_metric, make_task
from jaxce.lab.tasks.classes import ClassTask
from jaxce.lab.tasks.embedding import EmbeddingTask
from jaxce.lab.tasks.numbers import NumberTask
from jaxce.lab.tasks.sequence import SequenceTask
from jaxce.lab.tasks.sets import SetTask
from jaxce.lab.training.step import make_train

ROOT = Path(__file__).parents[3]
SOFTMAX = "softmax_cross_entropy_with_integer_labels"


@pytest.fixture
def outputs(rng):
    """Of seven examples: four positions of three classes."""
    return rng.normal(size=(7, 12)).astype(np.float32)


@pytest.fixture
def labels(rng):
    return rng.integers(3, size=(7, 4))


# Sequences


def test_four_softmaxes_cost_minus_log_p_of_the_whole_sequence(outputs, labels):
    task = SequenceTask(SOFTMAX, 3, length=4)
    assert task.num_outputs == 12
    probs = np.exp(outputs.reshape(7, 4, 3))
    probs /= probs.sum(-1, keepdims=True)
    right = np.take_along_axis(probs, labels[..., None], -1)[..., 0]
    np.testing.assert_allclose(task.losses(outputs, labels, {}), -np.log(right.prod(-1)), rtol=1e-5)
    np.testing.assert_array_equal(task.predict(outputs), outputs.reshape(7, 4, 3).argmax(-1))


def test_sigmoids_of_a_sequence_cost_each_class_by_itself(outputs, labels):
    task = SequenceTask("sigmoid_binary_cross_entropy", 3, length=4)
    signs = np.where(labels[..., None] == np.arange(3), 1, -1).reshape(7, 12)
    expected = np.log1p(np.exp(-signs * outputs)).sum(-1)
    np.testing.assert_allclose(task.losses(outputs, labels, {}), expected, rtol=1e-5)


def test_one_softmax_over_all_positions_shares_one_probability(outputs, labels):
    task = SequenceTask("softmax_cross_entropy", 3, length=4, joint=True)
    log_probs = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
    right = np.take_along_axis(log_probs.reshape(7, 4, 3), labels[..., None], -1)[..., 0]
    np.testing.assert_allclose(task.losses(outputs, labels, {}), -right.mean(-1), rtol=1e-5)
    # The best that it can do costs the logarithm of four, and leaves each digit a probability of one quarter.
    best = np.where(labels[..., None] == np.arange(3), 50.0, -50.0).reshape(7, 12).astype(np.float32)
    np.testing.assert_allclose(task.losses(best, labels, {}), np.log(4), rtol=1e-5)


def test_a_sequence_is_right_when_every_position_is(labels):
    task = SequenceTask(SOFTMAX, 3, length=4)
    shown = labels.copy()
    shown[0, 1] = (shown[0, 1] + 1) % 3
    shown[1] = (shown[1] + 1) % 3
    found = task.measure(jax.nn.one_hot(shown, 3).reshape(7, 12), labels, {}, {})
    np.testing.assert_allclose(found["accuracy"], 5 / 7, rtol=1e-6)
    np.testing.assert_allclose(found["digit_accuracy"], 23 / 28, rtol=1e-6)


# Sets


def test_a_set_costs_and_ranks_each_class_by_itself(rng):
    task = SetTask("sigmoid_binary_cross_entropy", 3)
    outputs, labels = rng.normal(size=(9, 3)), rng.integers(2, size=(9, 3))
    expected = np.log1p(np.exp(np.where(labels, -outputs, outputs))).sum(-1)
    np.testing.assert_allclose(task.losses(jnp.asarray(outputs), labels, {}), expected, rtol=1e-5)
    np.testing.assert_array_equal(task.predict(outputs), outputs > 0)
    perfect = task.scores_of_all(np.where(labels, 1.0, -1.0), labels)
    assert perfect == {"mAP": 1.0, "roc_auc": 1.0, "f1": 1.0}
    assert task.scores_of_all(outputs, labels)["mAP"] < 1


@pytest.fixture(scope="module")
def canvases(tmp_path_factory):
    return multilabel(Split(0.1, 0.2, 0), (1200, 100, 400), tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("loss", ["sigmoid_binary_cross_entropy", "sigmoid_focal_loss", "asymmetric_loss"])
@pytest.mark.slow
def test_digits_on_canvases_are_found_better_than_by_guessing(loss, canvases):
    config = replace(load_config("multilabel"), loss=loss, widths=(8, 16, 64), batch_size=32, epochs=8)
    task = make_task(config, canvases)
    made, numbers = make_train(config, (20, 20, 1), task, 1200), hyperparams(config)
    state, epoch = made.init(jax.random.key(0), numbers), jax.jit(made.train_epoch)
    for _ in range(config.epochs):
        state, _ = epoch(state, numbers, canvases.train)
    outputs = np.asarray(made.evaluate(state, numbers, canvases.test)["outputs"])
    guessing = canvases.test.labels.mean()  # whatever the scores, if they know nothing of the canvas
    assert 0.15 < guessing < 0.3
    assert task.scores_of_all(outputs, canvases.test.labels)["mAP"] > guessing + 0.1


# Open sets


@pytest.fixture
def features(rng):
    """Features of five examples, class vectors of three classes, and labels, of which the last is unseen."""
    kernel = rng.normal(size=(4, 3)).astype(np.float32)
    return rng.normal(size=(5, 4)).astype(np.float32), {"head": {"kernel": kernel}}, np.array([0, 2, 1, 0, 3])


def embedding(head, degree=None):
    return EmbeddingTask(SOFTMAX, 3, width=4, head=head, degree=degree, has_unseen=True)


@pytest.mark.slow
def test_without_a_head_a_linear_layer_classifies_features(features):
    _, params, labels = features
    # By logits all are of class 0, whose vector is long; by cosines, of class 2.
    params["head"]["kernel"] = np.diag([100, 1, 1, 1]).astype(np.float32)[:, :3]
    outputs = np.tile(np.float32([0.2, 0, 1, 0]), (5, 1))
    found = embedding(None).measure(outputs, labels, {}, params)
    logits = (outputs @ params["head"]["kernel"])[:4]
    cosines = np.asarray(jaxce.normalized_cosines(outputs, params["head"]["kernel"]))[:4]
    assert (logits.argmax(-1) == labels[:4]).mean() != (cosines.argmax(-1) == labels[:4]).mean()
    expected = jaxce.softmax_cross_entropy_with_integer_labels(logits, labels[:4]).mean()
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], (logits.argmax(-1) == labels[:4]).mean(), rtol=1e-6)


@pytest.mark.parametrize("head", ["arcface", "cosface", "sphereface"])
def test_a_head_of_cosines_gets_its_margin_and_scale(head, features):
    outputs, params, labels = features
    margin = 2 if head == "sphereface" else 0.3
    numbers = {"scale": 8.0, "learning_rate": 1.0} | ({} if head == "sphereface" else {"margin": margin})
    found = embedding(head, 2 if head == "sphereface" else None).measure(outputs, labels, numbers, params)
    cosines = jaxce.normalized_cosines(outputs[:4], params["head"]["kernel"])
    logits = getattr(jaxce, head)(cosines, labels[:4], margin=margin, scale=8.0)
    expected = jaxce.softmax_cross_entropy_with_integer_labels(logits, labels[:4]).mean()
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("head", "degree", "numbers"),
    [
        ("arcface", None, {"margin": 0.3, "scale": 8.0}),
        ("cosface", None, {"margin": 0.3}),
        ("soft_margin_softmax", None, {"margin": 0.3}),
        ("large_margin_softmax", 2, {}),
    ],
)
def test_a_margin_comes_in_from_logits_without_it(head, degree, numbers, features):
    outputs, params, labels = features
    task = embedding(head, degree)

    def loss(**share):
        return float(task.measure(outputs, labels, {**numbers, **share}, params)["loss"])

    if degree is None:
        without = float(task.measure(outputs, labels, {**numbers, "margin": 0.0}, params)["loss"])
    else:
        without = float(embedding(head, 1).measure(outputs, labels, numbers, params)["loss"])
    np.testing.assert_allclose(loss(**{MARGIN_SHARE: 0.0}), without, rtol=1e-5)
    np.testing.assert_allclose(loss(**{MARGIN_SHARE: 1.0}), loss(), rtol=1e-5)
    assert without < loss(**{MARGIN_SHARE: 0.5}) < loss()


@pytest.mark.slow
def test_the_margin_rises_by_steps_and_evaluation_has_all_of_it(rng):
    config = Config(
        model="linear", head="cosface", margin=0.5, scale=8.0, embedding_width=4, optimizer="sgd",
        schedule="constant", learning_rate=1e-9, batch_size=10, epochs=3, margin_epochs=1.5,
    )  # fmt: skip
    part = Examples(rng.normal(size=(40, 3)).astype(np.float32), np.arange(40, dtype=np.int32) % 3)
    task = make_task(config, Dataset(part, part, part, classes=("a", "b", "c")))
    made, numbers = make_train(config, (3,), task, 40), hyperparams(config)
    # Rows alike, and steps too short to matter: only the margin changes from step to step.
    alike = Examples(np.tile(part.inputs[:1], (40, 1)), np.zeros(40, np.int32))
    state = made.init(jax.random.key(0), numbers)._replace(params={
        **made.init(jax.random.key(0), numbers).params,
        "Dense_0": {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)},
    })  # fmt: skip
    losses = []
    for _ in range(3):
        state, steps = made.train_epoch(state, numbers, alike)
        losses.extend(np.asarray(steps["loss"]).tolist())
    assert losses[:7] == sorted(losses[:7])
    assert losses[5] < losses[6] - 1e-3
    np.testing.assert_allclose(losses[6:], losses[6], rtol=1e-5)
    np.testing.assert_allclose(made.evaluate(state, numbers, alike)["loss"], losses[6], rtol=1e-5)


# Cross-entropy and metrics


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("loss", [SOFTMAX, "softmax_focal_loss", "sigmoid_binary_cross_entropy", "brier_score"])
def test_cross_entropy_is_minus_log_p_whatever_the_loss(loss, outputs, labels):
    task, numbers = ClassTask(loss, 12), {"label_smoothing": 0.3} if loss == SOFTMAX else {}
    found = task.measure(jnp.asarray(outputs), labels[:, 0], numbers, {})
    expected = -log_softmax(outputs)[np.arange(7), labels[:, 0]].mean()
    np.testing.assert_allclose(found["cross_entropy"], expected, rtol=1e-5)
    assert not np.isclose(found["loss"], expected)


def test_cross_entropy_of_two_classes_is_that_of_a_sigmoid(outputs):
    task, classes = ClassTask("sigmoid_focal_loss", 2), np.array([0, 1, 1, 0, 0, 1, 0])
    found = task.measure(jnp.asarray(outputs[:, :1]), classes, {}, {})["cross_entropy"]
    expected = np.log1p(np.exp(np.where(classes, -1, 1) * outputs[:, 0])).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("joint", [False, True])
def test_cross_entropy_of_a_sequence_is_of_the_whole(joint, outputs, labels):
    task = SequenceTask("softmax_cross_entropy", 3, length=4, joint=joint)
    found = task.measure(jnp.asarray(outputs), labels, {}, {})["cross_entropy"]
    log_probs = log_softmax(outputs.reshape(7, 4, 3))
    expected = -np.take_along_axis(log_probs, labels[..., None], -1).sum() / 7
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cross_entropy_of_a_set_is_of_the_whole(rng):
    outputs, labels = rng.normal(size=(9, 3)).astype(np.float32), rng.integers(2, size=(9, 3))
    found = SetTask("asymmetric_loss", 3).measure(jnp.asarray(outputs), labels, {}, {})["cross_entropy"]
    expected = np.log1p(np.exp(np.where(labels, -outputs, outputs))).sum(-1).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("head", [None, "cosface", "soft_margin_softmax", "large_margin_softmax"])
def test_cross_entropy_of_features_is_without_margin(head, features):
    outputs, params, labels = features
    task = embedding(head, 2 if head == "large_margin_softmax" else None)
    numbers = {"cosface": {"scale": 8.0}, None: {"label_smoothing": 0.1}}.get(head, {})
    found = task.measure(outputs, labels, numbers, params)
    kernel = params["head"]["kernel"]
    scaled = 8 * jaxce.normalized_cosines(outputs, kernel)
    logits = np.asarray(scaled) if head == "cosface" else outputs @ kernel
    expected = -log_softmax(logits)[np.arange(4), labels[:4]].mean()
    np.testing.assert_allclose(found["cross_entropy"], expected, rtol=1e-5)
    assert not np.isclose(found["loss"], expected)


@pytest.mark.parametrize(
    "task", [ClassTask("squared_error", 3), SequenceTask("squared_error", 3, 4), NumberTask("squared_error", 0)]
)
def test_outputs_that_are_no_logits_have_no_cross_entropy(task, outputs, labels):
    outputs = jnp.asarray(outputs[:, : task.num_outputs])
    given = {"class": labels[:, 0], "sequence": labels, "number": labels[:, 0].astype(np.float32)}[task.kind]
    assert "cross_entropy" not in task.measure(outputs, given, {}, {})


def test_a_training_step_measures_no_cross_entropy(outputs, labels):
    task = ClassTask(SOFTMAX, 12)
    found = task.measure(jnp.asarray(outputs), labels[:, 0], {}, {}, jax.random.key(0))
    assert set(found) == {"loss", "accuracy"}


def test_every_score_is_a_metric_with_unit_and_direction(outputs, labels, features):
    sets = np.asarray(outputs[:, :3] > 0, int)
    found = {
        ClassTask(SOFTMAX, 12): (outputs, labels[:, 0]),
        SequenceTask(SOFTMAX, 3, 4): (outputs, labels),
        SetTask("sigmoid_binary_cross_entropy", 3): (outputs[:, :3], sets),
        NumberTask("squared_error", 0): (outputs[:, :1], labels[:, 0].astype(np.float32)),
        embedding("arcface"): (np.tile(features[0], (2, 1)), np.array([0, 3, 1, 2, 4, 0, 3, 3, 4, 4])),
    }
    assert {task.kind for task in found} == set(TASKS)
    for task, (given, truth) in found.items():
        measured = task.measure(jnp.asarray(given), truth, {}, features[1])
        scores = task.scores(jax.device_get(measured) | {"outputs": given}, truth)
        assert set(scores) == set(task.metrics), task
        assert task.headline.name in scores
        for name, metric in task.metrics.items():
            assert find_metric(name, task.loss) == metric
            worse = ("loss", "cross_entropy", "rmse", "equal_error_rate")
            assert metric.larger_is_better == (name not in worse)
            assert (metric.unit == "%") == name.endswith(("accuracy", "error_rate"))


def test_a_loss_is_in_nats_where_it_is_of_probabilities():
    assert find_metric("loss", SOFTMAX).unit == "nats"
    assert find_metric("loss", "squared_error").unit == ""
    assert find_metric("a_new_one", SOFTMAX).words == "a new one"


# What fits what


@pytest.mark.parametrize(
    ("changes", "labels", "message"),
    [
        (
            {"loss": "squared_error"},
            "set",
            "loss squared_error does not fit data digits, where a label is a set",
        ),
        ({}, "number", "does not fit data digits, where a label is a number: there fit "),
        (
            {"loss": "softmax_cross_entropy", "joint_softmax": True},
            "class",
            "joint_softmax is for several labels",
        ),
        ({"head": "arcface"}, "class", None),
    ],
)
def test_a_loss_that_does_not_fit_is_refused_with_those_that_do(changes, labels, message):
    part = Examples(np.zeros((4, 2), np.float32), np.zeros(4, np.int32))
    dataset = Dataset(part, part, part, classes=("a", "b"), labels=labels)
    config = replace(Config(), **changes)
    if message is None:
        assert isinstance(make_task(config, dataset), EmbeddingTask)
        return
    with pytest.raises(ConfigError) as caught:
        make_task(config, dataset)
    assert message in str(caught.value)


def test_a_number_has_one_output_which_is_the_prediction():
    task = NumberTask("squared_error", 0)
    outputs, labels = jnp.array([[1.0], [4.0]]), np.array([2.0, 2.0])
    np.testing.assert_allclose(task.losses(outputs, labels, {}), [1.0, 4.0])
    np.testing.assert_allclose(task.predict(outputs), [1.0, 4.0])


# Whole runs, minutes long


def train(folder, *args):
    """The test metrics of a run of `train.py`."""
    command = [sys.executable, str(ROOT / "train.py"), *args, "--workdir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False, timeout=3600
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "summary.json").read_text())["test"]


@pytest.mark.long
def test_nineteen_of_twenty_captchas_are_read_whole(tmp_path):
    assert train(tmp_path / "run", "captcha")["accuracy"] >= 0.95


@pytest.mark.slow
def test_margins_verify_numbers_never_seen_better_than_softmax(tmp_path):
    margin = train(tmp_path / "margin", "open_set")
    softmax = train(tmp_path / "softmax", "open_set", "--head", "None", "--margin", "None", "--scale", "None")
    assert margin["verification_auc"] > softmax["verification_auc"] + 0.005
    assert margin["equal_error_rate"] < softmax["equal_error_rate"] - 0.01
