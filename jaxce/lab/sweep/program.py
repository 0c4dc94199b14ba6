"""The compiled program in which settings that differ only in numbers are trained side by side."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, UInt32

from jaxce.lab.config import Config, hyperparams
from jaxce.lab.data import Dataset, Split, Stream, load
from jaxce.lab.errors import ConfigError
from jaxce.lab.tasks import make_task
from jaxce.lab.training.step import State, make_train


def load_whole(config: Config) -> Dataset:
    """The data of a setting, all of which stay on the devices.

    Raises:
        ConfigError: They are too large for that, or the setting is for several devices; or what `load` raises.
    """
    if config.class_devices > 1:
        raise ConfigError(
            f"class_devices is {config.class_devices}, but a sweep gives a setting one device: run train.py "
            f"for each setting"
        )
    dataset = load(config.data, Split(config.valid_fraction, config.test_fraction, config.split_seed))
    if isinstance(dataset.train, Stream):
        raise ConfigError(
            f"a sweep keeps its data on the device and does not stream, for which data {config.data} is too "
            f"large, with {len(dataset.train.labels)} examples to train on: sweep over a part of them, or run "
            f"train.py for each setting"
        )
    return dataset


class Slots(NamedTuple):
    """The settings in the slots of a program.

    Attributes:
        key: Key data of the seed.
        numbers: Hyperparameters.
        fresh: Whether to begin with initial parameters.
        active: Whether to do anything.
    """

    key: UInt32[Array, "slots words"]
    numbers: dict[str, Float[Array, "slots"]]
    fresh: Bool[Array, "slots"]
    active: Bool[Array, "slots"]


class Measured(NamedTuple):
    """Measurements of a setting.

    Attributes:
        epoch: Epochs done.
        steps: Of each step of the last one.
        scores: On valid, after it.
    """

    epoch: int
    steps: Mapping[str, np.ndarray]
    scores: dict[str, float]


class Program:
    """A fixed number of slots for settings of one group, all trained by some epochs at a time.

    A slot that becomes free takes another setting while the others train. No shape changes, so nothing compiles
    again.
    """

    def __init__(self, config: Config, dataset: Dataset, num_slots: int, devices: Sequence[jax.Device]) -> None:
        """Make slots and put the data on the devices.

        Args:
            config: Of any setting of the group.
            dataset: What to train on.
            num_slots: How many slots at least; rounded up to fill the devices evenly.
            devices: Where to put them.
        """
        train, shape = dataset.train, dataset.train.inputs.shape[1:]
        self._dataset, self._task = dataset, make_task(config, dataset)
        functions = make_train(config, shape, self._task, len(train.labels))
        self.num_slots = -(-num_slots // len(devices)) * len(devices)
        self._num_devices = len(devices)
        mesh = jax.make_mesh((len(devices),), ("settings",), axis_types=(AxisType.Auto,), devices=devices)
        apart, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("settings",), ()))
        # Slots take turns on a CPU: convolutions as products fill a core, and side by side measured slower,
        # 3.7 against 2.7 ms a step and setting (docs/sweeps.md). In turns the bits are those of train.py.
        over_slots = in_turns if devices[0].platform == "cpu" else jax.vmap

        def advance(state: State, slot: Slots, epochs: Any, train: Any, valid: Any) -> tuple[State, Any]:
            key = jax.random.wrap_key_data(slot.key)
            state = jax.lax.cond(slot.fresh, lambda: functions.init(key, slot.numbers), lambda: state)
            # An inactive slot has no epoch to train, and costs nothing where slots take turns.
            end = jnp.where(slot.active, state.epoch + epochs, 0)

            @partial(jax.jit, inline=True)  # traced once, for its shapes and for the loop
            def epoch(state: State) -> tuple[State, Any]:
                state, steps = functions.train_epoch(state, slot.numbers, train)
                return state, (steps, functions.evaluate(state, slot.numbers, valid))

            def is_unfinished(reached: tuple[State, Any]) -> Bool[Array, ""]:
                state, (steps, scores) = reached
                is_finite = jnp.isfinite(steps["loss"]).all() & jnp.isfinite(scores["loss"])
                return (state.epoch < end) & is_finite

            start = state, zeros_like_output(epoch, state)[1]
            state, found = jax.lax.while_loop(is_unfinished, lambda reached: epoch(reached[0]), start)
            return state, (state.epoch, *found)

        def test(state: State, slot: Slots, test: Any) -> tuple[State, Any]:
            def evaluate(state: State) -> Any:
                return functions.evaluate(state, slot.numbers, test)

            return state, jax.lax.cond(slot.active, evaluate, lambda s: zeros_like_output(evaluate, s), state)

        def compiled(function: Callable[..., Any], num_parts: int) -> Callable[..., Any]:
            def of_device(states: State, slots: Slots, *parts: Any) -> Any:
                return over_slots(lambda state, slot: function(state, slot, *parts))(states, slots)

            specs, shared = PartitionSpec("settings"), (PartitionSpec(),) * num_parts
            # Slots are independent, so that there is no replication to check.
            spread = jax.shard_map(
                of_device, mesh=mesh, in_specs=(specs, specs, *shared), out_specs=specs, check_vma=False
            )
            return jax.jit(spread, donate_argnums=0, out_shardings=apart)

        def empty(leaf: jax.ShapeDtypeStruct) -> Array:
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.split(jax.random.key(0), self.num_slots)
            return jnp.zeros((self.num_slots, *leaf.shape), leaf.dtype)

        self._train, self._valid, self._test_part = jax.device_put(
            (dataset.train, dataset.valid, dataset.test), everywhere
        )
        self._apart = apart
        self._advance, self._test = compiled(advance, 3), compiled(test, 1)
        like = jax.eval_shape(functions.init, jax.random.key(0), hyperparams(config))
        self._states = jax.jit(lambda: jax.tree.map(empty, like), out_shardings=apart)()
        self._numbers = {name: np.zeros(self.num_slots, np.float32) for name in hyperparams(config)}
        self._keys = np.zeros((self.num_slots, *jax.random.key_data(jax.random.key(0)).shape), np.uint32)
        self._busy, self._fresh = np.zeros((2, self.num_slots), bool)

    def begin(self, config: Config) -> int:
        """Put a setting into a free slot, on the device with most of them; its first epoch comes next."""
        by_device = np.reshape(self._busy, (self._num_devices, -1))
        slot = int(np.argmin(self._busy + np.repeat(by_device.mean(1) / 2, by_device.shape[1])))
        self._busy[slot] = self._fresh[slot] = True
        self._keys[slot] = jax.random.key_data(jax.random.key(config.seed))
        for name, value in hyperparams(config).items():
            self._numbers[name][slot] = value
        return slot

    def end(self, slot: int) -> None:
        """Free a slot."""
        self._busy[slot] = False

    def advance(self, epochs: int = 1) -> dict[int, Measured]:
        """Train every setting by some epochs, or until its loss is not a finite number."""
        busy = np.flatnonzero(self._busy).tolist()
        slots = self._slots(busy)
        self._states, found = self._advance(self._states, slots, np.int32(epochs), self._train, self._valid)
        self._fresh[:] = False
        done, steps, scores = jax.device_get(found)
        return {
            slot: Measured(int(done[slot]), at(steps, slot), self._scores(at(scores, slot), "valid"))
            for slot in busy
        }

    def test(self, slots: Sequence[int]) -> dict[int, dict[str, float]]:
        """The scores on test in some slots."""
        self._states, found = self._test(self._states, self._slots(slots), self._test_part)
        found = jax.device_get(found)
        return {slot: self._scores(at(found, slot), "test") for slot in slots}

    def _scores(self, found: Mapping[str, np.ndarray], part: str) -> dict[str, float]:
        return self._task.scores(found, getattr(self._dataset, part).labels)

    def _slots(self, active: Sequence[int]) -> Slots:
        is_active = np.isin(np.arange(self.num_slots), active)
        # A copy: on a CPU an array on the device may be the NumPy array itself.
        slots = jax.tree.map(np.copy, (self._keys, self._numbers, self._fresh, is_active))
        return Slots(*jax.device_put(slots, self._apart))


def at(found: Any, slot: int) -> Any:
    """What was found in one slot."""
    return jax.tree.map(lambda rows: rows[slot], found)


def in_turns(function: Callable[[State, Slots], Any]) -> Callable[[State, Slots], Any]:
    """As `jax.vmap`, one after the other."""
    return lambda states, slots: jax.lax.map(lambda each: function(*each), (states, slots))


def zeros_like_output(function: Callable[[State], Any], state: State) -> Any:
    """Zeros in the shapes of what `function` gives."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, state))
