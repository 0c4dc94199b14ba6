"""Margin heads: from cosines of features and class vectors to logits whose true class has to win by a margin.

Functions to logits, not losses: any softmax loss takes their result, as in
`softmax_cross_entropy_with_integer_labels(arcface(cosines, labels), labels)`.

A margin on the angle θ = arccos c is a function of the cosine whose slope is infinite at c = ±1. There, and
only there, the slope is given as that of the nearest cosine inside, the last that the dtype tells from ±1;
everywhere else it is the true one. The features see neither: as a function of them the logit has the tip of a
cone at θ = 0, the cosine's own gradient is 0 there, and so is their product, the mean of the cone's slopes. A
cosine that rounding has carried past ±1 counts as ±1. A float32 cosine cannot tell angles below 3e-4 from 0:
nearer than that the gradient keeps its direction and fades with the angle.
"""

import math
import operator
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer

from jaxce.losses import validation
from jaxce.losses.closed_form import ValueAndGrad, closed_form


def combined_margin(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    m1: ArrayLike = 1.0,
    m2: ArrayLike = 0.5,
    m3: ArrayLike = 0.0,
    scale: ArrayLike = 64.0,
) -> Float[Array, "*batch classes"]:
    """Three margins at once: s·(cos(m₁θ + m₂) − m₃) for the true class, s·cos θ for the others.

    The formula holds for every θ. Past m₁θ + m₂ = π it rises again, with a true slope below 0: an example so
    far from its class is driven further. In 16 dimensions and more that is rare at the start of training; in 2
    or 3 use a smaller m₂, or cosface or sphereface, which never rise.

    Args:
        cosines: Cosines of the angles θ, as of normalized_cosines. Where the true class's exceeds ±1 it counts
            as ±1.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the row's logits and gradients NaN.
        m1: Factor m₁ ≥ 0 of the angle; above 1 it is a margin.
        m2: Angle m₂ in [0, π], in radians, added.
        m3: Cosine m₃ ≥ 0, taken off.
        scale: Factor s > 0 of all logits.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Cosines that are not floating-point, or labels that are not integers.

    Source:
        Deng et al. 2018, ArcFace, arXiv:1801.07698, equation 4 (not read).

    >>> print(combined_margin(jnp.array([[1.0, 0.5]]), jnp.array([0]), m2=0.0, m3=0.25, scale=8.0))
    [[6. 4.]]
    """
    return _to_logits(_combined, *_combined_arguments(cosines, labels, m1, m2, m3, scale))


def combined_margin_grad(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    m1: ArrayLike = 1.0,
    m2: ArrayLike = 0.5,
    m3: ArrayLike = 0.0,
    scale: ArrayLike = 64.0,
) -> Float[Array, "*batch classes"]:
    """d combined_margin / d cosines, each logit in its own: s·m₁ sin(m₁θ + m₂) / sin θ for the true class.

    And s for the others.

    >>> print(combined_margin_grad(jnp.array([[0.3, 0.5]]), jnp.array([0]), m1=0.9, m2=0.4, m3=0.15).round(1))
    [[60.4 64. ]]
    """
    return _to_logits_grad(_combined_and_grad, *_combined_arguments(cosines, labels, m1, m2, m3, scale))


def arcface(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: ArrayLike = 0.5,
    scale: ArrayLike = 64.0,
) -> Float[Array, "*batch classes"]:
    """Additive angular margin: s·cos(θ + m) for the true class, s·cos θ for the others.

    The formula holds for every θ; past θ = π − m it rises again: see combined_margin.

    Args:
        cosines: Cosines of the angles θ, as of normalized_cosines. Where the true class's exceeds ±1 it counts
            as ±1.
        labels: The true class of each example, as in combined_margin.
        margin: Angle m in [0, π], in radians.
        scale: Factor s > 0 of all logits.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Cosines that are not floating-point, or labels that are not integers.

    Source:
        Deng et al. 2018, ArcFace, arXiv:1801.07698, equation 3 (not read).

    >>> print(arcface(jnp.array([[0.0, 0.5]]), jnp.array([0]), scale=8.0))  # −8 sin ½
    [[-3.8354044  4.       ]]
    """
    return _to_logits(_combined, *_arcface_arguments(cosines, labels, margin, scale))


def arcface_grad(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: ArrayLike = 0.5,
    scale: ArrayLike = 64.0,
) -> Float[Array, "*batch classes"]:
    """d arcface / d cosines, each logit in its own: s·sin(θ + m) / sin θ for the true class, s for the others.

    >>> print(arcface_grad(jnp.array([[0.3, 0.5]]), jnp.array([0])).round(1))  # straight-through gives 64
    [[65.8 64. ]]
    """
    return _to_logits_grad(_combined_and_grad, *_arcface_arguments(cosines, labels, margin, scale))


def cosface(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: ArrayLike = 0.35,
    scale: ArrayLike = 64.0,
) -> Float[Array, "*batch classes"]:
    """Additive cosine margin, also AM-Softmax: s·(cos θ − m) for the true class, s·cos θ for the others.

    Args:
        cosines: Cosines of the angles θ, as of normalized_cosines.
        labels: The true class of each example, as in combined_margin.
        margin: Cosine m ≥ 0.
        scale: Factor s > 0 of all logits.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Cosines that are not floating-point, or labels that are not integers.

    Source:
        Wang et al. 2018, CosFace, arXiv:1801.09414, equation 4; Wang et al. 2018, Additive Margin Softmax,
        arXiv:1801.05599, equation 6 (neither read).

    >>> print(cosface(jnp.array([[1.0, 0.5]]), jnp.array([0]), margin=0.25, scale=8.0))
    [[6. 4.]]
    """
    return _to_logits(_combined, *_cosface_arguments(cosines, labels, margin, scale))


def cosface_grad(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: ArrayLike = 0.35,
    scale: ArrayLike = 64.0,
) -> Float[Array, "*batch classes"]:
    """d cosface / d cosines, each logit in its own = s.

    >>> print(cosface_grad(jnp.array([[1.0, 0.5]]), jnp.array([0])))
    [[64. 64.]]
    """
    return _to_logits_grad(_combined_and_grad, *_cosface_arguments(cosines, labels, margin, scale))


def soft_margin_softmax(
    logits: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"], *, margin: ArrayLike = 0.5
) -> Float[Array, "*batch classes"]:
    """SM-Softmax: a margin taken off the true class's logit, z_y − m, and the others as they are.

    Args:
        logits: Log-probabilities up to a constant, as of any linear layer.
        labels: The true class of each example, as in combined_margin.
        margin: How far m ≥ 0 the true class has to win; the default is jaxce's own.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or a negative margin.
        TypeError: Logits that are not floating-point, or labels that are not integers.

    Source:
        Liang et al. 2017, Soft-Margin Softmax for Deep Classification, doi:10.1007/978-3-319-70096-0_43
        (abstract read, not the paper).

    >>> print(soft_margin_softmax(jnp.array([[2.0, 1.0]]), jnp.array([0])))
    [[1.5 1. ]]
    """
    return _to_logits(_combined, *_soft_margin_arguments(logits, labels, margin))


def soft_margin_softmax_grad(
    logits: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"], *, margin: ArrayLike = 0.5
) -> Float[Array, "*batch classes"]:
    """d soft_margin_softmax / d logits, each in its own = 1.

    >>> print(soft_margin_softmax_grad(jnp.array([[2.0, 1.0]]), jnp.array([0])))
    [[1. 1.]]
    """
    return _to_logits_grad(_combined_and_grad, *_soft_margin_arguments(logits, labels, margin))


def sphereface(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: int = 4,
    scale: ArrayLike = 64.0,
) -> Float[Array, "*batch classes"]:
    """Multiplicative angular margin, A-Softmax: s·ψ(θ) for the true class, s·cos θ for the others.

    ψ(θ) = (−1)^k cos(mθ) − 2k for θ in [kπ/m, (k+1)π/m] continues cos(mθ) so that it falls from 1 to 1 − 2m.
    It is flat at every kπ/m, for even m also at π/2, near which untrained features lie: blend it in over the
    first steps, as in (1 − t)·scale·cosines + t·sphereface(…).

    Args:
        cosines: Cosines of the angles θ, as of normalized_cosines. Where the true class's exceeds ±1 it counts
            as ±1.
        labels: The true class of each example, as in combined_margin.
        margin: Factor m ≥ 1 of the angle; a Python integer, for it is the degree of a polynomial in cos θ.
        scale: Factor s > 0 of all logits. The paper has ‖x‖ in its place: large_margin_softmax with kernel
            columns of length 1.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Cosines that are not floating-point, or labels or a margin that are not integers.

    Source:
        Liu et al. 2017, SphereFace, arXiv:1704.08063, equation 6 (not read).

    >>> print(sphereface(jnp.array([[-1.0, 0.5]]), jnp.array([0]), scale=2.0))  # 2 (1 − 2·4)
    [[-14.   1.]]
    """
    return _to_logits(_sphereface(as_degree(margin)), *_cosine_arguments(cosines, labels, scale))


def sphereface_grad(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: int = 4,
    scale: ArrayLike = 64.0,
) -> Float[Array, "*batch classes"]:
    """d sphereface / d cosines, each logit in its own: s·m |sin(mθ)| / sin θ for the true class, s else.

    A polynomial in cos θ: never negative, and s·m² at θ = 0 and π.

    >>> print(sphereface_grad(jnp.array([[1.0, 0.5]]), jnp.array([0]), scale=2.0))
    [[32.  2.]]
    """
    return _to_logits_grad(_sphereface_and_grad(as_degree(margin)), *_cosine_arguments(cosines, labels, scale))


# Angles: (c, options) -> (value, slope), of one cosine c each.


def _angular_margin(c: Array, nearest: Array, m1: Any, m2: Any, m3: Any) -> tuple[Array, Array]:
    """cos(m₁θ + m₂) − m₃. An option is None where it does nothing."""
    value, slope = c, jnp.ones_like(c)
    if m1 is not None or m2 is not None:
        # cos(m₁θ + m₂) = cos(θ + φ), and θ itself, with its rounding, is needed only where m₁ is not 1
        inside = jnp.where(jnp.abs(c) < 1, c, jnp.sign(c) * nearest)
        sine = jnp.sqrt((1 - inside) * (1 + inside))
        phi = _rest_of_angle(inside, sine, m1, m2)
        slope = jnp.cos(phi) + inside / sine * jnp.sin(phi)
        if m1 is not None:
            slope *= m1
        c = clipped(c)
        sine = jnp.where(jnp.abs(c) < 1, sine, 0)
        phi = _rest_of_angle(c, sine, m1, m2)
        value = c * jnp.cos(phi) - sine * jnp.sin(phi)
    return (value if m3 is None else value - m3), slope


def _rest_of_angle(cosine: Array, sine: Array, m1: Any, m2: Any) -> Array:
    """φ = m₁θ + m₂ − θ."""
    phi = jnp.zeros_like(cosine) if m2 is None else jnp.full_like(cosine, m2)
    return phi if m1 is None else phi + (m1 - 1) * jnp.arctan2(sine, cosine)


def psi(c: Array, margin: int) -> tuple[Array, Array]:
    """ψ(θ) = (−1)^k cos(mθ) − 2k and dψ/dc, by Chebyshev: cos(mθ) = T_m(c), sin(mθ) / sin θ = U_{m−1}(c)."""
    c = clipped(c)
    t, t_next, u, u_next = jnp.ones_like(c), c, jnp.zeros_like(c), jnp.ones_like(c)
    for _ in range(margin - 1):
        t, t_next = t_next, 2 * c * t_next - t
        u, u_next = u_next, 2 * c * u_next - u
    k = sum(((c < np.cos(j * np.pi / margin)).astype(c.dtype) for j in range(1, margin)), jnp.zeros_like(c))
    sign = 1 - 2 * (k % 2)
    return sign * t_next - 2 * k, sign * margin * u_next


def clipped(c: Array) -> Array:
    """Cosines that rounding has carried past ±1 taken as ±1, with slope 1 at ±1 itself."""
    return jnp.where(jnp.abs(c) > 1, jnp.sign(c), c)


# The heads' own functions: (cosines [*batch, C], labels, nearest to 1, scale, margins) -> (logits, slopes).


def _combined_and_grad(
    c: Array, labels: Array, nearest: Array, scale: Any, m1: Any, m2: Any, m3: Any
) -> tuple[Array, Array]:
    return with_target(c, labels, scale, *_angular_margin(of_label(c, labels), nearest, m1, m2, m3))


_combined = closed_form(_combined_and_grad)


@cache
def _sphereface_and_grad(margin: int) -> ValueAndGrad:
    def logits_and_slopes(c: Array, labels: Array, _: Array, scale: Any) -> tuple[Array, Array]:
        return with_target(c, labels, scale, *psi(of_label(c, labels), margin))

    return logits_and_slopes


@cache
def _sphereface(margin: int) -> Callable[..., Array]:
    return closed_form(_sphereface_and_grad(margin))


def of_label(rows: Array, labels: Array) -> Array:
    """The label's entry of each row, and any where the label is no class."""
    return jnp.take_along_axis(rows, labels[..., None], -1, mode="clip")[..., 0]


def with_target(c: Array, labels: Array, scale: Any, target: Array, slope: Array) -> tuple[Array, Array]:
    """Rows of `c`, of slope 1, but for the label's entry; all times scale; NaN where the label is no class."""
    is_target = jax.nn.one_hot(labels, c.shape[-1], dtype=bool)
    is_class = (labels >= 0) & (labels < c.shape[-1])
    # a factor and not a choice of NaN, so that the derivative is NaN too
    factor = jnp.where(is_class, 1 if scale is None else scale, jnp.nan)[..., None]
    return factor * jnp.where(is_target, target[..., None], c), factor * jnp.where(
        is_target, slope[..., None], 1
    )


@partial(jax.jit, static_argnums=0)
def _to_logits(head: Callable[..., Array], cosines: Array, *rest: Any) -> Array:
    return head(cosines.astype(jnp.promote_types(cosines.dtype, jnp.float32)), *rest)


@partial(jax.jit, static_argnums=0)
def _to_logits_grad(head_and_grad: ValueAndGrad, cosines: Array, *rest: Any) -> Array:
    dtype = jnp.promote_types(cosines.dtype, jnp.float32)
    return head_and_grad(cosines.astype(dtype), *rest)[1].astype(cosines.dtype)


# The checks: from what the user gave to (cosines, labels, nearest cosine to 1, scale, margins).


def _combined_arguments(cosines: Any, labels: Any, m1: Any, m2: Any, m3: Any, scale: Any) -> tuple[Any, ...]:
    return (
        *_cosine_arguments(cosines, labels, scale),
        validation.as_hyperparameter("m1", m1, neutral=1.0),
        validation.as_hyperparameter("m2", m2, high=math.pi, neutral=0.0),
        validation.as_hyperparameter("m3", m3, neutral=0.0),
    )


def _arcface_arguments(cosines: Any, labels: Any, margin: Any, scale: Any) -> tuple[Any, ...]:
    margin = validation.as_hyperparameter("margin", margin, high=math.pi, neutral=0.0)
    return *_cosine_arguments(cosines, labels, scale), None, margin, None


def _cosface_arguments(cosines: Any, labels: Any, margin: Any, scale: Any) -> tuple[Any, ...]:
    margin = validation.as_hyperparameter("margin", margin, neutral=0.0)
    return *_cosine_arguments(cosines, labels, scale), None, None, margin


def _soft_margin_arguments(logits: Any, labels: Any, margin: Any) -> tuple[Any, ...]:
    margin = validation.as_hyperparameter("margin", margin, neutral=0.0)
    return *_label_arguments("logits", logits, labels), None, None, None, margin


def _cosine_arguments(cosines: Any, labels: Any, scale: Any) -> tuple[Any, ...]:
    return *_label_arguments("cosines", cosines, labels), validation.as_positive("scale", scale)


def _label_arguments(name: str, rows: Any, labels: Any) -> tuple[Array, Array, float]:
    rows = validation.as_floating(name, rows)
    axes = validation.normalize_axes(-1, rows.ndim, name)
    labels = validation.as_integer_labels(labels, rows.shape[-1])
    validation.check_integer_labels_shape(labels, rows, axes, name)
    return rows, labels, 1 - float(jnp.finfo(rows.dtype).epsneg)


def as_degree(margin: Any) -> int:
    """An integer margin of 1 or more, known when tracing."""
    try:
        degree = operator.index(margin)
    except TypeError as error:
        raise TypeError(
            f"margin is {margin}, but must be a Python integer, the degree of a polynomial: inside jit make it "
            "static (static_argnames)"
        ) from error
    if degree < 1:
        raise ValueError(f"margin is {degree}, but must be at or above 1")
    return degree
