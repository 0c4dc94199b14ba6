"""Models: the built-in networks, and any pair of functions `init` and `apply` that a config names."""

import inspect
import math
import pkgutil
import runpy
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxce.lab.config import WIDTHS_OF, Config
from jaxce.lab.errors import ConfigError

Params = dict[str, Any]

CARRIED = "carried"

DEFAULT_WIDTHS = {"cnn": (32, 64, 128), "group_norm_cnn": (32, 64, 128, 256), "mlp": (256,), "linear": ()}


class Model(NamedTuple):
    """A network as training calls it: pure functions, whatever library it was written with.

    Attributes:
        init: (key, inputs) -> the parameters and, under CARRIED, what is carried from step to step without a
            gradient, such as batch statistics; nothing for most.
        apply: (params, inputs, key) -> outputs [batch, outputs], and what is carried then, under CARRIED too.
            With a key, another one in each step, it is a training step, with dropout where there is some; with
            None an evaluation.
    """

    init: Callable[[PRNGKeyArray, Array], Params]
    apply: Callable[..., tuple[Array, Params]]


def split(params: Params) -> tuple[Params, Params]:
    """What is trained, and what is carried, under CARRIED."""
    carried = {name: tree for name, tree in params.items() if name == CARRIED}
    return {name: tree for name, tree in params.items() if name != CARRIED}, carried


def make_model(config: Config, num_outputs: int, input_shape: tuple[int, ...]) -> Model:
    """The model of a config, for inputs [batch, *input_shape] and that many outputs an example.

    Raises:
        ConfigError: It cannot be had, or does not fit; the message says what would.
    """
    if config.model in WIDTHS_OF:
        check_images(config, input_shape)
        return adapt(built_in(config.model, num_outputs, config.widths), wrap=False)
    pair = call_maker(config, num_outputs)
    missing = [name for name in ("init", "apply") if not callable(getattr(pair, name, None))]
    if missing:
        raise ConfigError(
            f"model {config.model} made a {type(pair).__name__} without {' and '.join(missing)}: it must have "
            f"init(key, inputs) and apply(params, inputs)"
        )
    model = adapt(pair, wrap=True)
    check_model(config, model, num_outputs, input_shape)
    return model


def adapt(pair: Any, *, wrap: bool) -> Model:
    """A pair `init` and `apply` as a Model; `wrap` puts its parameters under a name of their own.

    A Flax Linen module takes its dropout key and its collections in ways of its own. Of other pairs, `apply`
    gets `train` and `key` if it has arguments of these names.
    """
    is_linen = isinstance(pair, nn.Module)
    takes = inspect.signature(pair.__call__ if is_linen else pair.apply).parameters

    def init(key: PRNGKeyArray, inputs: Array) -> Params:
        network, carried = pair.init(key, inputs), {}
        if isinstance(network, Mapping) and "params" in network:
            carried = {name: tree for name, tree in network.items() if name != "params"}
            network = network["params"]
        params = {"network": network} if wrap else network
        return params | ({CARRIED: carried} if carried else {})

    def apply(params: Params, inputs: Array, key: PRNGKeyArray | None) -> tuple[Array, Params]:
        network, carried = params["network"] if wrap else params, params.get(CARRIED, {})
        is_training = key is not None
        options: dict[str, Any] = {"train": is_training, "key": key}
        options = {name: value for name, value in options.items() if name in takes}
        variables = {"params": network, **carried} if is_linen or carried else network
        if is_linen and is_training:
            options |= {"rngs": {"dropout": key}, "mutable": list(carried)}
        found = pair.apply(variables, inputs, **options)
        returns_carried = is_training and (is_linen or bool(carried))
        outputs, carried = found if returns_carried else (found, carried)
        return outputs, {CARRIED: carried} if carried else {}

    return Model(init, apply)


def call_maker(config: Config, num_outputs: int) -> Any:
    """What the function that a config names makes."""
    options: dict[str, Any] = {"num_outputs": num_outputs}
    if config.widths is not None:
        options["widths"] = config.widths
    file, _, name = config.model.rpartition(":")
    sys.path.insert(0, folder := str(Path.cwd()))  # where `python -m` looks for modules, and `jaxce` does not
    try:
        make = runpy.run_path(file)[name] if file.endswith(".py") else pkgutil.resolve_name(config.model)
        return make(**options)
    except Exception as error:
        given = ", ".join(f"{option}={value}" for option, value in options.items())
        raise ConfigError(
            f"model {config.model} cannot be made: {type(error).__name__}: {error}; name a function that takes "
            f"{given}, as MODULE:FUNCTION of a module that can be imported from here, or FILE.py:FUNCTION"
        ) from error
    finally:
        sys.path.remove(folder)


def check_model(config: Config, model: Model, num_outputs: int, input_shape: tuple[int, ...]) -> None:
    """Raise ConfigError where a model does not take the inputs, or does not give the outputs, that it must."""
    inputs = jax.ShapeDtypeStruct((2, *input_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        params = jax.eval_shape(model.init, key, inputs)
        trained, kept = jax.eval_shape(model.apply, params, inputs, key)
        tested, _ = jax.eval_shape(partial(model.apply, key=None), params, inputs)
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model {config.model} cannot take inputs of shape {inputs.shape}: {type(error).__name__}: {why}"
        ) from error
    for outputs in (trained, tested):
        if getattr(outputs, "shape", None) != (2, num_outputs):
            raise ConfigError(
                f"model {config.model} gives {outputs} for inputs of shape {inputs.shape}: it must give "
                f"{num_outputs} numbers for each example, of shape (2, {num_outputs})"
            )
    params, carried = split(params)
    whole = [leaf.dtype for leaf in jax.tree.leaves(params) if not jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if whole:
        raise ConfigError(
            f"model {config.model} has parameters of type {whole[0]}, which have no gradient: leave them out, "
            f"or return them beside params, as docs/models.md shows"
        )
    before, after = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (carried, kept))
    if before != after:
        raise ConfigError(
            f"model {config.model} carries other arrays after a step than before it: apply must return "
            f"(outputs, collections), with the collections of init"
        )


def check_images(config: Config, input_shape: tuple[int, ...]) -> None:
    """Raise ConfigError where a convolutional network is given no images, or too small ones."""
    if "cnn" not in config.model:
        return
    stages = len(config.widths or DEFAULT_WIDTHS[config.model]) - 1
    if len(input_shape) != 3 or min(input_shape[:2]) < 2**stages:
        raise ConfigError(
            f"model {config.model} with {stages} stages needs images [H, W, C] of {2**stages}x{2**stages} "
            f"pixels or more, but an example of data {config.data} has shape {input_shape}: "
            f"take --model mlp or linear"
        )


def built_in(name: str, num_outputs: int, widths: tuple[int, ...] | None = None) -> nn.Module:
    """One of the networks that have a name, with DEFAULT_WIDTHS where `widths` is None.

    `cnn` and `group_norm_cnn` take images [N, H, W, C]; `mlp` and `linear` take inputs of any shape, flattened.

    >>> model = built_in("linear", num_outputs=3)
    >>> variables = model.init(jax.random.key(0), jnp.ones((2, 4)))
    >>> model.apply(variables, jnp.ones((2, 4))).shape
    (2, 3)
    """
    widths = DEFAULT_WIDTHS[name] if widths is None else widths
    if name in ("cnn", "group_norm_cnn"):
        return ConvolutionalNetwork(widths[:-1], widths[-1], num_outputs, name == "group_norm_cnn")
    return DenseNetwork(widths, num_outputs)


class ConvolutionalNetwork(nn.Module):
    """Stages of 3x3 convolution, ReLU and 2x2 max-pooling, then a dense layer and the outputs.

    With `normalize`, each stage's features are normalized, an image by itself, in eight groups or as many as
    divide them: no running statistics, the parameters are the whole state.
    """

    stages: tuple[int, ...]
    dense: int
    num_outputs: int
    normalize: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch outputs"]:
        """Map images to outputs."""
        for width in self.stages:
            x = max_pool(Convolution(width)(x))
            # Behind the pooling, which leaves a quarter of the work.
            if self.normalize:
                x = nn.GroupNorm(math.gcd(width, 8))(x)
            x = nn.relu(x)
        x = nn.relu(nn.Dense(self.dense)(x.reshape(len(x), -1)))
        return nn.Dense(self.num_outputs)(x)


class DenseNetwork(nn.Module):
    """Dense layers with ReLU between them; with no hidden layer, a linear model that starts at zero."""

    hidden: tuple[int, ...]
    num_outputs: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch *shape"]) -> Float[Array, "batch outputs"]:
        """Map inputs, flattened, to outputs."""
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        # A linear model's losses are convex: zero is as good a start as any, and draws nothing.
        kernel_init = nn.initializers.lecun_normal() if self.hidden else nn.initializers.zeros
        return nn.Dense(self.num_outputs, kernel_init=kernel_init)(x)


class Convolution(nn.Module):
    """3x3 convolution with zero padding and a bias, in the form that is fast on the device at hand."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width features"]:
        """Convolve images."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # XLA's CPU convolutions are slow inside loops and under vmap, ten times so; a matrix product is not.
        convolve = convolve_by_patches if jax.default_backend() == "cpu" else convolve_directly
        return convolve(x, kernel) + bias[None, None, None]


def convolve_directly(
    images: Float[Array, "batch height width channels"], kernel: Float[Array, "3 3 channels features"]
) -> Float[Array, "batch height width features"]:
    """3x3 convolution, stride 1, zero padding, by the compiler's own operation."""
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolve_by_patches(
    images: Float[Array, "batch height width channels"], kernel: Float[Array, "3 3 channels features"]
) -> Float[Array, "batch height width features"]:
    """The same as one product, [batch·height·width, 9·channels] times [9·channels, features]."""
    batch, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    patches = jnp.concatenate(shifted, axis=-1).reshape(batch * height * width, -1)
    # Two plain axes on each side: a product with leading axes measured a quarter slower.
    return (patches @ kernel.reshape(patches.shape[1], -1)).reshape(batch, height, width, -1)


def max_pool(
    images: Float[Array, "batch height width channels"],
) -> Float[Array, "batch rows columns channels"]:
    """Largest of each 2x2 block; an odd last row or column is left out.

    By reshape: the gradient of a windowed maximum costs more than the rest of the network.
    """
    batch, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
