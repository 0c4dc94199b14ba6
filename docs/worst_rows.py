"""Write docs/worst_rows.md, the rows of four classes with the largest errors: `python docs/worst_rows.py`.

Hypothesis looks for them, loss by loss, towards larger errors; it takes six minutes.
"""

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
from hypothesis.extra.numpy import arrays

import jaxce
from jaxce.verification import samples
from jaxce.verification.checks import Check
from jaxce.verification.suite import examination, sizes_of
from jaxce.verification.tolerances import limits_of

PAGE = Path(__file__).with_name("worst_rows.md")
EXAMPLES = 500
ROWS, CLASSES = 6, samples.FEW
NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 5.0, -20.0, 20.0, -80.0, 88.0, -103.0, 1e4, 9995.0, -1e4]),
    st.floats(-100, 100, width=32),
    st.floats(-1e4, 1e4, width=32),
    st.floats(-1, 1, width=32),
)


@dataclass
class Worst:
    """The largest errors that were found.

    Attributes:
        value: Of values, in ulp, and where.
        gradient: Of gradients in closed form.
        rows: How many rows were tried.
    """

    value: Check
    gradient: Check
    rows: int = 0


# Without those of features, which err as the product with their kernel does.
NAMES = [name for name, loss in jaxce.LOSSES.items() if loss.inputs != "features"]


def search(name: str, examples: int) -> Worst:
    """The worst of so many times ROWS rows, each with every kind of label."""
    loss = jaxce.LOSSES[name]
    worst = Worst(Check("value", 0.0, 0.0), Check("gradient", 0.0, 0.0))
    compiled = jax.jit(lambda x, y: loss.value_and_grad(*samples.arguments(loss, x, y)))

    def of_value(x: Any, y: Any) -> Any:
        return samples.functions(loss, {})[0](x, y.labels)

    @hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.target],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(arrays(np.float32, (ROWS, CLASSES), elements=NUMBERS), st.integers(0, 2**32 - 1))
    def climb(numbers: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows = samples.as_kind(loss.inputs, numbers.astype(np.float64))
        x, y = samples.with_labels(loss, rows, rng, np.float32)
        exam = examination(loss, {}, of_value, x, y, rng, sizes=sizes_of(loss, x), grads={})
        value, grad = map(np.asarray, compiled(x, y))
        weighed, floor = exam.weighed_gradient(grad)
        found = exam.compared("value", value, 0, np.arange(value.size))
        of_grad = exam.compared("gradient", weighed.ravel(), 1, np.arange(weighed.size), floor)
        worst.rows += len(x)
        worst.value = max(worst.value, found, key=lambda check: check.error)
        worst.gradient = max(worst.gradient, of_grad, key=lambda check: check.error)
        hypothesis.target(float(np.log1p(found.error)), label="value")
        hypothesis.target(float(np.log1p(of_grad.error)), label="gradient")

    climb()
    return worst


def page(found: dict[str, Worst]) -> str:
    """The page."""
    limits = limits_of(np.dtype(np.float32), np.dtype(np.float32), False)
    lines = [
        "# Worst rows",
        "",
        f"Rows of {CLASSES} classes in float32, looked for by Hypothesis towards larger errors, each with "
        "labels that are right, wrong and soft. The truth is the definition without rounding (`jaxce.exact`): "
        "the errors are proven; they are in ulp of the true number, as in `python -m jaxce verify`. An error "
        f"above {limits.value:g} ulp, which are 1e-5, would be wrong, but for parts that cancel. What is left "
        "comes from z − max z, which rounds where the logits are far apart: half an ulp of 51 is 16 ulp of "
        f"exp(−51). Written by `python docs/worst_rows.py`, on {platform.machine()} with Python "
        f"{platform.python_version()} and JAX {jax.__version__}.",
        "",
        "| loss | rows | value | gradient | worst row of the value | of the gradient |",
        "|---|---|---|---|---|---|",
    ]
    for name, worst in found.items():
        rows = (check.note.rpartition("of inputs ")[2] or "–" for check in (worst.value, worst.gradient))
        errors = f"{worst.value.error:.2f} | {worst.gradient.error:.2f}"
        lines.append(f"| `{name}` | {worst.rows} | {errors} | {' | '.join(rows)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Write the page."""
    found = {}
    for name in NAMES:
        found[name] = search(name, EXAMPLES)
        print(name, found[name].value.error, found[name].gradient.error, file=sys.stderr)
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
