"""The points at which losses are tried, seeded: for every kind of inputs and labels, from tame to hostile."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxce.losses import Loss

# loss(inputs, labels) -> one number per row, or per component; of margins one logit per class
BatchLoss = Callable[[Array, Array], Array]

# what a user may meet, as pairs (label's logit, the other's): section 5 of the specification
HARD_PAIRS = (
    (0.0, -20.0),
    (0.0, -80.0),
    (1e4, 1e4 - 5),
    (1e4, -1e4),
    (1e4, 1e4),
    (-1e4, -1e4),
    (0.0, 0.0),
    (88.0, -88.0),
    (3e3, 2.99e3),
)
FEW = 4


def is_floating(value: Any) -> bool:
    """Whether these are numbers with a fraction: an array of them, or a Python float or tuple of floats."""
    return bool(jnp.issubdtype(np.asarray(value).dtype, jnp.floating))


def by_rows(loss: Loss) -> bool:
    """Whether an example is a row of classes; else every component is one by itself."""
    return loss.labels not in ("binary", "real")


def arguments(loss: Loss, x: Any, y: Any) -> tuple[Any, ...]:
    """What a loss takes: the inputs; where they are features, a kernel; and labels, where it has any."""
    labels = () if loss.labels == "none" else (y,)
    if loss.inputs != "features":
        return (x, *labels)
    return (x, kernel_for(x, x.dtype), *labels)


def kernel_for(features: Any, dtype: Any) -> np.ndarray:
    """Seeded directions of the classes [features, classes]."""
    return np.random.default_rng(0).normal(size=(features.shape[-1], FEW)).astype(dtype)


def functions(loss: Loss, case: Mapping[str, Any]) -> tuple[BatchLoss, BatchLoss]:
    """Value and gradient of a loss at a setting, as functions of inputs and labels alone."""
    return (
        lambda x, y: loss.value(*arguments(loss, x, y), **case),
        lambda x, y: loss.grad(*arguments(loss, x, y), **case),
    )


def tame(kind: str, rng: np.random.Generator, num_rows: int, num_classes: int) -> np.ndarray:
    """Rows of moderate inputs, in the middle of their domain."""
    rows = rng.normal(0, 2, (num_rows, num_classes))
    if kind == "cosines":
        return np.tanh(rows / 3)
    return as_kind(kind, rows)


def hostile(kind: str, rng: np.random.Generator, num_rows: int, num_classes: int) -> np.ndarray:
    """Rows of inputs that are large, far apart, tied, or certain: `num_rows` of each."""
    shape = num_rows, num_classes
    if kind == "cosines":
        near_one = rng.choice([-1, 1], shape) * (1 - 10 ** rng.uniform(-3, -1, shape))
        return np.concatenate([near_one, np.full(shape, 0.5), rng.uniform(-0.9, 0.9, shape)])
    if kind in ("predictions", "features"):
        return np.concatenate([rng.normal(0, 1e-3, shape), rng.normal(0, 1e3, shape), np.full(shape, -1.5)])
    wide = rng.normal(0, 30, shape)
    top_tied = rng.normal(0, 2, shape)
    top_tied[:, :2] = 5.0
    leads = np.resize([1.0, 5.0, 20.0, 40.0, 80.0], num_rows + 4)
    certain = rng.normal(0, 0.5, (num_rows + 4, num_classes))
    certain[np.arange(len(certain)), rng.integers(0, num_classes, len(certain))] += leads
    rows = [wide, top_tied, np.zeros((1, num_classes)), certain]
    if kind == "logits":
        offset = rng.choice([-1e4, 1e4], (num_rows, 1))
        rows += [rng.uniform(-1e4, 1e4, shape), offset + rng.normal(0, 3, shape)]
    return as_kind(kind, np.concatenate(rows))


def with_labels(
    loss: Loss, rows: np.ndarray, rng: np.random.Generator, dtype: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The rows with every kind of label in turn, in `dtype`: right, wrong, soft, and soft and already met."""
    if loss.inputs == "cosines":  # at ±1 the slopes of margins are infinite
        rows = np.clip(rows, -1 + float(jnp.finfo(dtype).eps), 1 - float(jnp.finfo(dtype).eps))
    rows = rows.astype(dtype)
    seen = rows.astype(np.float64)
    num_rows, num_classes = rows.shape
    right, wrong = seen.argmax(-1), seen.argmin(-1)
    if loss.inputs == "features":  # whose number is another
        num_classes = FEW
        right, wrong = right % FEW, wrong % FEW
    labels: list[Any]
    if loss.labels == "none":
        labels = [np.zeros(num_rows, np.int32)]
    elif loss.labels == "integer":
        labels = [right, wrong, rng.integers(0, num_classes, num_rows)]
    elif loss.labels in ("distribution", "log_distribution"):
        one_hot = np.eye(num_classes)
        random = rng.dirichlet(np.ones(num_classes), num_rows)
        met = seen if loss.inputs == "probs" else np.exp(seen) if loss.inputs == "log_probs" else _softmax(seen)
        labels = [one_hot[right], one_hot[wrong], random, 1.7 * random[::-1], met]
    elif loss.labels == "binary":
        chances = 1 / (1 + np.exp(-np.clip(seen, -700, 700)))
        labels = [np.ones_like(seen), np.zeros_like(seen), rng.uniform(size=seen.shape), chances]
    else:
        labels = [rng.normal(size=seen.shape), seen * (1 + 1e-2), seen + rng.normal(0, 10, seen.shape)]
    repeated, joined = np.tile(rows, (len(labels), 1)), np.concatenate(labels)
    if np.issubdtype(joined.dtype, np.integer):
        return repeated, joined.astype(np.int32)
    # a target of 1e-30 times a weight leaves the range of float32 though the loss does not
    joined = np.where(np.abs(joined) < 1e-15, 0, joined).astype(dtype)
    if loss.labels == "log_distribution":
        with np.errstate(divide="ignore"):
            joined = np.log(joined.astype(np.float64)).astype(dtype)
    return repeated, joined


def hard(loss: Loss, num_classes: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """HARD_PAIRS and their mirror images on logits, further classes at the lower logit; labels both ways."""
    pairs = [pair for a, b in HARD_PAIRS for pair in ((a, b), (b, a))]
    rows = np.tile([[a, b] + [min(a, b)] * (num_classes - 2) for a, b in pairs], (2, 1)).astype(dtype)
    classes = np.arange(2).repeat(len(pairs))
    if loss.labels == "integer":
        return rows, classes.astype(np.int32)
    if by_rows(loss):
        return rows, np.eye(num_classes)[classes].astype(dtype)
    return rows, np.broadcast_to(classes[:, None], rows.shape).astype(dtype)


def masked(loss: Loss, rng: np.random.Generator, num_classes: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows with one class or more at −inf and the label on another."""
    rows = np.concatenate([tame("logits", rng, 6, num_classes), hostile("logits", rng, 1, num_classes)])
    labels = np.zeros(len(rows), np.int32)
    rows[:, -1] = -np.inf
    rows[::2, 1:-1] = np.where(rng.uniform(size=rows[::2, 1:-1].shape) < 0.5, -np.inf, rows[::2, 1:-1])
    if loss.labels == "integer":
        return rows.astype(dtype), labels
    targets = np.where(rows > -np.inf, rng.uniform(0.1, 1, rows.shape), 0)
    targets /= targets.sum(-1, keepdims=True)
    targets[::3] = np.eye(num_classes)[0]
    return rows.astype(dtype), targets.astype(dtype)


def all_masked(loss: Loss, num_classes: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """A row with every class at −inf."""
    labels = np.zeros(1, np.int32) if loss.labels == "integer" else np.eye(num_classes)[:1].astype(dtype)
    return np.full((1, num_classes), -np.inf, dtype), labels


def infinite(num_classes: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Components at ±inf, with hard and soft labels."""
    rows = np.repeat([np.inf, -np.inf], 3)[:, None] * np.ones(num_classes)
    labels = np.tile([1.0, 0.0, 0.25], 2)[:, None] * np.ones(num_classes)
    return rows.astype(dtype), labels.astype(dtype)


def class_counts(options: Mapping[str, Any], *, few_and_many: bool) -> tuple[int, ...]:
    """Numbers of classes to try: what an option with one number per class demands, or usual ones."""
    sizes = {np.size(value) for value in options.values() if value is not None and np.ndim(value)}
    return tuple(sizes) or ((FEW, 2, 17) if few_and_many else (FEW,))


def as_kind(kind: str, rows: np.ndarray) -> np.ndarray:
    """Logits as the probabilities or log-probabilities that they stand for."""
    if kind == "probs":
        return np.maximum(_softmax(rows), 1e-30)  # float32 has no subnormal numbers
    if kind == "log_probs":
        largest = rows.max(-1, keepdims=True)
        return rows - largest - np.log(np.exp(rows - largest).sum(-1, keepdims=True))
    return rows


def _softmax(rows: np.ndarray) -> np.ndarray:
    exps = np.exp(rows - rows.max(-1, keepdims=True))
    return exps / exps.sum(-1, keepdims=True)
