"""The integer-label softmax loss on given logits, beside optax, torch and the bare passes over memory."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxce
from benchmarks.timing import Contender, Work, installed

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def value_contenders(rows: int, classes: int) -> Mapping[str, Contender | None]:
    """The mean loss."""
    return contenders(rows, classes, lambda mean_loss: mean_loss, torch_value) | {
        "one exp-sum pass": passed(lambda logits: jnp.exp(logits).sum(-1), rows, classes)
    }


def grad_contenders(rows: int, classes: int) -> Mapping[str, Contender | None]:
    """The mean loss and its gradient."""
    return contenders(rows, classes, jax.value_and_grad, torch_value_and_grad) | {
        "one exp pass": passed(jnp.exp, rows, classes)
    }


def draw(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels, the same for everybody."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, classes), np.float32), rng.integers(0, classes, rows).astype(np.int32)


def contenders(
    rows: int, classes: int, transform: Callable[..., Any], torch_form: Callable[..., Callable[[], Any]]
) -> dict[str, Contender | None]:
    """The libraries, each with `transform` of its mean loss."""
    import optax

    logits, labels = draw(rows, classes)
    z, y = jnp.asarray(logits), jnp.asarray(labels)

    def compiled(loss: Loss) -> Contender:
        step = jax.jit(transform(lambda z, y: loss(z, y).mean()))
        return Contender(lambda: step(z, y))

    found: dict[str, Contender | None] = {
        "jaxce": compiled(jaxce.softmax_cross_entropy_with_integer_labels),
        "optax": compiled(optax.softmax_cross_entropy_with_integer_labels),
        "torch": None,
    }
    if installed("torch"):
        import torch

        found["torch"] = Contender(torch_form(torch.from_numpy(logits), torch.from_numpy(labels).long()))
    return found


def torch_value(logits: Any, labels: Any) -> Callable[[], Any]:
    """Torch's mean loss."""
    import torch

    def run() -> Any:
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(logits, labels).item()

    return run


def torch_value_and_grad(logits: Any, labels: Any) -> Callable[[], Any]:
    """Torch's mean loss and its gradient."""
    import torch

    leaf = logits.requires_grad_()

    def run() -> Any:
        leaf.grad = None
        torch.nn.functional.cross_entropy(leaf, labels).backward()
        return leaf.grad.shape

    return run


def passed(function: Callable[[jax.Array], jax.Array], rows: int, classes: int) -> Contender:
    """A bare pass over the logits: what any loss must take at least."""
    logits = jnp.asarray(draw(rows, classes)[0])
    step = jax.jit(function)
    return Contender(lambda: step(logits))


WORKS = (
    Work(
        "loss-wide",
        "softmax loss, integer labels, mean, 4096×32768 float32, value",
        partial(value_contenders, 4096, 32768),
        goals={"optax": 6, "torch": 3, "one exp-sum pass": 1 / 1.3},
    ),
    Work(
        "loss-wide-grad",
        "the same, value and gradient",
        partial(grad_contenders, 4096, 32768),
        goals={"optax": 1, "torch": 2.2, "one exp pass": 1 / 1.1},
    ),
    Work(
        "loss-narrow",
        "softmax loss, integer labels, mean, 65536×128 float32, value",
        partial(value_contenders, 65536, 128),
        goals={"optax": 3},
        rounds=50,
    ),
    Work(
        "loss-narrow-grad",
        "the same, value and gradient",
        partial(grad_contenders, 65536, 128),
        goals={"optax": 1.3, "torch": 3.5},
        rounds=50,
    ),
)
