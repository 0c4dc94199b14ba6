"""Softmax, sums and powers that keep their digits, and those of their derivatives, where plain ones do not."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Integer, Real


class LabelSoftmax(NamedTuple):
    """Softmax of rows, as one label sees it. `nll` and `others` keep their relative accuracy when tiny."""

    probs: Float[Array, "*batch classes"]
    others: Float[Array, "*batch"]  # 1 − the label's probability
    nll: Float[Array, "*batch"]  # −log of the label's probability
    grad: Float[Array, "*batch classes"]  # of nll: probs − one-hot
    shift: Float[Array, "*batch"]  # the largest logit
    log_total: Float[Array, "*batch"]  # log-sum-exp − shift
    is_label: Bool[Array, "*batch classes"]
    left_out: Bool[Array, "*batch"]


def label_softmax(logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"]) -> LabelSoftmax:
    """Softmax and −log p_label; where the label is the largest, log1p(Σ over the others of exp(z − max)).

    The textbook's lse − z_label cancels: of [1e4, 1e4 − 5] it keeps two digits, of [0, −20] none.
    A row of −inf alone has loss and gradient 0; a label outside the classes makes both NaN.
    """
    num_classes = logits.shape[-1]
    largest = jax.lax.stop_gradient(logits.max(-1))
    left_out = largest == -jnp.inf
    shift = jnp.where(left_out, 0, largest)
    exps = jnp.exp(logits - shift[..., None])
    label_logit = entry_at(logits, labels)
    rest = sum_except(exps, labels)
    label_exp = jnp.exp(label_logit - shift)
    total = jnp.where(left_out, 1, rest + label_exp)
    # label_exp − 1 is 0 where it counts, but its derivative is not: without it Hessians are wrong
    above_one = jnp.where(left_out, 0, rest + (label_exp - 1))
    log_total = jnp.where(label_logit == largest, jnp.log1p(above_one), jnp.log(total))
    nll = jnp.where(left_out, 0, (shift - label_logit) + log_total)
    probs = exps / total[..., None]
    is_label = jax.nn.one_hot(labels, num_classes, dtype=bool)
    grad = jnp.where(is_label, -(rest / total)[..., None], probs)
    return LabelSoftmax(
        probs=probs,
        others=rest / total,
        nll=nll,
        grad=grad,
        shift=shift,
        log_total=jnp.where(left_out, 0, log_total),
        is_label=is_label,
        left_out=left_out,
    )


class Softmax(NamedTuple):
    """Softmax of rows. `others` and `nll` keep their relative accuracy when tiny."""

    probs: Float[Array, "*batch classes"]
    others: Float[Array, "*batch classes"]  # 1 − probs
    nll: Float[Array, "*batch classes"]  # −log probs
    lse: Float[Array, "*batch"]
    left_out: Bool[Array, "*batch"]


def softmax(logits: Float[Array, "*batch classes"]) -> Softmax:
    """`label_softmax` for all classes at once: the largest logit takes the label's place."""
    top = label_softmax(logits, logits.argmax(-1))
    left_out = top.left_out
    nll = (top.shift[..., None] - logits) + top.log_total[..., None]
    return Softmax(
        probs=top.probs,
        others=jnp.where(top.is_label, top.others[..., None], 1 - top.probs),
        nll=jnp.where(left_out[..., None], 0, nll),
        lse=jnp.where(left_out, 0, top.shift + top.log_total),
        left_out=left_out,
    )


def computed_dtype(*arrays: Any) -> Any:
    """What arrays of these dtypes are computed in: float64 where one of them is, else float32."""
    return jnp.dtype(jnp.float64 if any(a.dtype == jnp.float64 for a in arrays) else jnp.float32)


def entry_at(rows: Float[Array, "*batch classes"], index: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The entry of each row at its index; NaN where there is none, as at −1, which is no last class."""
    num_classes = rows.shape[-1]
    if spec_of(rows)[-1] is not None:  # JAX gathers along no axis that is spread explicitly
        found = jnp.where(jax.nn.one_hot(index, num_classes, dtype=bool), rows, 0).sum(-1)
        return jnp.where((index >= 0) & (index < num_classes), found, jnp.nan)
    index = jnp.where(index < 0, num_classes, index)
    return jnp.take_along_axis(rows, index[..., None], -1, mode="fill", fill_value=jnp.nan)[..., 0]


def entries_of(table: Real[Array, "classes *rest"], index: Integer[Array, "*batch"]) -> Real[Array, "..."]:
    """What a table has for each index [*batch, *rest]; any entry where there is none."""
    spec = spec_of(index)
    if not any(spec) and not any(spec_of(table)):
        return jnp.take(table, index, axis=0, mode="clip")
    table = jax.sharding.reshard(table, PartitionSpec())
    out = PartitionSpec(*spec, *(None,) * (table.ndim - 1))
    return table.at[index].get(mode="clip", out_sharding=out)


def spec_of(array: Array) -> tuple[Any, ...]:
    """How each axis is spread over axes of a mesh that are explicit, and so part of the array's type."""
    return tuple(jax.typeof(array).sharding.spec)


def sum_except(x: Float[Array, "*batch classes"], index: Integer[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The sum of each row without its entry at `index`, without subtracting: exact where the rest is tiny."""
    num_classes = x.shape[-1]
    if num_classes > 2**24:  # float32 cannot count so far
        return jnp.where(jax.nn.one_hot(index, num_classes, dtype=bool), 0, x).sum(-1)
    # |column − index| capped at 1 is 0 at the index and 1 elsewhere. A comparison would say so more plainly,
    # but XLA's CPU backend does not vectorise it inside a sum: six times slower at 32,768 classes.
    columns = jax.lax.broadcasted_iota(jnp.float32, x.shape, x.ndim - 1)
    distance = jnp.abs(columns - jax.lax.optimization_barrier(index.astype(jnp.float32))[..., None])
    return (x * jnp.minimum(distance, 1).astype(x.dtype)).sum(-1)


def sums_of_others(x: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """Σ_{k≠j} x_k for every j, for non-negative x: without cancellation at the entry that dominates its row."""
    top = x.argmax(-1)
    rest = sum_except(x, top)[..., None]
    largest = entry_at(x, top)[..., None]
    return jnp.where(jax.nn.one_hot(top, x.shape[-1], dtype=bool), rest, rest + (largest - x))


def power(base: Array, exponent: Any) -> Array:
    """base^exponent for base ≥ 0, with finite derivatives at base 0."""
    is_zero = base == 0
    return jnp.where(is_zero, jnp.where(exponent == 0, 1.0, 0.0), jnp.where(is_zero, 1, base) ** exponent)


def quotient(x: Array, y: Array) -> Array:
    """x / y for y ≥ 0, and x where y is 0; its derivative, which divides by y², is finite for every y."""
    y = jnp.where(y == 0, 1, y)
    largest = float(jnp.finfo(y.dtype).tiny) ** -0.5  # a power of two
    small = y * largest < 1
    return jnp.where(small, largest * x, x) / jnp.where(small, largest * y, y)


def exp_beyond_linear(t: Array, fall: Array) -> Array:
    """exp(−t) − (1 − t) for t ≥ 0, given fall = 1 − exp(−t): its series where the difference cancels."""
    series = jnp.ones_like(t)
    for k in range(16, 2, -1):  # as many terms as float64 sees below ½
        series = 1 - t / k * series
    return jnp.where(t < 0.5, t * t / 2 * series, t - fall)
