"""The pure part of training: `make_train` turns a config into `init`, `train_epoch` and `evaluate`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PRNGKeyArray

from jaxce.lab.config import Config
from jaxce.lab.data import Examples
from jaxce.lab.models import Params, make_model, split
from jaxce.lab.tasks import MARGIN_SHARE, Hyperparams, Task
from jaxce.lab.training.optimizers import make_optimizer, update_mean

Metrics = dict[str, Array]

# Number of the key that steps draw from, where those of epochs count from zero.
NO_EPOCH = 2**32 - 1


class State(NamedTuple):
    """Everything that the rest of a run depends on: a run that goes on from it gives the same bits.

    Attributes:
        params: The network's parameters, the task's where it has any, and under CARRIED what a network carries
            from step to step without a gradient, such as batch statistics.
        opt_state: The optimizer's state, the step count of its schedule among it.
        mean_params: Running mean of the parameters; None without `ema_decay`.
        key: Where the order of every epoch comes from. It does not change.
        epoch: Epochs done.
    """

    params: Params
    opt_state: Any
    mean_params: Params | None
    key: PRNGKeyArray
    epoch: Int[Array, ""]


class Train(NamedTuple):
    """Pure functions of arrays: to be jitted, vmapped over keys and hyperparams, or mapped.

    Attributes:
        init: (key, hyperparams) -> state.
        train_epoch: (state, hyperparams, examples) -> state, and what the task measures, `loss` and more, and
            `grad_norm`, in each step [steps].
        train_block: (state, hyperparams, step, batches [steps, batch, ...]) -> the same, for the steps of an
            epoch from `step` on; the last of them end the epoch.
        evaluate: (state, hyperparams, examples) -> the task's measures, and the `outputs` [N, outputs].
    """

    init: Callable[[PRNGKeyArray, Hyperparams], State]
    train_epoch: Callable[[State, Hyperparams, Examples], tuple[State, Metrics]]
    train_block: Callable[[State, Hyperparams, Int[Array, ""] | int, Examples], tuple[State, Metrics]]
    evaluate: Callable[[State, Hyperparams, Examples], Metrics]


def epoch_order(
    key: PRNGKeyArray, epoch: Int[Array, ""] | int, num_examples: int, batch_size: int
) -> Int[Array, "steps batch"]:
    """Which examples each step of an epoch takes: each at most once, by key and epoch alone.

    What fills no last batch is left out; as every epoch has another order, it is left out of another one.
    """
    steps = num_examples // batch_size
    order = jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)
    return order[: steps * batch_size].reshape(steps, batch_size)


def make_train(
    config: Config, input_shape: tuple[int, ...], task: Task, num_train: int, mesh: Mesh | None = None
) -> Train:
    """The run that `config` describes, as pure functions.

    Of the config, they read what shapes the program. Its numbers (HYPERPARAMS) and its seed come in as
    arguments, traced, so that one compiled program serves all their values.

    Args:
        config: What to train, and how.
        input_shape: Shape of one example's inputs.
        task: What the outputs mean.
        num_train: Training examples, which with the batch size gives the steps of an epoch.
        mesh: Devices, along `batch` to divide every batch over, and along `classes` to divide over what has an
            entry for each class; None leaves that to the caller.

    Raises:
        ConfigError: The model does not fit the inputs or the task.
    """
    model = make_model(config, task.num_outputs, input_shape)
    batch_size = min(config.batch_size or num_train, num_train)
    steps_per_epoch = num_train // batch_size

    def place(tree: Any, *axes: str | None) -> Any:
        if mesh is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(*axes)))

    def place_state(state: State) -> State:
        def place_leaf(leaf: Array) -> Array:
            by_class = leaf.ndim == 2 and leaf.shape[1] == task.num_classes and config.class_devices > 1
            return place(leaf, *((None, "classes") if by_class else ()))

        return jax.tree.map(place_leaf, state)

    def init(key: PRNGKeyArray, hyperparams: Hyperparams) -> State:
        params_key, order_key = jax.random.split(key)
        params = model.init(params_key, jnp.zeros((1, *input_shape)))
        params = params | task.init(jax.random.fold_in(params_key, 1))
        trained, _ = split(params)
        opt_state = make_optimizer(config, hyperparams, steps_per_epoch).init(trained)
        mean_params = None if config.ema_decay is None else jax.tree.map(jnp.copy, trained)
        return place_state(State(params, opt_state, mean_params, order_key, jnp.zeros((), jnp.int32)))

    def train_steps(
        state: State, hyperparams: Hyperparams, steps: Int[Array, "steps"], batches: Examples
    ) -> tuple[State, Metrics]:
        tx = make_optimizer(config, hyperparams, steps_per_epoch)
        key = jax.random.fold_in(state.key, NO_EPOCH)

        def batch_loss(
            trained: Params, carried: Params, batch: Examples, step: Array
        ) -> tuple[Array, tuple[Metrics, Params]]:
            numbers = dict(hyperparams)
            if config.margin_epochs:
                numbers[MARGIN_SHARE] = jnp.minimum(step / (config.margin_epochs * steps_per_epoch), 1.0)
            task_key = jax.random.fold_in(key, step)
            outputs, carried = model.apply(trained | carried, batch.inputs, jax.random.fold_in(task_key, 1))
            measures = task.measure(outputs, batch.labels, numbers, trained, task_key)
            return measures["loss"], (measures, carried)

        def train_step(state: State, numbered: tuple[Array, Examples]) -> tuple[State, Metrics]:
            step, batch = numbered
            grad = jax.grad(batch_loss, has_aux=True)
            trained, carried = split(state.params)
            grads, (measures, carried) = grad(trained, carried, batch, step)
            updates, opt_state = tx.update(grads, state.opt_state, trained)
            trained = optax.apply_updates(trained, updates)
            mean_params = state.mean_params
            if mean_params is not None:
                mean_params = update_mean(mean_params, trained, hyperparams["ema_decay"], step)
            state = state._replace(params=trained | carried, opt_state=opt_state, mean_params=mean_params)
            return state, {**measures, "grad_norm": optax.tree.norm(grads)}

        return jax.lax.scan(train_step, state, (steps, batches))

    def train_epoch(state: State, hyperparams: Hyperparams, examples: Examples) -> tuple[State, Metrics]:
        order = epoch_order(state.key, state.epoch, num_train, batch_size)
        # One gather for the whole epoch: inside the step it would be fused into, and repeated for, every use.
        batches = place(jax.tree.map(lambda rows: jnp.asarray(rows)[order], examples), None, "batch")
        steps = state.epoch * steps_per_epoch + jnp.arange(steps_per_epoch)
        state, metrics = train_steps(state, hyperparams, steps, batches)
        return place_state(state._replace(epoch=state.epoch + 1)), place(metrics)

    def train_block(
        state: State, hyperparams: Hyperparams, step: Int[Array, ""] | int, batches: Examples
    ) -> tuple[State, Metrics]:
        count = len(batches.labels)
        steps = state.epoch * steps_per_epoch + step + jnp.arange(count)
        state, metrics = train_steps(state, hyperparams, steps, place(batches, None, "batch"))
        state = state._replace(epoch=state.epoch + (step + count == steps_per_epoch))
        return place_state(state), place(metrics)

    def evaluate(state: State, hyperparams: Hyperparams, examples: Examples) -> Metrics:
        trained, carried = split(state.params)
        params = (trained if state.mean_params is None else state.mean_params) | carried
        count = len(examples.labels)
        steps = math.ceil(count / batch_size)

        def in_batches(rows: Array | np.ndarray) -> Any:
            padding = ((0, steps * batch_size - count),) + ((0, 0),) * (rows.ndim - 1)
            return jnp.pad(rows, padding).reshape(steps, batch_size, *rows.shape[1:])

        batches = place(in_batches(examples.inputs), None, "batch")
        outputs = jax.lax.map(lambda inputs: model.apply(params, inputs, None)[0], batches)
        outputs = outputs.reshape(steps * batch_size, -1)[:count]
        measures = task.measure(outputs, examples.labels, hyperparams, params)
        return place({**measures, "outputs": outputs})

    return Train(init, train_epoch, train_block, evaluate)
