"""Update rules from Optax; their numbers are arguments that may be traced, their structure is the config's."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxce.lab.config import Config

Scalar = Float[Array, ""] | float


def make_schedule(config: Config, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate as a fraction of its peak, by step: a linear warm-up, then constant or half a cosine."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    rest = max(config.epochs * steps_per_epoch - warmup, 1)
    after = (
        optax.cosine_decay_schedule(1.0, rest) if config.schedule == "cosine" else optax.constant_schedule(1.0)
    )
    # From 1/(warmup+1): a first step of zero length would be wasted.
    rise = optax.linear_schedule(1 / (warmup + 1), 1.0, warmup)
    return optax.join_schedules([rise, after], [warmup]) if warmup else after


def make_optimizer(
    config: Config, hyperparams: Mapping[str, Scalar], steps_per_epoch: int
) -> optax.GradientTransformation:
    """Clipping, weight decay, the config's rule and its schedule, with the numbers in `hyperparams`.

    The state depends on the config alone, so that one compiled step serves all values of the numbers.
    """
    beta, peak = hyperparams["momentum"], hyperparams["learning_rate"]
    rule = {
        "sgd": optax.identity,
        "momentum": lambda: optax.trace(beta),
        "adam": lambda: optax.scale_by_adam(beta),
        "adamw": lambda: optax.scale_by_adam(beta),
        "lamb": lambda: optax.scale_by_adam(beta, eps=1e-6),
        "lion": lambda: optax.scale_by_lion(beta),
    }[config.optimizer]()
    decay = optax.add_decayed_weights(hyperparams["weight_decay"], mask=is_kernel)
    decoupled = config.optimizer in ("adamw", "lamb", "lion")
    schedule = make_schedule(config, steps_per_epoch)
    return optax.chain(
        optax.clip_by_global_norm(hyperparams["clip_norm"])
        if config.clip_norm is not None
        else optax.identity(),
        *((rule, decay) if decoupled else (decay, rule)),
        optax.scale_by_trust_ratio() if config.optimizer == "lamb" else optax.identity(),
        optax.scale_by_learning_rate(lambda step: peak * schedule(step)),
    )


def is_kernel(params: Any) -> Any:
    """A tree of the params' shape that says which leaves weight decay pulls: kernels, not biases.

    That is, arrays of two axes or more, whatever a library calls them, without `bias` in their name.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim >= 2 and "bias" not in jax.tree_util.keystr(path[-2:]), params
    )


def update_mean(mean: Any, params: Any, decay: Scalar, step: Array) -> Any:
    """Exponential moving average of the parameters after `step` + 1 updates.

    The decay starts small, (1 + step) / (10 + step), so that the initial parameters are soon forgotten.
    """
    return optax.incremental_update(params, mean, 1 - jnp.minimum(decay, (1 + step) / (10 + step)))
