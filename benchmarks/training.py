"""The training step beside the usual Flax way and torch, and `train.py` as a whole process."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.timing import Contender, Work, installed
from jaxce.lab.config import Config, hyperparams
from jaxce.lab.data import Examples
from jaxce.lab.tasks.classes import ClassTask
from jaxce.lab.training.step import make_train

BATCH, STEPS, CLASSES = 128, 10, 10


def step_contenders(size: int, dense: int) -> Mapping[str, Contender | None]:
    """One step of Adam on images [128, size, size, 1]: 3×3×32, pool, 3×3×64, pool, dense, 10."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH * STEPS, size, size, 1), np.float32)
    labels = rng.integers(0, CLASSES, BATCH * STEPS).astype(np.int32)
    return {
        "jaxce": jaxce_step(Examples(images, labels), dense),
        "flax, the usual way": flax_step(images, labels, dense),
        "torch, channels last": torch_step(images, labels, dense) if installed("torch") else None,
    }


def jaxce_step(examples: Examples, dense: int) -> Contender:
    """An epoch of jaxce: the gather of its batches included."""
    config = Config(widths=(32, 64, dense), batch_size=BATCH)
    task = ClassTask(config.loss, CLASSES)
    functions = make_train(config, examples.inputs.shape[1:], task, len(examples.labels))
    numbers = hyperparams(config)
    train_epoch = jax.jit(functions.train_epoch)
    state = jax.jit(functions.init)(jax.random.key(0), numbers)
    examples = jax.device_put(examples)
    return Contender(lambda: train_epoch(state, numbers, examples)[0].params, STEPS)


class UsualNetwork(nn.Module):
    """The same network as tutorials write it."""

    dense: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        x = nn.max_pool(nn.relu(nn.Conv(32, (3, 3))(x)), (2, 2), strides=(2, 2))
        x = nn.max_pool(nn.relu(nn.Conv(64, (3, 3))(x)), (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(self.dense)(x.reshape(len(x), -1)))
        return nn.Dense(CLASSES)(x)


def flax_step(images: np.ndarray, labels: np.ndarray, dense: int) -> Contender:
    """nn.Conv, nn.max_pool and optax, one jit a step, the batch passed in."""
    model, tx = UsualNetwork(dense), optax.adam(1e-3)

    @jax.jit
    def step(params: Any, opt_state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any]:
        def loss(params: Any) -> jax.Array:
            logits: Any = model.apply(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    start = jax.jit(model.init)(jax.random.key(0), images[:1])
    batches = [
        (jnp.asarray(images[i : i + BATCH]), jnp.asarray(labels[i : i + BATCH]))
        for i in range(0, len(labels), BATCH)
    ]

    def run() -> Any:
        params, opt_state = start, tx.init(start)
        for x, y in batches:
            params, opt_state = step(params, opt_state, x, y)
        return params

    return Contender(run, STEPS)


def torch_step(images: np.ndarray, labels: np.ndarray, dense: int) -> Contender:
    """Torch with its fastest layout for CPUs."""
    import torch

    size = images.shape[1]
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * (size // 4) ** 2, dense),
        torch.nn.ReLU(),
        torch.nn.Linear(dense, CLASSES),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(memory_format=torch.channels_last)
    y = torch.from_numpy(labels).long()

    def run() -> Any:
        for i in range(0, len(y), BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[i : i + BATCH]), y[i : i + BATCH]).backward()
            optimizer.step()
        return len(y)

    return Contender(run, STEPS)


def process_contenders(cached: bool) -> Mapping[str, Contender | None]:
    """`python train.py`: with no compiled program in the cache, or with those of a run before."""
    kept = tempfile.TemporaryDirectory(prefix="jaxce-bench-")  # removed when nobody runs any more

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            cache = kept.name if cached else f"{folder}/cache"
            subprocess.run(
                [sys.executable, "-m", "jaxce", "train", "--workdir", f"{folder}/run"],
                env=environment(cache),
                stdout=subprocess.DEVNULL,
                check=True,
            )

    return {"jaxce": Contender(run)}


def environment(cache: str) -> dict[str, str]:
    """This process's environment, with compiled programs kept in `cache`."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, "PYTHONPATH": path}


Contenders = Callable[[], Mapping[str, Contender | None]]

WORKS = (
    Work(
        "step-digits",
        "train step, digits CNN 8×8, batch 128, Adam",
        partial(step_contenders, 8, 128),
        goals={"flax, the usual way": 6, "torch, channels last": 1.5},
        rounds=20,
    ),
    Work(
        "step-mnist",
        "train step, 28×28 CNN, batch 128, Adam",
        partial(step_contenders, 28, 256),
        goals={"flax, the usual way": 2.5, "torch, channels last": 1.1},
        rounds=5,
    ),
    Work(
        "train-cold", "python train.py, nothing compiled", partial(process_contenders, False), {}, 3, at_most=15
    ),
    Work(
        "train-again", "python train.py, the second time", partial(process_contenders, True), {}, 3, at_most=10
    ),
)
