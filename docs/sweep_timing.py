"""How settings are best run together: `python docs/sweep_timing.py [ROUNDS]` prints a table of sweeps.md.

Eight settings of the digits CNN, an epoch of each in turn, so that what else the machine does hits all alike.
"""

import os
import sys
import time

import jax
import numpy as np

from jaxce.lab.config import hyperparams, load_config
from jaxce.lab.data import DATASETS, Split
from jaxce.lab.sweep import program as program_module
from jaxce.lab.sweep.program import Program, in_turns
from jaxce.lab.tasks import make_task
from jaxce.lab.training.step import make_train

SETTINGS = 8


def main(rounds: int) -> None:
    """Measure, and print milliseconds a step and setting: median, and fastest."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    config = load_config("digits")
    dataset = DATASETS[config.data](Split(config.valid_fraction, config.test_fraction, config.split_seed))
    steps = len(dataset.train.labels) // config.batch_size

    functions = make_train(
        config, dataset.train.inputs.shape[1:], make_task(config, dataset), len(dataset.train.labels)
    )
    train_epoch, evaluate = jax.jit(functions.train_epoch), jax.jit(functions.evaluate)
    numbers = hyperparams(config)
    state = jax.jit(functions.init)(jax.random.key(0), numbers)

    def loop() -> None:
        for _ in range(SETTINGS):
            after, measures = train_epoch(state, numbers, dataset.train)
            jax.device_get((measures, evaluate(after, numbers, dataset.valid)))

    contenders = {"a loop of calls": loop}
    for count in dict.fromkeys((1, len(jax.devices()))):
        for words, over_slots in (("in turns", in_turns), ("side by side (vmap)", jax.vmap)):
            program_module.in_turns = over_slots
            program = Program(config, dataset, SETTINGS, jax.devices()[:count])
            for _ in range(SETTINGS):
                program.begin(config)
            contenders[f"{words} on {count} device{'s' * (count > 1)}"] = program.advance

    found: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, epoch in contenders.items():
            started = time.perf_counter()
            epoch()
            if round_:  # the first compiles
                found[name].append(1e3 * (time.perf_counter() - started) / SETTINGS / steps)
    for name, times in found.items():
        print(f"{name:40} {np.median(times):6.2f} {min(times):6.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
