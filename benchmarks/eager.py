"""One eager call of each main loss, checks of its arguments included, beside the same function of optax."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxce
from benchmarks.timing import Contender, Work

CALLS = 100  # in a turn


def contenders(name: str, labels: str) -> Mapping[str, Contender | None]:
    """Eager calls at 32×10 as jaxce and optax have them, and jaxce's compiled, whose checks are made once."""
    import optax

    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.standard_normal((32, 10), np.float32))
    given = {
        "integer": rng.integers(0, 10, 32).astype(np.int32),
        "distribution": rng.dirichlet(np.ones(10), 32).astype(np.float32),
        "binary": rng.integers(0, 2, (32, 10)).astype(np.float32),
    }[labels]
    inputs = jax.nn.log_softmax(logits) if name == "kl_divergence" else logits
    ours = getattr(jaxce, name)
    functions = {"jaxce": ours, "optax": getattr(optax.losses, name), "jaxce compiled": jax.jit(ours)}
    return {which: repeated(function, inputs, jnp.asarray(given)) for which, function in functions.items()}


def repeated(function: Callable[..., Any], *arguments: jax.Array) -> Contender:
    """Calls one after the other, each waited for, as in a loop that reads every loss."""

    def run() -> None:
        for _ in range(CALLS):
            function(*arguments).block_until_ready()

    return Contender(run, CALLS)


WORKS = tuple(
    Work(f"eager-{title}", f"{name}, one eager call at 32×10", partial(contenders, name, labels))
    for title, name, labels in (
        ("classes", "softmax_cross_entropy_with_integer_labels", "integer"),
        ("distributions", "softmax_cross_entropy", "distribution"),
        ("binary", "sigmoid_binary_cross_entropy", "binary"),
        ("focal", "sigmoid_focal_loss", "binary"),
        ("poly", "poly_loss_cross_entropy", "distribution"),
        ("divergence", "kl_divergence", "distribution"),
        ("squared", "squared_error", "binary"),
    )
)
