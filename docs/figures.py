"""The pictures of README and guide, from runs made here: `python docs/figures.py` writes docs/images (20 s).

- learning.svg: from a confidently wrong start cross-entropy learns and squared error does not; and the curve
  of `python train.py`.
- tumor.svg: the S-curve, probability of a malignant tumour by its radius alone.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxce
from jaxce.lab.charts import BLUE, GREY, ORANGE, STYLE, percent

IMAGES = Path(__file__).parent / "images"


def probabilities_while_learning(
    grad: Callable[[Array], Array], start: float = -10.0, steps: int = 60, learning_rate: float = 1.0
) -> Float[np.ndarray, "steps"]:
    """Probability σ(s) of the true class before each step of gradient descent on one logit s."""
    s, found = jnp.float32(start), []
    for _ in range(steps):
        found.append(float(jax.nn.sigmoid(s)))
        s -= learning_rate * grad(s)
    return np.array(found)


def cross_entropy_slope(s: Array) -> Array:
    """Of −log σ(s): the logit of an example whose true class is 1."""
    return jaxce.sigmoid_binary_cross_entropy.grad(s, jnp.float32(1.0))


def squared_error_slope(s: Array) -> Array:
    """Of (σ(s) − 1)²: by the chain rule, with the factor σ'(s) that vanishes."""
    p = jax.nn.sigmoid(s)
    return jaxce.squared_error.grad(p, jnp.float32(1.0)) * p * (1 - p)


def logistic_regression(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """Slope and offset of the logit that minimise the mean sigmoid loss, by Newton's method from zero."""

    def loss(w: Array) -> Array:
        return jaxce.sigmoid_binary_cross_entropy(w[0] * x + w[1], y).mean()

    w = jnp.zeros(2)
    for _ in range(20):
        w -= jnp.linalg.solve(jax.hessian(loss)(w), jax.grad(loss)(w))
    return float(w[0]), float(w[1])


def draw_wrong_start(axes: Axes) -> None:
    """M9: both learning curves."""
    for grad, colour, name, at in (
        (cross_entropy_slope, BLUE, "cross-entropy", (17, 0.6)),
        (squared_error_slope, ORANGE, "squared error", (36, 0.045)),
    ):
        axes.plot(probabilities_while_learning(grad), color=colour, linewidth=2.2)
        axes.text(*at, name, color=colour)
    axes.set(xlabel="gradient step", ylabel="probability of the true class", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(percent)
    axes.set_title("Confidently wrong at the start, p = .00005", loc="left", fontsize=10)


def draw_digits(axes: Axes) -> None:
    """Accuracy while `python train.py` runs, on the part that it does not learn from."""
    from jaxce.lab.config import load_config
    from jaxce.lab.training.loop import run

    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "digits"
        summary = run(load_config("digits"), workdir)
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for part, colour, at in (("train", GREY, (3.3, 0.79)), ("valid", BLUE, (5.2, 0.935))):
        axes.plot([row["epoch"] for row in rows], [row[f"{part}_accuracy"] for row in rows], color=colour)
        axes.text(*at, part, color=colour)
    axes.axhline(summary["test"]["accuracy"], color=ORANGE, linewidth=1.2, linestyle=(0, (4, 3)))
    told = f"test, after {len(rows)} epochs: {100 * summary['test']['accuracy']:.2f} %"
    axes.text(29, 0.972, told, color=ORANGE, ha="right", va="top")
    axes.set(xlabel="epoch", ylabel="accuracy", xlim=(0, 30), ylim=(0.6, 1.015))
    axes.yaxis.set_major_formatter(percent)
    axes.set_title("Handwritten digits, python train.py", loc="left", fontsize=10)


def draw_tumor(axes: Axes) -> None:
    """Each tumour, and the probability that the sigmoid loss fits to them."""
    from sklearn.datasets import load_breast_cancer

    raw = load_breast_cancer()
    radius, malignant = raw.data[:, 0].astype(np.float32), (raw.target == 0).astype(np.float32)
    mean, deviation = radius.mean(), radius.std()
    slope, offset = logistic_regression((radius - mean) / deviation, malignant)
    jitter = np.random.default_rng(0).uniform(-0.03, 0.03, len(radius))
    for label, colour in ((0, BLUE), (1, ORANGE)):
        chosen = malignant == label
        axes.plot(radius[chosen], (label + jitter)[chosen], "o", color=colour, markersize=3, alpha=0.35, mew=0)
    grid = np.linspace(radius.min(), radius.max(), 200)
    axes.plot(grid, jax.nn.sigmoid(slope * (grid - mean) / deviation + offset), color="#2b2f36", linewidth=2.2)
    half = mean - offset / slope * deviation
    axes.plot([half, half], [-0.06, 0.5], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(half + 0.3, 0.13, f"one half at {half:.1f}", color=GREY)
    axes.text(25, 0.9, f"{int(malignant.sum())} malignant", color=ORANGE, ha="right")
    axes.text(7, 0.08, f"{int((1 - malignant).sum())} benign", color=BLUE)
    axes.set(xlabel="mean radius of the cell nuclei", ylabel="probability of malignant")
    axes.yaxis.set_major_formatter(percent)


def save(name: str, *draws: Callable[[Axes], None], width: float) -> Path:
    """Write images/<name>.svg, one chart beside the other on white."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, 3.1), layout="constrained", facecolor="white")
        for axes, draw in zip(np.atleast_1d(figure.subplots(1, len(draws))), draws, strict=True):
            draw(axes)
        path = IMAGES / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    svg = path.read_text().replace("'DejaVu Sans'", "system-ui, 'Helvetica Neue', Arial, 'DejaVu Sans'")
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
    return path


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    print(save("learning", draw_wrong_start, draw_digits, width=9))
    print(save("tumor", draw_tumor, width=5.4))
