"""Sixteen settings of the digits CNN: as a sweep, as runs of train.py, and as a loop in one process."""

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.timing import Contender, Work
from benchmarks.training import environment

LEARNING_RATES, SMOOTHINGS, SEEDS = (1e-3, 3e-3), (0.0, 0.1), range(4)


def contenders() -> Mapping[str, Contender | None]:
    """Whole processes, with what they compiled in the round before."""
    cache = tempfile.TemporaryDirectory(prefix="jaxce-bench-")  # removed when the process ends

    def process(*commands: list[str]) -> Callable[[], None]:
        def run() -> None:
            with tempfile.TemporaryDirectory() as folder:
                for i, command in enumerate(commands):
                    words = [each.replace("WORKDIR", str(Path(folder) / str(i))) for each in command]
                    subprocess.run(
                        [sys.executable, "-m", *words],
                        env=environment(cache.name),
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        check=True,
                    )

        return run

    over = [
        f"learning_rate={','.join(map(str, LEARNING_RATES))}",
        f"label_smoothing={','.join(map(str, SMOOTHINGS))}",
        f"seed=seeds:{len(SEEDS)}",
    ]
    runs = [
        f"jaxce train --workdir WORKDIR --learning-rate {rate} --label-smoothing {smoothing} --seed {seed}"
        for rate, smoothing, seed in itertools.product(LEARNING_RATES, SMOOTHINGS, SEEDS)
    ]
    return {
        "jaxce": Contender(process(["jaxce", "sweep", "digits", "--workdir", "WORKDIR", "--over", *over])),
        "16 runs of train.py": Contender(process(*map(str.split, runs))),
        "a loop in one process": Contender(process(["benchmarks.sweep"])),
    }


def loop_over_settings() -> None:
    """The settings one after the other, compiled once; valid scores are fetched each epoch, nothing is kept."""
    import jax

    from jaxce.lab.config import hyperparams, load_config
    from jaxce.lab.data import DATASETS, Split
    from jaxce.lab.tasks import make_task
    from jaxce.lab.training.devices import cache_compilations
    from jaxce.lab.training.step import make_train

    cache_compilations()
    config = load_config("digits")
    dataset = DATASETS["digits"](Split(config.valid_fraction, config.test_fraction, config.split_seed))
    train, valid, test = (jax.device_put(part) for part in (dataset.train, dataset.valid, dataset.test))
    task = make_task(config, dataset)
    functions = make_train(config, dataset.train.inputs.shape[1:], task, len(dataset.train.labels))
    train_epoch = jax.jit(functions.train_epoch, donate_argnums=0)
    init, evaluate = jax.jit(functions.init), jax.jit(functions.evaluate)
    for rate, smoothing, seed in itertools.product(LEARNING_RATES, SMOOTHINGS, SEEDS):
        numbers = hyperparams(replace(config, learning_rate=rate, label_smoothing=smoothing))
        state = init(jax.random.key(seed), numbers)
        for _ in range(config.epochs):
            state, measures = train_epoch(state, numbers, train)
            jax.device_get((measures, evaluate(state, numbers, valid)))
        jax.device_get(evaluate(state, numbers, test))


WORKS = (
    Work(
        "sweep",
        "16 settings of the digits CNN",
        contenders,
        goals={"16 runs of train.py": 3, "a loop in one process": 1},
        rounds=2,
    ),
)

if __name__ == "__main__":
    loop_over_settings()
