"""Draws docs/images/heads.svg: time and temporary memory of the linear head as N and C grow.

    python docs/heads_figure.py

Value and both gradients, float32, D = 128; every point the median of runs in turns, memory as compiled.
"""

import time
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxce
from benchmarks.heads import draw, plain_head, step

FEATURES, ROUNDS = 128, 5
HEADS = {"jaxce": jaxce.linear_softmax_cross_entropy, "optax, plain": plain_head}
GROWTH = {
    "classes C, at N = 1024": [(1024, 2**k) for k in range(11, 17)],
    "examples N, at C = 8192": [(2**k, 8192) for k in range(8, 14)],
}


def main() -> None:
    """Measure and draw."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex="col", layout="constrained")
    for column, (label, shapes) in zip(axes.T, GROWTH.items(), strict=True):
        lengths = [max(set(shape) - {1024}) if "C," in label else shape[0] for shape in shapes]
        measured = [measure(*shape) for shape in shapes]
        for name in HEADS:
            for axis, which in zip(column, (0, 1), strict=True):
                axis.loglog(lengths, [point[name][which] for point in measured], "o-", base=2, label=name)
        column[1].set_xlabel(label)
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("temporary MiB")
    axes[0, 0].legend()
    figure.savefig(Path(__file__).parent / "images" / "heads.svg")


def measure(rows: int, classes: int) -> dict[str, tuple[float, float]]:
    """Median seconds and temporary MiB of each head."""
    arrays = [jax.numpy.asarray(a) for a in draw(rows, FEATURES, classes)]
    programs = {name: step(head).lower(*arrays).compile() for name, head in HEADS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arrays))
            seconds[name].append(time.perf_counter() - start)
    found = {
        name: (
            float(np.median(seconds[name][1:])),
            program.memory_analysis().temp_size_in_bytes / 2**20,
        )
        for name, program in programs.items()
    }
    print(
        rows, classes, {name: f"{s * 1000:.0f} ms, {m:.1f} MiB" for name, (s, m) in found.items()}, flush=True
    )
    return found


if __name__ == "__main__":
    main()
