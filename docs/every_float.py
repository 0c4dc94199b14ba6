"""Write docs/every_float.md, the worst errors of losses of one number over all floats.

`python docs/every_float.py` takes half a minute, with each 257th number of float32; `--whole`, half an hour,
with all.
"""

import argparse
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxce

PAGE = Path(__file__).with_name("every_float.md")
CHUNK = 2**18  # what fits a cache: sixteen times as many take eight times as long for each
DTYPES = ("float32", "bfloat16", "float16")
STRIDE = 257  # of float32: it divides no power of two, so it meets every exponent and every last digit


class Sigmoid(NamedTuple):
    """Of a margin m, the logit if the label is 1 and its negative if it is 0, in float64."""

    nll: Array  # −log σ(m)
    wrong: Array  # 1 − σ(m)
    right: Array  # σ(m)


def sigmoid(m: Array) -> Sigmoid:
    """Every number with its relative accuracy: each exponential is of a negative number."""
    small = jnp.exp(-jnp.abs(m))
    larger, smaller = 1 / (1 + small), small / (1 + small)
    return Sigmoid(
        jnp.maximum(-m, 0) + jnp.log1p(small),
        jnp.where(m > 0, smaller, larger),
        jnp.where(m > 0, larger, smaller),
    )


# Loss and slope along the margin, as sums of numbers of one sign: nothing cancels, so float64 is the truth.


def cross_entropy(s: Sigmoid) -> tuple[Array, Array]:
    """−log σ(m)."""
    return s.nll, -s.wrong


def focal(s: Sigmoid) -> tuple[Array, Array]:
    """−(1 − σ)² log σ."""
    return s.wrong**2 * s.nll, -(s.wrong**2) * (2 * s.right * s.nll + s.wrong)


def poly(s: Sigmoid) -> tuple[Array, Array]:
    """−log σ + 2 (1 − σ)."""
    return s.nll + 2 * s.wrong, -s.wrong * (1 + 2 * s.right)


def asymmetric(s: Sigmoid) -> tuple[Array, Array]:
    """−(1 − σ) log σ; of label 0, which has the probability p = 1 − σ, −(p − c)⁴ log(1 − (p − c))."""
    return s.wrong * s.nll, -s.wrong * (s.wrong + s.right * s.nll)


def asymmetric_negative(s: Sigmoid) -> tuple[Array, Array]:
    """Of label 0 and its probability p = 1 − σ: −q⁴ log(1 − q), q = p − clip, where p > clip."""
    clip = float(np.float32(0.05))
    q = jnp.maximum(s.wrong - clip, 0)
    rest = s.right + clip  # 1 − q
    cost = -jnp.log1p(-jnp.minimum(q, 0.5)) * (q <= 0.5) - jnp.log(rest) * (q > 0.5)
    return q**4 * cost, -s.wrong * s.right * q**3 * (4 * cost + q / rest)


def brier(s: Sigmoid) -> tuple[Array, Array]:
    """2 (1 − σ)²."""
    return 2 * s.wrong**2, -4 * s.wrong**2 * s.right


# of label 0 and of label 1
TRUTHS = {
    "softmax_cross_entropy": (cross_entropy, cross_entropy),
    "softmax_cross_entropy_with_integer_labels": (cross_entropy, cross_entropy),
    "softmax_focal_loss": (focal, focal),
    "poly_loss_cross_entropy": (poly, poly),
    "brier_score": (brier, brier),
    "sigmoid_binary_cross_entropy": (cross_entropy, cross_entropy),
    "sigmoid_focal_loss": (focal, focal),
    "asymmetric_loss": (asymmetric_negative, asymmetric),
}


@dataclass(frozen=True)
class Worst:
    """The largest error of a loss over floats.

    Attributes:
        error: In ulp of the dtype of the result.
        at: The logit.
    """

    error: float
    at: float


Key = tuple[str, int, str]  # loss, label, and "value" or "gradient"


def worst_of(dtype: str, names: tuple[str, ...] = tuple(TRUTHS), stride: int = 1) -> dict[Key, Worst]:
    """The worst errors over every finite float of a dtype, or over each `stride`-th."""
    worst: dict[Key, Worst] = {}
    with jax.enable_x64(True):
        largest = jax.jit(lambda x: {key: errors.max() for key, errors in errors_of(x, names).items()})
        where = jax.jit(lambda x: {key: x[errors.argmax()] for key, errors in errors_of(x, names).items()})
        for x in floats(dtype, stride):
            found = jax.device_get(largest(x))
            if any(key not in worst or error > worst[key].error for key, error in found.items()):
                at = jax.device_get(where(x))  # a second run, for an argmax is slow and seldom needed
                for key, error in found.items():
                    if key not in worst or error > worst[key].error:
                        worst[key] = Worst(float(error), float(at[key]))
    return worst


def floats(dtype: str, stride: int) -> Iterator[Array]:
    """All floats of a dtype by their bits, in chunks."""
    bits = 8 * jnp.dtype(dtype).itemsize
    whole = jnp.uint32 if bits == 32 else jnp.uint16
    for start in range(0, 2**bits, CHUNK * stride):
        numbers = np.arange(start, min(start + CHUNK * stride, 2**bits), stride)
        yield jax.lax.bitcast_convert_type(numbers.astype(whole), jnp.dtype(dtype))


def errors_of(x: Array, names: tuple[str, ...]) -> dict[Key, Array]:
    """The errors at some floats, 0 where x is not finite."""
    found: dict[Key, Array] = {}
    for label, sign in ((0, -1), (1, 1)):
        truth = sigmoid(sign * x.astype(jnp.float64))
        for name in names:
            value, slope = TRUTHS[name][label](truth)
            results = run_loss(name, x, label)
            for kind, result, true in zip(("value", "gradient"), results, (value, sign * slope), strict=True):
                found[name, label, kind] = jnp.where(jnp.isfinite(x), errors_in_ulp(result, true), 0)
    return found


def run_loss(name: str, x: Array, label: int) -> tuple[Array, Array]:
    """Values, and gradients with respect to x: the logit, or the first of two, of which the other is 0."""
    loss = jaxce.LOSSES[name]
    if loss.labels == "binary":
        value, grad = loss.value_and_grad(x, jnp.full(x.shape, label, x.dtype))
        return value, grad
    logits = jnp.stack([x, jnp.zeros_like(x)], -1)
    classes = jnp.full(x.shape, 1 - label)
    labels: Any = classes if loss.labels == "integer" else jax.nn.one_hot(classes, 2, dtype=x.dtype)
    value, grad = loss.value_and_grad(logits, labels)
    return value, grad[..., 0]


def errors_in_ulp(result: Array, true: Array) -> Array:
    """In units in the last place of the result's dtype, at the true number; NaN counts as infinite.

    Below the smallest normal number float32 and bfloat16 are 0 on CPUs, and that number is the unit.
    """
    info = jnp.finfo(result.dtype)
    smallest = info.smallest_subnormal if result.dtype == jnp.float16 else info.tiny
    bits = jax.lax.bitcast_convert_type(true, jnp.int64) & (0x7FF << 52)  # those of its exponent
    power_of_two = jax.lax.bitcast_convert_type(bits, jnp.float64)
    unit = jnp.maximum(float(info.eps) * power_of_two, float(smallest))
    errors = jnp.abs(result.astype(jnp.float64) - true) / unit
    return jnp.where(jnp.isnan(errors), jnp.inf, errors)


def page(found: dict[str, dict[Key, Worst]], stride: int) -> str:
    """The page, of worst errors by dtype."""
    numbers = "every finite one" if stride == 1 else f"every {stride}th"
    lines = [
        "# Every float",
        "",
        "Sigmoid losses, and softmax losses of two classes of which one has logit 0, depend on one number. So "
        "all logits can be tried: here are the largest errors of value and gradient in ulp (units in the last "
        "place) of the result, and the logit where each is. Values are float32 always; gradients have "
        f"the dtype of the logits. Of bfloat16 and float16 every finite logit is tried, of float32 {numbers}. "
        f"Written by `python docs/every_float.py`, on {platform.machine()} with Python "
        f"{platform.python_version()} and JAX {jax.__version__}.",
        "",
        "What is left above half an ulp comes from XLA's exponential and logarithm, each good to one or two "
        "ulp of float32, and from products of several of them, as in the focal losses and the Brier score. Of "
        "`asymmetric_loss` and label 0 it comes from p − clip where the probability p is nearly clip, the "
        "logit nearly −2.9444: what is left of p is its rounding there. The loss, (p − clip)⁴ times −log of "
        "about 1, is below 1e-20 there.",
        "",
    ]
    for dtype, worst in found.items():
        lines += [
            f"## {dtype}",
            "",
            "| loss | label | value | at | gradient | at |",
            "|---|---|---|---|---|---|",
        ]
        for name in TRUTHS:
            for label in (0, 1):
                value, grad = (worst[name, label, kind] for kind in ("value", "gradient"))
                cells = f"{value.error:.2f} | {value.at:.9g} | {grad.error:.2f} | {grad.at:.9g}"
                lines.append(f"| `{name}` | {label} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def main(stride: int) -> None:
    """Write the page."""
    found = {}
    for dtype in DTYPES:
        print(f"{dtype} ...", file=sys.stderr)
        found[dtype] = worst_of(dtype, stride=stride if dtype == "float32" else 1)
    PAGE.write_text(page(found, stride), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whole", action="store_true", help="try every number of float32 (half an hour)")
    main(1 if parser.parse_args().whole else STRIDE)
