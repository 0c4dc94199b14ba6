"""Margins: from cosines of features and class vectors to logits whose true class has to win by a margin.

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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer

from jaxce.losses import definitions
from jaxce.losses.checks import Degree, Number, does_something
from jaxce.losses.loss import loss
from jaxce.losses.numerics import computed_dtype, entry_at

__all__ = ["arcface", "combined_margin", "cosface", "soft_margin_softmax", "sphereface"]

SCALE = Number(positive=True)

Rows = Float[Array, "*batch classes"]


@loss(
    labels="integer",
    definition=definitions.combined_margin,
    convex=None,
    options={
        "m1": Number(neutral=1.0),
        "m2": Number(high=math.pi, neutral=0.0),
        "m3": Number(neutral=0.0),
        "scale": SCALE,
    },
    cases=({"m1": 0.9, "m2": 0.4, "m3": 0.15}, {"m1": 1.35, "m2": 0.0}, {"m2": 0.0, "m3": 0.35}),
    returns="logits",
    own_dtype=True,
)
def combined_margin(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    m1: ArrayLike = 1.0,
    m2: ArrayLike = 0.5,
    m3: ArrayLike = 0.0,
    scale: ArrayLike = 64.0,
) -> tuple[Rows, Rows]:
    """Three margins at once, for the logit of the true class.

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

    Formula:
        s·(cos(m₁ θ_y + m₂) − m₃), s·cos θ_j

    Gradient:
        Each logit in its own cosine: s·m₁ sin(m₁θ + m₂) / sin θ for the true class, s for the others.

    Source:
        Deng et al. 2018, ArcFace, arXiv:1801.07698, equation 4.

    >>> print(combined_margin(jnp.array([[1.0, 0.5]]), jnp.array([0]), m2=0.0, m3=0.25, scale=8.0))
    [[6. 4.]]
    >>> print(combined_margin.grad(jnp.array([[0.3, 0.5]]), jnp.array([0]), m1=0.9, m2=0.4).round(1))
    [[60.4 64. ]]
    """
    return _angular_margin(cosines, labels, scale, m1, m2, m3)


@loss(
    labels="integer",
    definition=definitions.arcface,
    convex=None,
    options={"margin": Number(high=math.pi, neutral=0.0), "scale": SCALE},
    cases=({"margin": 0.0}, {"margin": 1.0, "scale": 16.0}),
    returns="logits",
    own_dtype=True,
)
def arcface(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: ArrayLike = 0.5,
    scale: ArrayLike = 64.0,
) -> tuple[Rows, Rows]:
    """Additive angular margin.

    The formula holds for every θ. Past θ = π − m it rises again, with a true slope below 0: an example so far
    from its class is driven further. In 16 dimensions and more that is rare at the start of training; in 2 or 3
    use a smaller m, or cosface or sphereface, which never rise.

    Args:
        cosines: Cosines of the angles θ, as of normalized_cosines. Where the true class's exceeds ±1 it counts
            as ±1.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the row's logits and gradients NaN.
        margin: Angle m in [0, π], in radians.
        scale: Factor s > 0 of all logits.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Cosines that are not floating-point, or labels that are not integers.

    Formula:
        s·cos(θ_y + m), s·cos θ_j

    Gradient:
        Each logit in its own cosine: s·sin(θ + m) / sin θ for the true class, s for the others.

    Source:
        Deng et al. 2018, ArcFace, arXiv:1801.07698, equation 3.

    >>> print(arcface(jnp.array([[0.0, 0.5]]), jnp.array([0]), scale=8.0))  # −8 sin ½
    [[-3.8354044  4.       ]]
    >>> print(arcface.grad(jnp.array([[0.3, 0.5]]), jnp.array([0])).round(1))  # straight-through gives 64
    [[65.8 64. ]]
    """
    return _angular_margin(cosines, labels, scale, 1.0, margin, 0.0)


@loss(
    labels="integer",
    definition=definitions.cosface,
    convex=None,
    options={"margin": Number(neutral=0.0), "scale": SCALE},
    cases=({"margin": 0.0}, {"scale": 16.0}),
    returns="logits",
)
def cosface(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: ArrayLike = 0.35,
    scale: ArrayLike = 64.0,
) -> tuple[Rows, Rows]:
    """Additive cosine margin, also AM-Softmax.

    Args:
        cosines: Cosines of the angles θ, as of normalized_cosines.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the row's logits and gradients NaN.
        margin: Cosine m ≥ 0.
        scale: Factor s > 0 of all logits.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Cosines that are not floating-point, or labels that are not integers.

    Formula:
        s·(cos θ_y − m), s·cos θ_j

    Gradient:
        Each logit in its own cosine: s.

    Source:
        Wang et al. 2018, CosFace, arXiv:1801.09414, equation 4; Wang et al. 2018, Additive Margin Softmax,
        arXiv:1801.05599.

    >>> print(cosface(jnp.array([[1.0, 0.5]]), jnp.array([0]), margin=0.25, scale=8.0))
    [[6. 4.]]
    >>> print(cosface.grad(jnp.array([[1.0, 0.5]]), jnp.array([0])))
    [[64. 64.]]
    """
    target = entry_at(cosines, labels)
    return with_target(cosines, labels, scale, target - margin, jnp.ones_like(target))


@loss(
    labels="integer",
    definition=definitions.soft_margin_softmax,
    convex=None,
    options={"margin": Number(neutral=0.0)},
    cases=({"margin": 0.0},),
    returns="logits",
)
def soft_margin_softmax(
    logits: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"], *, margin: ArrayLike = 0.5
) -> tuple[Rows, Rows]:
    """SM-Softmax: a margin taken off the logit of the true class.

    Args:
        logits: Log-probabilities up to a constant, as of any linear layer.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the row's logits and gradients NaN.
        margin: How far m ≥ 0 the true class has to win; the default is jaxce's own.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or a negative margin.
        TypeError: Logits that are not floating-point, or labels that are not integers.

    Formula:
        z_y − m, z_j

    Gradient:
        Each logit in its own: 1.

    Source:
        Liang et al. 2017, Soft-Margin Softmax for Deep Classification, doi:10.1007/978-3-319-70096-0_43.

    >>> print(soft_margin_softmax(jnp.array([[2.0, 1.0]]), jnp.array([0])))
    [[1.5 1. ]]
    >>> print(soft_margin_softmax.grad(jnp.array([[2.0, 1.0]]), jnp.array([0])))
    [[1. 1.]]
    """
    target = entry_at(logits, labels)
    return with_target(logits, labels, 1.0, target - margin, jnp.ones_like(target))


@loss(
    labels="integer",
    definition=definitions.sphereface,
    convex=None,
    options={"margin": Degree(), "scale": SCALE},
    cases=({"margin": 1}, {"margin": 2}, {"margin": 3, "scale": 16.0}),
    returns="logits",
)
def sphereface(
    cosines: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    margin: int = 4,
    scale: ArrayLike = 64.0,
) -> tuple[Rows, Rows]:
    """Multiplicative angular margin, A-Softmax.

    ψ(θ) = (−1)^k cos(mθ) − 2k for θ in [kπ/m, (k+1)π/m] continues cos(mθ) so that it falls from 1 to 1 − 2m.
    It is flat at every kπ/m, for even m also at π/2, near which untrained features lie: blend it in over the
    first steps, as in (1 − t)·scale·cosines + t·sphereface(…).

    Args:
        cosines: Cosines of the angles θ, as of normalized_cosines. Where the true class's exceeds ±1 it counts
            as ±1.
        labels: The true class of each example. Outside [0, C) it is a ValueError where its value can be seen;
            inside jit it makes the row's logits and gradients NaN.
        margin: Factor m ≥ 1 of the angle; a Python integer, for it is the degree of a polynomial in cos θ.
        scale: Factor s > 0 of all logits. The paper has ‖x‖ in its place: large_margin_softmax with kernel
            columns of length 1.

    Returns:
        Logits, float32 or float64.

    Raises:
        ValueError: Shapes that do not fit, labels that name no class, or options out of range.
        TypeError: Cosines that are not floating-point, or labels or a margin that are not integers.

    Formula:
        s·[(−1)^k cos(m θ_y) − 2k], s·cos θ_j

    Gradient:
        Each logit in its own cosine: s·m |sin(mθ)| / sin θ for the true class, s for the others. A polynomial
        in cos θ, never negative, and s·m² at θ = 0 and π.

    Source:
        Liu et al. 2017, SphereFace, arXiv:1704.08063.

    >>> print(sphereface(jnp.array([[-1.0, 0.5]]), jnp.array([0]), scale=2.0))  # 2 (1 − 2·4)
    [[-14.   1.]]
    >>> print(sphereface.grad(jnp.array([[1.0, 0.5]]), jnp.array([0]), scale=2.0))
    [[32.  2.]]
    """
    return with_target(cosines, labels, scale, *psi(entry_at(cosines, labels), margin))


def psi(c: Float[Array, "*batch"], margin: int) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """ψ(θ) = (−1)^k cos(mθ) − 2k and dψ/dc, by Chebyshev: cos(mθ) = T_m(c), sin(mθ) / sin θ = U_{m−1}(c)."""
    c = clipped(c)
    t, t_next, u, u_next = jnp.ones_like(c), c, jnp.zeros_like(c), jnp.ones_like(c)
    for _ in range(margin - 1):
        t, t_next = t_next, 2 * c * t_next - t
        u, u_next = u_next, 2 * c * u_next - u
    k = sum(((c < np.cos(j * np.pi / margin)).astype(c.dtype) for j in range(1, margin)), jnp.zeros_like(c))
    sign = 1 - 2 * (k % 2)
    return sign * t_next - 2 * k, sign * margin * u_next


def clipped(c: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Cosines that rounding has carried past ±1 taken as ±1, with slope 1 at ±1 itself."""
    return jnp.where(jnp.abs(c) > 1, jnp.sign(c), c)


def with_target(
    rows: Rows,
    labels: Integer[Array, "*batch"],
    scale: Any,
    target: Float[Array, "*batch"],
    slope: Float[Array, "*batch"],
) -> tuple[Rows, Rows]:
    """Rows, of slope 1, but for the label's entry; all times scale; NaN where the label is no class."""
    is_target = jax.nn.one_hot(labels, rows.shape[-1], dtype=bool)
    is_class = (labels >= 0) & (labels < rows.shape[-1])
    # a factor and not a choice of NaN, so that the derivative is NaN too
    factor = jnp.where(is_class, scale, jnp.nan)[..., None]
    logits = factor * jnp.where(is_target, target[..., None], rows)
    return logits, factor * jnp.where(is_target, slope[..., None], 1)


def _angular_margin(
    cosines: Rows, labels: Integer[Array, "*batch"], scale: Any, m1: Any, m2: Any, m3: Any
) -> tuple[Rows, Rows]:
    """s·(cos(m₁θ + m₂) − m₃) for the label's cosine."""
    nearest = 1 - float(jnp.finfo(cosines.dtype).epsneg)  # the last cosine that the dtype tells from 1
    cosines = cosines.astype(computed_dtype(cosines))
    c = entry_at(cosines, labels)
    value, slope = c, jnp.ones_like(c)
    if does_something(m1) or does_something(m2):
        # cos(m₁θ + m₂) = cos(θ + φ), and θ itself, with its rounding, is needed only where m₁ is not 1
        inside = jnp.where(jnp.abs(c) < 1, c, jnp.sign(c) * nearest)
        sine = jnp.sqrt((1 - inside) * (1 + inside))
        phi = _rest_of_angle(inside, sine, m1, m2)
        slope = m1 * (jnp.cos(phi) + inside / sine * jnp.sin(phi))
        c = clipped(c)
        sine = jnp.where(jnp.abs(c) < 1, sine, 0)
        phi = _rest_of_angle(c, sine, m1, m2)
        value = c * jnp.cos(phi) - sine * jnp.sin(phi)
    return with_target(cosines, labels, scale, value - m3, slope)


def _rest_of_angle(cosine: Array, sine: Array, m1: Any, m2: Any) -> Array:
    """φ = m₁θ + m₂ − θ."""
    phi = jnp.full_like(cosine, m2)
    return phi + (m1 - 1) * jnp.arctan2(sine, cosine) if does_something(m1) else phi
