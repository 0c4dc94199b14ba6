"""Write docs/conformance.md, the scoreboard of losses of several libraries: `python docs/conformance.py`.

It takes three minutes, and needs beside the extra `verify` optax, flax, tokamax, torch, and keras, on JAX.
With two arguments, MODULE:FUNCTION and the loss of jaxce that it should be, it prints what it finds as JSON.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxce.verification.conformance import AREAS, NUM_DEVICES, conform
from jaxce.verification.table import scoreboard_as_json

PAGE = Path(__file__).with_name("conformance.md")


# Each library called as its documentation says, so that it gives one loss for each example.


def flax_lm1b(logits: Any, labels: Any) -> Any:
    """The loss of flax's examples/lm1b and wmt, without smoothing."""
    from flax import linen
    from flax.training import common_utils

    return -(common_utils.onehot(labels, logits.shape[-1]) * linen.log_softmax(logits)).sum(-1)


def flax_imagenet(logits: Any, labels: Any) -> Any:
    """The loss of flax's examples/imagenet."""
    import optax
    from flax.training import common_utils

    return optax.softmax_cross_entropy(logits, common_utils.onehot(labels, num_classes=logits.shape[-1]))


def tokamax_linear(logits: Any, labels: Any) -> Any:
    """The logits as features of an identity kernel, one example a call, for it gives their sum."""
    import tokamax

    def of_example(row: Any, label: Any) -> Any:
        kernel = jnp.eye(row.size, dtype=row.dtype)
        return tokamax.linear_softmax_cross_entropy_loss(row[None], label[None], kernel, reduction="sum")

    return of_example(logits, labels) if logits.ndim == 1 else jax.vmap(of_example)(logits, labels)


def torch_classes(logits: Any, labels: Any) -> Any:
    """Class numbers."""
    from torch.nn import functional

    return functional.cross_entropy(logits, labels, reduction="none")


torch_targets = torch_classes  # which takes probabilities too


def torch_binary(logits: Any, labels: Any) -> Any:
    """Numbers in [0, 1]."""
    from torch.nn import functional

    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def torch_kl(log_predictions: Any, targets: Any) -> Any:
    """Pointwise, to be added up over the classes."""
    from torch.nn import functional

    return functional.kl_div(log_predictions, targets, reduction="none").sum(-1)


def keras_classes(logits: Any, labels: Any) -> Any:
    """Class numbers."""
    import keras

    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def keras_targets(logits: Any, labels: Any) -> Any:
    """Distributions."""
    import keras

    return keras.losses.categorical_crossentropy(labels, logits, from_logits=True)


def keras_binary(logits: Any, labels: Any) -> Any:
    """The mean over the last axis, so each component is put on an axis of its own."""
    import keras

    return keras.losses.binary_crossentropy(labels[..., None], logits[..., None], from_logits=True)


CLASSES, TARGETS = "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy"
BINARY, FOCAL = "sigmoid_binary_cross_entropy", "sigmoid_focal_loss"
POLY, KL = "poly_loss_cross_entropy", "kl_divergence"
ALL = (CLASSES, TARGETS, BINARY, FOCAL, POLY, KL)
HERE = str(Path(__file__))
# library -> what the page calls it, MODULE:FUNCTION, and the loss that it should be
PEERS: dict[str, Sequence[tuple[str, str, str]]] = {
    "jaxce": [(name, f"jaxce:{name}", name) for name in ALL],
    "optax": [(name, f"optax.losses:{name}", name) for name in ALL],
    "flax": [
        ("examples/lm1b", f"{HERE}:flax_lm1b", CLASSES),
        ("examples/imagenet", f"{HERE}:flax_imagenet", CLASSES),
    ],
    "tokamax": [("linear_softmax_cross_entropy_loss", f"{HERE}:tokamax_linear", CLASSES)],
    "torch": [
        ("cross_entropy", f"{HERE}:torch_classes", CLASSES),
        ("cross_entropy", f"{HERE}:torch_targets", TARGETS),
        ("binary_cross_entropy_with_logits", f"{HERE}:torch_binary", BINARY),
        ("kl_div", f"{HERE}:torch_kl", KL),
    ],
    "keras": [
        ("sparse_categorical_crossentropy", f"{HERE}:keras_classes", CLASSES),
        ("categorical_crossentropy", f"{HERE}:keras_targets", TARGETS),
        ("binary_crossentropy", f"{HERE}:keras_binary", BINARY),
    ],
}

INTRODUCTION = """\
Losses of several libraries, each held by `jaxce conform` to what jaxce holds its own to: their definition \
without rounding. Of each area: how many cases are right, and of how many; – where it is no matter of that \
loss or library. Limits are those of `python -m jaxce verify`: 84 ulp of float32, which are 1e-5, and of \
half precision one rounding of what float32 gives. A mistake is right as an error or as NaN. Each function \
is called as its documentation says, by the lines in docs/conformance.py. Two promise less than is asked: \
tokamax says that logits must not be −inf, and torch is tried eagerly and on one device alone.

Written by `python docs/conformance.py` on {date}, {machine}, Python {python}: {versions}."""


def page(boards: dict[str, list[tuple[str, dict[str, Any]]]]) -> str:
    """The page, of what was found for each library's functions."""
    introduction = INTRODUCTION.format(
        date=date.today().isoformat(),
        machine=platform.machine(),
        python=platform.python_version(),
        versions=", ".join(f"{name} {version(name)}" for name in ("jax", *PEERS)),
    )
    lines = ["# Conformance", "", introduction, ""]
    lines += ["What is tried:", "", *(f"- {name}: {cases.__doc__}" for name, cases in AREAS.items()), ""]
    for like in ALL:
        lines += [f"## As `{like}`", "", f"| | {' | '.join(AREAS)} |", "|---" * (len(AREAS) + 1) + "|"]
        rows = [
            (name, board)
            for of_library in boards.values()
            for name, board in of_library
            if board["like"] == like
        ]
        for name, board in rows:
            cells = (f"{a['passed']}/{a['cases']}" if a["cases"] else "–" for a in board["areas"].values())
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
        for name, board in rows:
            short = [case for case in board["cases"] if not case["ok"]]
            if short:
                lines += [f"{name} falls short:", "", *map(line, short), ""]
    return "\n".join(lines)


def line(case: dict[str, Any]) -> str:
    """One case that falls short: how large the error is, or what came of it."""
    what = f"{case['area']}, {case['case']}"
    if case["error"] is not None:
        return f"- {what}: {case['error']:.3g} {case['unit'].replace('relative', 'relative error')}"
    return f"- {what}: {' '.join(case['where'].split()).replace('largest at', 'no number at')[:160]}"


def main() -> None:
    """Write the page."""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    boards: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for library, peers in PEERS.items():
        boards[library] = []
        for name, function, like in peers:
            print(f"{library} {name} ...", file=sys.stderr)
            args = [sys.executable, __file__, function, like]
            done = subprocess.run(args, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{library} {name}: {done.stderr.strip().splitlines()[-1]}")
            boards[library].append((f"{library} `{name}`", json.loads(done.stdout)))
    PAGE.write_text(page(boards), encoding="utf-8")


def main_of_one(function: str, like: str) -> None:
    """Print what is found for one function."""
    del sys.argv[1:]  # tokamax reads them
    jax.config.update("jax_num_cpu_devices", NUM_DEVICES)
    implementation, results = conform(function, like)
    print(json.dumps(scoreboard_as_json(implementation, like, results, 0)))


if __name__ == "__main__":
    main_of_one(*sys.argv[1:]) if sys.argv[1:] else main()
