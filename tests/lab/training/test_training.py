import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

import jaxce
from jaxce.lab.config import Config, hyperparams, load_config
from jaxce.lab.data import DATASETS, Examples, Split
from jaxce.lab.errors import ConfigError, TrainingError
from jaxce.lab.tasks import ClassTask, NumberTask, make_task
from jaxce.lab.tasks.task import ACCURACY
from jaxce.lab.training.checkpoints import Checkpoints
from jaxce.lab.training.loop import run
from jaxce.lab.training.optimizers import make_optimizer, make_schedule
from jaxce.lab.training.progress import progress
from jaxce.lab.training.step import epoch_order, make_train

ROOT = Path(__file__).parents[3]
KEY = jax.random.key(0)

# Three Gaussian clouds, one a class: 40 examples, which 16 does not divide.
CENTRES = 2 * np.eye(3)
LABELS = np.arange(40, dtype=np.int32) % 3
INPUTS = (CENTRES[LABELS] + np.random.default_rng(1).normal(scale=0.5, size=(40, 3))).astype(np.float32)
CLOUDS = Examples(INPUTS, LABELS)
CONFIG = Config(
    model="linear", optimizer="sgd", schedule="constant", learning_rate=0.1, batch_size=16, epochs=4
)


def functions(config, num_train=40):
    return make_train(config, (3,), ClassTask(config.loss, 3), num_train)


def train(config, epochs, examples=CLOUDS, key=KEY):
    """States after 0, 1, … epochs, and the metrics of each."""
    made, numbers = functions(config, len(examples.labels)), hyperparams(config)
    states, metrics = [made.init(key, numbers)], []
    epoch = jax.jit(made.train_epoch)
    for _ in range(epochs):
        state, steps = epoch(states[-1], numbers, examples)
        states.append(state)
        metrics.append(steps)
    return states, metrics


def assert_same_bits(tree, other):
    jax.tree.map(np.testing.assert_array_equal, *map(raw_keys, (tree, other)))


def raw_keys(tree):
    return jax.tree.map(
        lambda a: jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a, tree
    )


# One step


def test_a_step_follows_the_closed_form_gradient_of_the_loss():
    config = replace(CONFIG, batch_size=None, label_smoothing=0.1)
    (before, after), (steps,) = train(config, 1)
    ((name, layer),) = before.params.items()
    logits = INPUTS @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    value, grad = (
        f(logits, LABELS, label_smoothing=0.1)
        for f in (
            jaxce.softmax_cross_entropy_with_integer_labels,
            jaxce.softmax_cross_entropy_with_integer_labels.grad,
        )
    )
    np.testing.assert_allclose(after.params[name]["kernel"], -0.1 * INPUTS.T @ grad / 40, atol=1e-6)
    np.testing.assert_allclose(after.params[name]["bias"], -0.1 * grad.mean(0), atol=1e-6)
    np.testing.assert_allclose(steps["loss"], [value.mean()], rtol=1e-6)
    np.testing.assert_allclose(steps["accuracy"], [(logits.argmax(-1) == LABELS).mean()])


def test_the_loss_falls_and_the_classes_are_found():
    _, metrics = train(replace(CONFIG, learning_rate=1.0), 4)
    losses = [float(steps["loss"].mean()) for steps in metrics]
    assert losses == sorted(losses, reverse=True)
    assert metrics[-1]["accuracy"].mean() > 0.9


# Epochs


def test_an_epoch_takes_each_example_at_most_once():
    orders = [np.asarray(epoch_order(KEY, epoch, 40, 16)) for epoch in range(3)]
    for order in orders:
        assert order.shape == (2, 16)
        assert len(set(order.ravel())) == 32
        assert set(order.ravel()) <= set(range(40))
    assert len({tuple(order.ravel()) for order in orders}) == 3
    np.testing.assert_array_equal(epoch_order(KEY, 1, 40, 16), orders[1])
    assert not np.array_equal(epoch_order(jax.random.key(1), 1, 40, 16), orders[1])


def test_train_epoch_steps_through_the_epochs_order():
    states, metrics = train(CONFIG, 2)
    for epoch, (state, steps) in enumerate(zip(states[:-1], metrics, strict=True)):
        assert state.epoch == epoch
        first = epoch_order(state.key, epoch, 40, 16)[0]
        outputs = functions(CONFIG).evaluate(state, hyperparams(CONFIG), Examples(INPUTS[first], LABELS[first]))
        np.testing.assert_allclose(steps["loss"][0], outputs["loss"], rtol=1e-6)


def test_a_batch_larger_than_the_data_is_all_of_it():
    full, large = (train(replace(CONFIG, batch_size=size), 1)[0][-1] for size in (None, 1000))
    assert_same_bits(full, large)


def test_evaluation_counts_every_example_once():
    state = train(CONFIG, 2)[0][-1]
    scores = [functions(replace(CONFIG, batch_size=size)).evaluate(state, {}, CLOUDS) for size in (16, None, 1)]
    (layer,) = state.params.values()
    logits = INPUTS @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    for score in scores:
        np.testing.assert_allclose(score["outputs"], logits, rtol=1e-5, atol=1e-6)
        losses = jaxce.softmax_cross_entropy_with_integer_labels(logits, LABELS)
        np.testing.assert_allclose(score["loss"], losses.mean(), rtol=1e-6)
        np.testing.assert_allclose(score["accuracy"], (logits.argmax(-1) == LABELS).mean(), rtol=1e-6)


def test_the_seed_decides_initial_parameters_and_order():
    config = replace(CONFIG, model="mlp", widths=(4,))
    states = [train(config, 1, key=jax.random.key(seed))[0] for seed in (0, 0, 1)]
    assert_same_bits(states[0], states[1])
    first, other = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(s[0].params)]) for s in states[1:])
    assert not np.array_equal(first, other)
    assert not np.array_equal(*(epoch_order(s[0].key, 0, 40, 16) for s in states[1:]))


# Numbers are arguments


def test_one_compiled_program_serves_all_numbers():
    config = replace(CONFIG, optimizer="adamw", clip_norm=1.0, ema_decay=0.9, label_smoothing=0.1)
    made = functions(config)
    epoch = jax.jit(made.train_epoch)
    for scale in (1.0, 0.5, 0.25):
        numbers = {name: scale * number for name, number in hyperparams(config).items()}
        epoch(made.init(KEY, numbers), numbers, CLOUDS)
    assert epoch._cache_size() == 1


def test_settings_side_by_side_equal_settings_alone():
    configs = [replace(CONFIG, learning_rate=lr, label_smoothing=a) for lr, a in [(0.1, 0.0), (0.2, 0.1)]]
    numbers = jax.tree.map(lambda *each: jnp.array(each), *map(hyperparams, configs))
    made = functions(configs[0])
    keys = jax.random.split(KEY, 2)
    states = jax.vmap(made.init)(keys, numbers)
    states, _ = jax.jit(jax.vmap(made.train_epoch, in_axes=(0, 0, None)))(states, numbers, CLOUDS)
    for i, config in enumerate(configs):
        alone = train(config, 1, key=keys[i])[0][-1]
        for side, own in zip(jax.tree.leaves(states.params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(side[i], own, rtol=1e-5, atol=1e-7)


# Optimizers: each against Optax's own, assembled by hand

DECAY = {"weight_decay": 0.1, "mask": {"kernel": True, "bias": False}}
L2 = optax.add_decayed_weights(**DECAY)
PEERS = {
    "sgd": optax.chain(L2, optax.sgd(0.01)),
    "momentum": optax.chain(L2, optax.sgd(0.01, momentum=0.8)),
    "adam": optax.chain(L2, optax.adam(0.01, b1=0.8)),
    "adamw": optax.adamw(0.01, b1=0.8, **DECAY),
    "lamb": optax.lamb(0.01, b1=0.8, **DECAY),
    "lion": optax.lion(0.01, b1=0.8, **DECAY),
}


@pytest.mark.parametrize("name", PEERS)
def test_an_optimizer_is_optaxs_with_weight_decay_on_kernels(name, rng):
    config = Config(optimizer=name, schedule="constant", learning_rate=0.01, momentum=0.8, weight_decay=0.1)
    ours = PEERS[name], make_optimizer(config, hyperparams(config), steps_per_epoch=1)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 2))), "bias": jnp.asarray(rng.normal(size=2))}
    results = []
    for tx in ours:
        state, moved = tx.init(params), params
        for step in range(3):
            grads = jax.tree.map(lambda p, step=step: jnp.sin(p + step), moved)
            updates, state = tx.update(grads, state, moved)
            moved = optax.apply_updates(moved, updates)
        results.append(moved)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *results)
    assert not np.allclose(results[0]["kernel"], params["kernel"], atol=1e-4)


def test_a_long_gradient_alone_is_scaled_down_to_the_clip_norm():
    config = replace(CONFIG, clip_norm=2.0, learning_rate=1.0)
    tx = make_optimizer(config, hyperparams(config), steps_per_epoch=1)
    for grads, expected in [([3.0, 4.0], [-1.2, -1.6]), ([0.3, 0.4], [-0.3, -0.4])]:
        params = {"bias": jnp.zeros(2)}
        updates, _ = tx.update({"bias": jnp.array(grads)}, tx.init(params), params)
        np.testing.assert_allclose(updates["bias"], expected, rtol=1e-6)


def test_the_learning_rate_warms_up_then_follows_half_a_cosine():
    schedule = make_schedule(Config(epochs=10, warmup_epochs=1.5), steps_per_epoch=2)
    fractions = np.array([float(schedule(step)) for step in range(21)])
    np.testing.assert_allclose(fractions[:4], [1 / 4, 2 / 4, 3 / 4, 1], rtol=1e-6)
    np.testing.assert_allclose(fractions[3:], (1 + np.cos(np.pi * np.arange(18) / 17)) / 2, atol=1e-6)


def test_a_constant_learning_rate_is_held_after_the_warm_up():
    schedule = make_schedule(Config(epochs=10, schedule="constant", warmup_epochs=1), steps_per_epoch=2)
    np.testing.assert_allclose(
        [float(schedule(step)) for step in (0, 1, 2, 19)], [1 / 3, 2 / 3, 1, 1], rtol=1e-6
    )


def test_the_schedule_reaches_the_parameters():
    config = replace(CONFIG, schedule="cosine", epochs=1, batch_size=20)
    (before, after), _ = train(config, 1)
    by_hand = before.params
    for order, rate in zip(epoch_order(before.key, 0, 40, 20), (0.1, 0.05), strict=True):
        batch = Examples(INPUTS[order], LABELS[order])
        step = replace(config, batch_size=None, schedule="constant", learning_rate=rate)
        state = functions(step, 20).init(KEY, hyperparams(step))._replace(params=by_hand)
        by_hand = functions(step, 20).train_epoch(state, hyperparams(step), batch)[0].params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, by_hand)


def test_evaluation_uses_the_running_mean_of_the_parameters():
    config = replace(CONFIG, ema_decay=0.4, batch_size=None)
    states, _ = train(config, 3)
    mean = states[0].params
    for step, state in enumerate(states[1:]):
        decay = min(0.4, (1 + step) / (10 + step))
        mean = jax.tree.map(lambda m, p, d=decay: d * m + (1 - d) * p, mean, state.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.mean_params, mean)
    scores = [
        functions(c).evaluate(s, hyperparams(c), CLOUDS)["loss"]
        for c, s in [(config, states[-1]), (CONFIG, states[-1]._replace(params=mean, mean_params=None))]
    ]
    np.testing.assert_allclose(*scores, rtol=1e-6)


# Tasks of classes


@pytest.mark.parametrize(
    ("loss", "num_classes", "num_outputs"),
    [
        ("softmax_cross_entropy_with_integer_labels", 2, 2),
        ("softmax_cross_entropy", 3, 3),
        ("sigmoid_binary_cross_entropy", 2, 1),
        ("sigmoid_binary_cross_entropy", 3, 3),
    ],
)
def test_a_task_gives_each_example_one_loss_and_one_class(loss, num_classes, num_outputs, rng):
    task = ClassTask(loss, num_classes)
    assert task.num_outputs == num_outputs
    outputs = jnp.asarray(rng.normal(size=(7, num_outputs)), jnp.float32)
    labels = rng.integers(num_classes, size=7)
    scores = outputs if num_outputs > 1 else jnp.concatenate([jnp.zeros((7, 1)), outputs], 1)
    np.testing.assert_array_equal(task.predict(outputs), scores.argmax(-1))
    if loss.startswith("softmax"):
        expected = -jax.nn.log_softmax(scores)[np.arange(7), labels]
    else:
        positive = labels[:, None] == (np.arange(3) if num_outputs > 1 else [1])
        expected = -jax.nn.log_sigmoid(jnp.where(positive, outputs, -outputs)).sum(-1)
    np.testing.assert_allclose(task.losses(outputs, labels, {"learning_rate": 9.0}), expected, rtol=1e-5)


def test_a_task_hands_the_loss_its_own_options():
    task = ClassTask("sigmoid_focal_loss", 2)
    outputs, labels = jnp.array([[1.0], [-2.0]]), np.array([1, 1])
    expected = jaxce.sigmoid_focal_loss(outputs, jnp.ones((2, 1)), gamma=3.0)[:, 0]
    np.testing.assert_allclose(
        task.losses(outputs, labels, {"gamma": 3.0, "momentum": 0.9}), expected, rtol=1e-6
    )


@pytest.mark.parametrize("name", ["tumor", "iris"])
def test_the_coefficients_are_those_of_scikit_learn(name):
    config = load_config(name)
    dataset = DATASETS[name](Split(config.valid_fraction, config.test_fraction, config.split_seed))
    num_train = len(dataset.train.labels)
    assert config.weight_decay == 1 / num_train
    made = make_train(config, dataset.train.inputs.shape[1:], make_task(config, dataset), num_train)
    numbers = hyperparams(config)
    state, _ = jax.lax.scan(
        lambda state, _: (made.train_epoch(state, numbers, dataset.train)[0], None),
        made.init(KEY, numbers),
        length=config.epochs,
    )
    peer = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000)
    peer.fit(dataset.train.inputs.astype(np.float64), dataset.train.labels)
    (layer,) = state.params.values()
    np.testing.assert_allclose(layer["kernel"].T, peer.coef_, atol=1e-3, rtol=0)
    np.testing.assert_allclose(layer["bias"], peer.intercept_, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_house_prices_settings_find_scikit_learns_ridge(rng):
    config = load_config("house_prices")
    features = rng.normal(size=(14_448, 8)) @ rng.normal(size=(8, 8))  # correlated, as the real ones are
    features = ((features - features.mean(0)) / features.std(0)).astype(np.float32)
    prices = (features @ rng.normal(size=8) + 2 + rng.normal(size=14_448)).astype(np.float32)
    assert config.weight_decay == 2 / 14_448
    made = make_train(config, (8,), NumberTask(config.loss, 0), 14_448)
    numbers, examples = hyperparams(config), Examples(features, prices)
    epoch = jax.jit(made.train_epoch)
    state = made.init(KEY, numbers)
    for _ in range(config.epochs):
        state, _ = epoch(state, numbers, examples)
    peer = Ridge(1.0).fit(features.astype(np.float64), prices)
    (layer,) = state.params.values()
    np.testing.assert_allclose(layer["kernel"][:, 0], peer.coef_, atol=1e-3, rtol=0)
    np.testing.assert_allclose(layer["bias"], peer.intercept_, atol=1e-3, rtol=0)


@pytest.mark.parametrize("penalty", [1.0, 0.0])
def test_least_squares_finds_scikit_learns_model_and_r2(penalty):
    config = load_config("regression")
    dataset = DATASETS["regression"](Split(config.valid_fraction, config.test_fraction, config.split_seed))
    num_train = len(dataset.train.labels)
    assert config.weight_decay == 2 / num_train
    config = replace(config, weight_decay=2 * penalty / num_train)
    task = make_task(config, dataset)
    made = make_train(config, (10,), task, num_train)
    numbers = hyperparams(config)
    state, _ = jax.lax.scan(
        lambda state, _: (made.train_epoch(state, numbers, dataset.train)[0], None),
        made.init(KEY, numbers),
        length=config.epochs,
    )
    peer = Ridge(penalty) if penalty else LinearRegression()
    peer.fit(dataset.train.inputs.astype(np.float64), dataset.train.labels)
    (layer,) = state.params.values()
    np.testing.assert_allclose(layer["kernel"][:, 0], peer.coef_, atol=1e-3, rtol=0)
    np.testing.assert_allclose(layer["bias"], peer.intercept_, atol=1e-3, rtol=0)
    scores = made.evaluate(state, numbers, dataset.test)
    assert set(scores) == {"loss", "outputs"}
    found = task.scores_of_all(np.asarray(scores["outputs"]), dataset.test.labels)
    np.testing.assert_allclose(found["r2"], peer.score(dataset.test.inputs, dataset.test.labels), atol=1e-5)
    np.testing.assert_allclose(found["rmse"], np.sqrt(scores["loss"]), rtol=1e-5)


# The loop


@pytest.fixture(scope="module")
def tiny():
    """A config that trains in a second: iris, a small network, every part of the state in use."""
    return Config(data="iris", model="mlp", widths=(4,), ema_decay=0.9, batch_size=32, epochs=4)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "finished"
    return workdir, run(tiny, workdir)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_config_metrics_summary_and_checkpoints(finished, tiny):
    workdir, summary = finished
    assert {path.name.partition(".out.")[0] for path in workdir.iterdir()} == {
        ".lock",
        "config.json",
        "metrics.jsonl",
        "predictions.npz",
        "report.html",
        "summary.json",
        "checkpoints",
        "events",
    }
    assert json.loads((workdir / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert {"test", "wall_seconds", "config", "versions", "device", "memory"} <= set(summary)
    assert summary["memory"]["held"] > 0
    assert 0 <= summary["test"]["accuracy"] <= 1
    assert json.loads((workdir / "config.json").read_text())["learning_rate"] == tiny.learning_rate
    assert [row["epoch"] for row in rows(workdir)] == [1, 2, 3, 4]
    assert {"train_loss", "train_accuracy", "valid_loss", "valid_accuracy"} <= set(rows(workdir)[0])


def test_a_run_measures_valid_and_test_with_its_own_state(finished, tiny):
    workdir, summary = finished
    dataset = DATASETS["iris"](Split(tiny.valid_fraction, tiny.test_fraction, tiny.split_seed))
    made = make_train(tiny, (4,), make_task(tiny, dataset), len(dataset.train.labels))
    numbers = hyperparams(tiny)
    state = made.init(jax.random.key(tiny.seed), numbers)
    for _ in range(tiny.epochs):
        state, _ = jax.jit(made.train_epoch)(state, numbers, dataset.train)
    scores = made.evaluate(state, numbers, dataset.test)
    np.testing.assert_allclose(summary["test"]["loss"], scores["loss"], rtol=1e-5)
    np.testing.assert_allclose(summary["test"]["accuracy"], scores["accuracy"], rtol=1e-5)
    scores = made.evaluate(state, numbers, dataset.valid)
    np.testing.assert_allclose(rows(workdir)[-1]["valid_loss"], scores["loss"], rtol=1e-5)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        saved = checkpoints.restore_latest(like=state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), saved.params, state.params)


def test_a_resumed_run_ends_with_the_bits_of_an_unbroken_one(finished, tiny, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die_after_two(checkpoints, epoch, state, metrics, **options):
        save(checkpoints, epoch, state, metrics, force=True)
        if epoch == 2:
            raise Killed

    save = Checkpoints.save
    workdir = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", die_after_two)
        with pytest.raises(Killed):
            run(tiny, workdir)
    with (workdir / "metrics.jsonl").open("a") as lines:
        lines.write('{"epoch": 3, "train_loss": 99}\n')  # logged, but its checkpoint never got written
    summary = run(tiny, workdir, resume=True)
    assert summary["test"] == finished[1]["test"]
    unbroken, resumed = ([{**row, "seconds": 0} for row in rows(w)] for w in (finished[0], workdir))
    assert resumed == unbroken
    like = make_train(tiny, (4,), ClassTask(tiny.loss, 3), 105).init(KEY, hyperparams(tiny))
    states = []
    for folder in (finished[0], workdir):
        with Checkpoints(folder / "checkpoints") as checkpoints:
            states.append(checkpoints.restore_latest(like))
    assert_same_bits(*states)


def test_a_workdir_in_use_is_refused_unloaded_and_left_as_it_was(finished, tiny, monkeypatch):
    monkeypatch.setattr("jaxce.lab.training.loop.load", None)  # which may take minutes
    workdir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    with pytest.raises(ConfigError, match="is not empty: add --resume"):
        run(tiny, workdir)
    with pytest.raises(ConfigError, match="it was started with seed = 0"):
        run(replace(tiny, seed=1), workdir, resume=True)
    (workdir.parent / "file").touch()
    with pytest.raises(ConfigError, match="file is a file: name a folder"):
        run(tiny, workdir.parent / "file")
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_nothing_to_resume_is_said(tiny, tmp_path):
    with pytest.raises(ConfigError, match="nothing to resume"):
        run(tiny, tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("batch_size", [32, None], ids=["in the next step", "in the valid part"])
def test_a_loss_that_is_not_finite_is_named_and_never_saved(batch_size, tmp_path, tiny):
    config = replace(tiny, optimizer="sgd", learning_rate=1e30, schedule="constant", batch_size=batch_size)
    with pytest.raises(TrainingError, match=r"^the loss is (nan|inf) at step 2: lower the learning rate"):
        run(config, tmp_path / "run")
    assert rows(tmp_path / "run") == []
    assert not list((tmp_path / "run").glob("checkpoints/[0-9]*"))


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    state = functions(CONFIG).init(KEY, hyperparams(CONFIG))
    with Checkpoints(tmp_path, keep=2, seconds_between=0) as checkpoints:
        for epoch, loss in enumerate([3.0, 1.0, 2.0, 4.0, 5.0], start=1):
            checkpoints.save(epoch, state, {"valid_loss": loss}, force=True)
    assert {path.name for path in tmp_path.iterdir() if path.name.isdigit()} == {"2", "4", "5"}


def test_a_state_handed_in_too_soon_is_not_written_unless_forced(tmp_path):
    state = functions(CONFIG).init(KEY, hyperparams(CONFIG))
    with Checkpoints(tmp_path, seconds_between=3600) as checkpoints:
        for epoch in (1, 2, 3):
            checkpoints.save(epoch, state, {"valid_loss": 1.0}, force=epoch == 3)
    assert {path.name for path in tmp_path.iterdir() if path.name.isdigit()} == {"1", "3"}


ROW = {"epoch": 1, "train_loss": 0.5, "valid_loss": 0.25, "valid_accuracy": 0.75}


def test_progress_is_plain_lines_where_there_is_no_terminal():
    written = StringIO()
    with progress(2, 0, 100, "images", ACCURACY, console=Console(file=written, width=40)) as show:
        show(ROW)
        show({**ROW, "epoch": 2})
    lines = written.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "loss 0.5000  valid loss 0.2500  valid accuracy 75 %" in lines[0]
    assert lines[0].endswith("images/s")


def test_progress_is_a_bar_on_a_terminal():
    written = StringIO()
    with progress(
        200, 0, 1000, "images", ACCURACY, console=Console(file=written, width=80, force_terminal=True)
    ) as show:
        show(ROW)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue()).strip().splitlines()[-1]
    assert re.search(r"^epoch 1/200 .* loss 0.5000  accuracy 75 %  [\d,]+ images/s [\d:-]+$", last)


# Several devices


EIGHT_DEVICES = """
import json, sys
from pathlib import Path
import jax
import numpy as np
from jaxce.lab.config import Config, hyperparams
from jaxce.lab.data import Examples
from jaxce.lab.training.devices import make_mesh
from jaxce.lab.training.loop import run
from jaxce.lab.tasks import ClassTask
from jaxce.lab.training.step import make_train

assert [make_mesh(size).size for size in (128, 105, 12, 11)] == [8, 7, 6, 1]

config = Config(data="iris", model="mlp", widths=(4,), ema_decay=0.9, batch_size=32, epochs=4)
made, numbers = make_train(config, (4,), ClassTask(config.loss, 3), 64, make_mesh(32)), hyperparams(config)
examples = Examples(np.zeros((64, 4), np.float32), np.zeros(64, np.int32))
epoch = jax.jit(made.train_epoch).lower(made.init(jax.random.key(0), numbers), numbers, examples).compile()
assert "f32[4,4]" in epoch.as_text() and "all-reduce" in epoch.as_text(), "a device has more than its share"

print(json.dumps(run(config, Path(sys.argv[1]))["device"]))
"""


@pytest.mark.slow
def test_eight_devices_give_the_losses_of_one(finished, tmp_path):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", EIGHT_DEVICES, str(tmp_path / "eight")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["count"] == 8
    for one, eight in zip(rows(finished[0]), rows(tmp_path / "eight"), strict=True):
        for name in ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy"):
            np.testing.assert_allclose(eight[name], one[name], rtol=1e-5)
