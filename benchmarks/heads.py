"""The linear head, from features and kernel to the mean loss and both gradients, beside the heads of others."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxce
from benchmarks.timing import Contender, Work, installed

Head = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def contenders(
    rows: int, features: int, classes: int, dtype: Any = jnp.float32, accelerator: bool = False
) -> Mapping[str, Contender | None]:
    """Everybody's mean loss of `rows` examples, with its gradients in features and kernel."""
    if accelerator and jax.default_backend() == "cpu":
        return {"jaxce": Contender("left out: for an accelerator")}
    x, w, y = draw(rows, features, classes)
    arrays = jnp.asarray(x, dtype), jnp.asarray(w, dtype), jnp.asarray(y)
    found: dict[str, Contender | None] = {
        "jaxce": compiled(jaxce.linear_softmax_cross_entropy, *arrays),
        "optax, plain": compiled(plain_head, *arrays),
        "torch, plain": None,
        "tokamax": compiled(tokamax_head, *arrays) if installed("tokamax") else None,
    }
    if installed("torch"):
        logits = 2 * 4 * rows * classes
        found["torch, plain"] = Contender(does_not_fit(logits) or torch_head(x, w, y), memory=logits)
    return found


def draw(rows: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, kernel and labels, the same for everybody."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, features), np.float32)
    w = rng.standard_normal((features, classes), np.float32) / np.float32(features) ** 0.5
    return x, w, rng.integers(0, classes, rows).astype(np.int32)


def compiled(head: Head, *arrays: jax.Array) -> Contender:
    """A head with both gradients, compiled; what its program would need shows before it runs."""
    program = step(head).lower(*arrays).compile()
    memory = program.memory_analysis().temp_size_in_bytes
    return Contender(does_not_fit(memory) or partial(program, *arrays), memory=memory)


def step(head: Head) -> Any:
    """The mean loss and its gradients in features and kernel."""
    return jax.jit(lambda x, w, y: jax.value_and_grad(head, (0, 1))(x, w, y))


def does_not_fit(needed: int) -> str:
    """Why not, where the machine has less memory free than that; accelerators say it themselves."""
    if jax.default_backend() != "cpu" or not hasattr(os, "sysconf"):
        return ""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return "" if needed < 0.8 * free else "does not fit"


def plain_head(x: jax.Array, w: jax.Array, y: jax.Array) -> jax.Array:
    """The usual way: all logits at once, then optax."""
    import optax

    logits = jnp.dot(x, w, preferred_element_type=jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def tokamax_head(x: jax.Array, w: jax.Array, y: jax.Array) -> jax.Array:
    """Tokamax as it chooses for the device, but for CPUs, where its choice holds all logits, in chunks."""
    import tokamax

    chunks = {"implementation": "chunked_xla"} if jax.default_backend() == "cpu" else {}
    try:
        return tokamax.linear_softmax_cross_entropy_loss(x, y, w, reduction="mean", **chunks)
    except ValueError:  # versions that have no chunks
        return tokamax.linear_softmax_cross_entropy_loss(x, y, w, reduction="mean")


def torch_head(features: np.ndarray, kernel: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """Torch's product and loss, and its gradients."""
    import torch

    x, w = (torch.from_numpy(a).requires_grad_() for a in (features, kernel))
    y = torch.from_numpy(labels).long()

    def run() -> Any:
        x.grad = w.grad = None
        torch.nn.functional.cross_entropy(x @ w, y).backward()
        return len(y)

    return run


WORKS = (
    Work(
        "head",
        "linear head, 2048×512×32768 float32, value and both gradients",
        partial(contenders, 2048, 512, 32768),
        goals={"optax, plain": 1, "torch, plain": 1},
        memory_goals={"optax, plain": 8},
        rounds=7,
    ),
    Work(
        "head-large",
        "the same at 16384×512×131072, whose logits alone are 8 GiB",
        partial(contenders, 16384, 512, 131072),
        rounds=1,
    ),
    Work(
        "head-accelerator",
        "the same at 8192×4096×131072, bfloat16",
        partial(contenders, 8192, 4096, 131072, jnp.bfloat16, accelerator=True),
        goals={"tokamax": 1.2, "optax, plain": 1.2},
        rounds=20,
        at_most=0.045,
    ),
)
