"""Directions and lengths of features and class vectors: cosines, and the margin head that needs lengths too."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer

from jaxce.losses import validation
from jaxce.losses.closed_form import ValueAndGrad, closed_form
from jaxce.losses.margin import as_degree, clipped, of_label, psi, with_target


def normalized_cosines(
    features: Float[ArrayLike, "*batch features"], kernel: Float[ArrayLike, "features classes"]
) -> Float[Array, "*batch classes"]:
    """Cosine of the angle between each feature vector x and each column w_j of the kernel: x·w_j / (‖x‖‖w_j‖).

    Args:
        features: One vector per example, of any length.
        kernel: One column per class.

    Returns:
        Cosines, float32 or float64; up to rounding within [−1, 1]. A zero vector, or one whose largest entry is
        below the smallest normal number, has cosine 0 with everything, and zero gradient.

    Raises:
        ValueError: Shapes that do not fit.
        TypeError: Features or kernel that are not floating-point.

    Source:
        Wang et al. 2017, NormFace, arXiv:1704.06369 (not read).

    >>> print(normalized_cosines(jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 0.0]])))
    [[0.6 0. ]]
    """
    return _cosines(*_product_arguments(features, kernel))


def normalized_cosines_grad(
    features: Float[ArrayLike, "*batch features"], kernel: Float[ArrayLike, "features classes"]
) -> Float[Array, "*batch classes features"]:
    """d normalized_cosines / d features: of class j, (ŵ_j − c_j x̂) / ‖x‖ with unit vectors x̂ and ŵ.

    With respect to the kernel it is the same with the two vectors exchanged. Zero where either vector is zero.

    >>> print(normalized_cosines_grad(jnp.array([0.0, 2.0]), jnp.array([[1.0], [0.0]])))
    [[0.5 0. ]]
    """
    features, kernel = _product_arguments(features, kernel)
    return _cosines_grad(features, kernel).astype(features.dtype)


def unit_vectors(x: Float[ArrayLike, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Vectors along an axis, each divided by its length: the product of two such arrays is their cosines.

    Args:
        x: Features, with the default axis, or a kernel [features, classes], with axis 0.
        axis: The axis that a vector lies along.

    Returns:
        Vectors of length 1 in the dtype of x. A zero vector stays as it is, with zero gradient.

    Raises:
        TypeError: What is not floating-point.
        ValueError: An axis that x does not have.

    Source:
        Wang et al. 2017, NormFace, arXiv:1704.06369 (not read).

    >>> print(unit_vectors(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    [[0.6 0.8]
     [0.  0. ]]
    """
    x = validation.as_floating("x", x)
    (axis,) = validation.normalize_axes(axis, x.ndim, "x")
    return direction_and_length(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis)[0].astype(x.dtype)


def large_margin_softmax(
    features: Float[ArrayLike, "*batch features"],
    kernel: Float[ArrayLike, "features classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: int = 4,
) -> Float[Array, "*batch classes"]:
    """L-Softmax: ‖w_y‖‖x‖ψ(θ_y) for the true class, x·w_j for the others, with ψ as in sphereface.

    Args:
        features: One vector x per example.
        kernel: One column w_j per class.
        labels: The true class of each example, as in combined_margin.
        margin: Factor m ≥ 1 of the angle; a Python integer. 1 is the plain product.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or a margin below 1.
        TypeError: Features or kernel that are not floating-point, or labels or a margin that are not integers.

    Source:
        Liu et al. 2016, Large-Margin Softmax Loss, arXiv:1612.02295, equations 5 and 6 (not read).

    >>> print(large_margin_softmax(jnp.array([[-2.0, 0.0]]), jnp.eye(2), jnp.array([0])))  # 2 (1 − 2·4)
    [[-14.   0.]]
    """
    return _large_margin(*_large_margin_arguments(features, kernel, labels, margin))


def large_margin_softmax_grad(
    features: Float[ArrayLike, "*batch features"],
    kernel: Float[ArrayLike, "features classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: int = 4,
) -> Float[Array, "*batch classes features"]:
    """d large_margin_softmax / d features: ψ'·w_y + (ψ − c ψ')‖w_y‖ x̂ for the true class, w_j for the others.

    ψ and ψ' = dψ/dc are those at the cosine c of x and w_y, and x̂ is x of length 1. With respect to w_y
    exchange x and w_y. At a zero vector the cosine is taken as 0 and its direction as the zero vector.

    >>> print(large_margin_softmax_grad(jnp.array([2.0, 0.0]), jnp.eye(2), jnp.array(0)))
    [[1. 0.]
     [0. 1.]]
    """
    features, *rest = _large_margin_arguments(features, kernel, labels, margin)
    return _large_margin_grad(features, *rest).astype(features.dtype)


# The heads on checked arguments.


def direction_and_length(x: Array, axis: int) -> tuple[Array, Array]:
    """x / ‖x‖ and ‖x‖ along an axis, both 0 with derivative 0 where x is 0; no square over- or underflows."""
    # The factor taken out is in neither result, so its derivative is in neither derivative.
    largest = jax.lax.stop_gradient(jnp.abs(x).max(axis, keepdims=True))
    is_zero = largest < jnp.finfo(x.dtype).tiny
    scaled = jnp.where(is_zero, 1, x / jnp.where(is_zero, 1, largest))
    length = jnp.sqrt((scaled**2).sum(axis, keepdims=True))
    return jnp.where(is_zero, 0, scaled / length), jnp.where(is_zero, 0, largest * length).squeeze(axis)


@jax.jit
def _cosines(features: Array, kernel: Array) -> Array:
    features, kernel = _in_one_dtype(features, kernel)
    return direction_and_length(features, -1)[0] @ direction_and_length(kernel, 0)[0]


@jax.jit
def _cosines_grad(features: Array, kernel: Array) -> Array:
    x, w = _in_one_dtype(features, kernel)
    (x, length), (w, _) = direction_and_length(x, -1), direction_and_length(w, 0)
    across = _columns(x, w) - (x @ w)[..., None] * x[..., None, :]
    is_zero = length == 0
    return jnp.where(is_zero[..., None, None], 0, across / jnp.where(is_zero, 1, length)[..., None, None])


@partial(jax.jit, static_argnums=3)
def _large_margin(features: Array, kernel: Array, labels: Array, margin: int) -> Array:
    x, w = _in_one_dtype(features, kernel)
    logits = x @ w
    target = _stretched_psi(margin)(_product_and_length(x, w, logits, labels))
    return with_target(logits, labels, None, target, target)[0]


@partial(jax.jit, static_argnums=3)
def _large_margin_grad(features: Array, kernel: Array, labels: Array, margin: int) -> Array:
    x, w = _in_one_dtype(features, kernel)
    slopes = _stretched_psi_and_grad(margin)(_product_and_length(x, w, x @ w, labels))[1]
    of_column, of_direction = slopes[..., :1], slopes[..., 1:] * _length_of_label(w, labels)[..., None]
    target = (
        of_column * jnp.take(w.T, labels, axis=0, mode="clip") + of_direction * direction_and_length(x, -1)[0]
    )
    is_target = jax.nn.one_hot(labels, w.shape[-1], dtype=bool)[..., None]
    is_class = ((labels >= 0) & (labels < w.shape[-1]))[..., None, None]
    return jnp.where(is_class, jnp.where(is_target, target[..., None, :], _columns(x, w)), jnp.nan)


@cache
def _stretched_psi_and_grad(margin: int) -> ValueAndGrad:
    def value_and_grad(product_and_length: Array) -> tuple[Array, Array]:
        """‖w‖‖x‖ψ(θ) of (w·x, ‖w‖‖x‖), a pair along the last axis."""
        product, length = product_and_length[..., 0], product_and_length[..., 1]
        c = clipped(jnp.where(length > 0, product / jnp.where(length > 0, length, 1), 0))
        value, slope = psi(c, margin)
        return length * value, jnp.stack([slope, value - c * slope], -1)

    return value_and_grad


@cache
def _stretched_psi(margin: int) -> Callable[..., Array]:
    return closed_form(_stretched_psi_and_grad(margin))


def _product_and_length(x: Array, w: Array, logits: Array, labels: Array) -> Array:
    length = direction_and_length(x, -1)[1] * _length_of_label(w, labels)
    return jnp.stack([of_label(logits, labels), length], -1)


def _length_of_label(w: Array, labels: Array) -> Array:
    return jnp.take(direction_and_length(w, 0)[1], labels, mode="clip")


def _columns(x: Array, w: Array) -> Array:
    return jnp.broadcast_to(w.T, (*x.shape[:-1], *w.T.shape))


def _in_one_dtype(features: Array, kernel: Array) -> tuple[Array, Array]:
    dtype = jnp.promote_types(jnp.promote_types(features.dtype, kernel.dtype), jnp.float32)
    return features.astype(dtype), kernel.astype(dtype)


# The checks.


def _product_arguments(features: Any, kernel: Any) -> tuple[Array, Array]:
    features = validation.as_floating("features", features)
    kernel = validation.as_floating("kernel", kernel)
    if features.ndim < 1 or kernel.ndim != 2 or features.shape[-1] != kernel.shape[0]:
        hint = ": use kernel.T" if features.shape[-1:] == kernel.shape[-1:] else ""
        raise ValueError(
            f"features has shape {features.shape} but kernel {kernel.shape}: the last axis of features must be "
            f"as long as the first of kernel's two{hint}"
        )
    return features, kernel


def _large_margin_arguments(
    features: Any, kernel: Any, labels: Any, margin: Any
) -> tuple[Array, Array, Array, int]:
    features, kernel = _product_arguments(features, kernel)
    labels = validation.as_integer_labels(labels, kernel.shape[-1])
    validation.check_same_shape("labels", labels, "features without their last axis", features.shape[:-1])
    return features, kernel, labels, as_degree(margin)
