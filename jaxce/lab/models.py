"""Networks as frozen descriptions with pure `init` and `apply`: the only file that imports Flax."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

Params = dict[str, Any]

DEFAULT_WIDTHS = {"cnn": (32, 64, 128), "group_norm_cnn": (32, 64, 128, 256), "mlp": (256,), "linear": ()}


@dataclass(frozen=True)
class Model:
    """A network, described; its parameters live outside, in a plain tree.

    Attributes:
        name: `cnn` and `group_norm_cnn` on images [N, H, W, C]; `mlp` and `linear` on inputs of any shape,
            flattened.
        num_outputs: Numbers that come out for each example.
        widths: Layer widths, None for those of DEFAULT_WIDTHS.

    >>> model = Model("linear", num_outputs=3)
    >>> params = model.init(jax.random.key(0), (4,))
    >>> model.apply(params, jnp.ones((2, 4))).shape
    (2, 3)
    """

    name: str
    num_outputs: int
    widths: tuple[int, ...] | None = None

    @property
    def _module(self) -> nn.Module:
        widths = DEFAULT_WIDTHS[self.name] if self.widths is None else self.widths
        if self.name in ("cnn", "group_norm_cnn"):
            normalize = self.name == "group_norm_cnn"
            return ConvolutionalNetwork(widths[:-1], widths[-1], self.num_outputs, normalize)
        return DenseNetwork(widths, self.num_outputs)

    def init(self, key: PRNGKeyArray, input_shape: Sequence[int]) -> Params:
        """Fresh parameters for inputs of `input_shape`, the batch axis left out."""
        return self._module.init(key, jnp.zeros((1, *input_shape)))["params"]

    def apply(
        self, params: Params, inputs: Float[Array | np.ndarray, "batch *shape"]
    ) -> Float[Array, "batch outputs"]:
        """Outputs, for a classifier its logits, one row per example."""
        outputs: Array = self._module.apply({"params": params}, inputs)  # type: ignore[assignment]  # params alone
        return outputs


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
