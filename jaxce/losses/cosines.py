"""Directions and lengths of features and class vectors: cosines, and the margin that needs lengths too."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer

from jaxce.losses import checks, definitions
from jaxce.losses.checks import Degree
from jaxce.losses.evaluation import closed_form
from jaxce.losses.loss import loss
from jaxce.losses.margin import clipped, psi, with_target
from jaxce.losses.numerics import computed_dtype, entries_of, entry_at

__all__ = ["large_margin_softmax", "normalized_cosines", "unit_vectors"]

Rows = Float[Array, "*batch classes"]
Jacobian = Float[Array, "*batch classes features"]


@loss(labels="none", definition=definitions.normalized_cosines, convex=None, returns="logits")
def normalized_cosines(
    features: Float[ArrayLike, "*batch features"], kernel: Float[ArrayLike, "features classes"]
) -> tuple[Rows, Jacobian]:
    """Cosine of the angle between each feature vector x and each column w_j of the kernel.

    Args:
        features: One vector per example, of any length.
        kernel: One column per class.

    Returns:
        Cosines, float32 or float64; up to rounding within [−1, 1]. A zero vector, or one whose largest entry is
        below the smallest normal number, has cosine 0 with everything, and zero gradient.

    Raises:
        ValueError: Shapes that do not fit.
        TypeError: Features or kernel that are not floating-point.

    Formula:
        x·w_j / (‖x‖‖w_j‖)

    Gradient:
        Of the cosine c_j, (ŵ_j − c_j x̂) / ‖x‖ with unit vectors x̂ and ŵ; with respect to the kernel the same
        with the two vectors exchanged. Zero where either vector is zero.

    Source:
        Wang et al. 2017, NormFace, arXiv:1704.06369.

    >>> print(normalized_cosines(jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 0.0]])))
    [[0.6 0. ]]
    >>> print(normalized_cosines.grad(jnp.array([0.0, 2.0]), jnp.array([[1.0], [0.0]])))
    [[0.5 0. ]]
    """
    (x, length), (w, _) = direction_and_length(features, -1), direction_and_length(kernel, 0)
    cosines = x @ w
    across = _columns(x, w) - cosines[..., None] * x[..., None, :]
    length = length[..., None, None]
    return cosines, jnp.where(length == 0, 0, across / jnp.where(length == 0, 1, length))


@loss(
    labels="integer",
    definition=definitions.large_margin_softmax,
    convex=None,
    options={"margin": Degree()},
    cases=({"margin": 1}, {"margin": 2}, {"margin": 3}),
    returns="logits",
)
def large_margin_softmax(
    features: Float[ArrayLike, "*batch features"],
    kernel: Float[ArrayLike, "features classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: int = 4,
) -> tuple[Rows, Jacobian]:
    """L-Softmax: a multiplicative margin on the angle, with the lengths of features and class vectors kept.

    ψ(θ) = (−1)^k cos(mθ) − 2k for θ in [kπ/m, (k+1)π/m] continues cos(mθ) so that it falls from 1 to 1 − 2m.

    Args:
        features: One vector x per example.
        kernel: One column w_j per class.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the row's logits and gradients NaN.
        margin: Factor m ≥ 1 of the angle; a Python integer. 1 is the plain product.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or a margin below 1.
        TypeError: Features or kernel that are not floating-point, or labels or a margin that are not integers.

    Formula:
        ‖w_y‖‖x‖[(−1)^k cos(m θ_y) − 2k], x·w_j

    Gradient:
        ψ'·w_y + (ψ − c ψ')‖w_y‖ x̂ for the true class, with ψ and ψ' = dψ/dc at the cosine c of x and w_y, and
        w_j for the others. At a zero vector the cosine is taken as 0 and its direction as the zero vector.

    Source:
        Liu et al. 2016, Large-Margin Softmax Loss, arXiv:1612.02295, equations 4 and 6.

    >>> print(large_margin_softmax(jnp.array([[-2.0, 0.0]]), jnp.eye(2), jnp.array([0])))  # 2 (1 − 2·4)
    [[-14.   0.]]
    >>> print(large_margin_softmax.grad(jnp.array([2.0, 0.0]), jnp.eye(2), jnp.array(0)))
    [[1. 0.]
     [0. 1.]]
    """
    logits = features @ kernel
    x, length = direction_and_length(features, -1)
    of_label_column = entries_of(direction_and_length(kernel, 0)[1], labels)
    stretched = partial(_stretched_psi, margin=margin)
    target_and_length = jnp.stack([entry_at(logits, labels), length * of_label_column], -1)
    target = closed_form(stretched)(target_and_length)
    value, _ = with_target(logits, labels, 1.0, target, target)

    slopes = stretched(target_and_length)[1]
    of_direction = slopes[..., 1:] * of_label_column[..., None]
    of_target = slopes[..., :1] * entries_of(kernel.T, labels) + of_direction * x
    num_classes = logits.shape[-1]
    is_target = jax.nn.one_hot(labels, num_classes, dtype=bool)[..., None]
    is_class = ((labels >= 0) & (labels < num_classes))[..., None, None]
    jacobian = jnp.where(is_target, of_target[..., None, :], _columns(features, kernel))
    return value, jnp.where(is_class, jacobian, jnp.nan)


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
        Wang et al. 2017, NormFace, arXiv:1704.06369.

    >>> print(unit_vectors(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    [[0.6 0.8]
     [0.  0. ]]
    """
    x = checks.as_floating("x", x)
    (axis,) = checks.normalize_axes(axis, x.ndim, "x")
    return direction_and_length(x.astype(computed_dtype(x)), axis)[0].astype(x.dtype)


def direction_and_length(x: Float[Array, "..."], axis: int) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """x / ‖x‖ and ‖x‖ along an axis, both 0 with derivative 0 where x is 0; no square over- or underflows."""
    # The factor taken out is in neither result, so its derivative is in neither derivative.
    largest = jax.lax.stop_gradient(jnp.abs(x).max(axis, keepdims=True))
    is_zero = largest < jnp.finfo(x.dtype).tiny
    scaled = jnp.where(is_zero, 1, x / jnp.where(is_zero, 1, largest))
    length = jnp.sqrt((scaled**2).sum(axis, keepdims=True))
    return jnp.where(is_zero, 0, scaled / length), jnp.where(is_zero, 0, largest * length).squeeze(axis)


def _stretched_psi(
    product_and_length: Float[Array, "*batch 2"], margin: int
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch 2"]]:
    """‖w‖‖x‖ψ(θ) of (w·x, ‖w‖‖x‖), a pair along the last axis."""
    product, length = product_and_length[..., 0], product_and_length[..., 1]
    c = clipped(jnp.where(length > 0, product / jnp.where(length > 0, length, 1), 0))
    value, slope = psi(c, margin)
    return length * value, jnp.stack([slope, value - c * slope], -1)


def _columns(x: Float[Array, "*batch features"], w: Float[Array, "features classes"]) -> Jacobian:
    """The columns of the kernel, once for each example."""
    return jnp.broadcast_to(w.T, (*x.shape[:-1], *w.T.shape))
