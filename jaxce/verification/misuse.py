"""Areas of `jaxce conform`: mistakes, which should not give a number, and labels of every integer dtype."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from jaxce.losses import Loss
from jaxce.verification import samples
from jaxce.verification.trial import CLASSES, Cases, Trial, case, error_or, no_number, refused

MANY_CLASSES = 300  # more than a byte can count


def misuse(trial: Trial) -> Cases:
    """Mistakes that should not give a number."""
    kinds = {"": trial.implementation}
    if trial.implementation.framework == "jax":
        kinds[", jit"] = trial.implementation.compiled
    x, y = trial.points("tame", np.float32)
    right = trial.fast.value(x, y)
    for how, tried in kinds.items():
        for words, labels in wrong_labels(trial.loss, y):
            some, ones = x[: len(labels)], np.ones((len(labels), *right.shape[1:]))
            yield case(f"{words}{how}", no_number, partial(tried.value, some, labels))
            yield case(f"{words}, gradient{how}", no_number, partial(tried.reverse, some, labels, ones))
    tried = trial.implementation
    for words, inputs, labels in wrong_shapes(trial.loss, x, y):
        yield case(words, refused, partial(tried.value, inputs, labels))
    if trial.loss.labels == "integer":
        yield case("labels (N, 1)", error_or, right, lambda: tried.value(x, y[:, None]).reshape(-1))
        yield case("labels as floats", error_or, right, partial(tried.value, x, y.astype(np.float32)))
    if trial.loss.inputs == "logits":
        whole = np.round(3 * x).astype(np.int32)
        of_whole = trial.fast.value(whole.astype(np.float32), y)
        yield case("inputs as integers", error_or, of_whole, partial(tried.value, whole, y))
    yield case("inputs that are NaN", no_number, partial(tried.value, x[:2] * np.nan, y[:2]))


def wrong_labels(loss: Loss, y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Labels that mean nothing."""
    if loss.labels == "integer":
        yield "label C", np.full_like(y[:2], CLASSES)
        yield "label −1", np.full_like(y[:2], -1)
    elif loss.labels == "binary":
        yield "label 255", np.full_like(y[:2], 255)
        yield "label −1", np.full_like(y[:2], -1)
    elif loss.labels != "log_distribution":
        yield "labels that are NaN", np.full_like(y[:2], np.nan)


def wrong_shapes(loss: Loss, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Inputs and labels of which one does not fit the other."""
    yield "one label for N inputs", x, y[:1]
    yield "N + 1 inputs for N labels", np.concatenate([x, x[:1]]), y
    if y.ndim == 1:
        return
    yield "labels (N,) for inputs (N, C)", x, y[:, 0]
    if samples.by_rows(loss):
        yield "labels (N, 1) for inputs (N, C)", x, y[:, :1]
    else:
        yield "labels (N,) for inputs (N, 1)", x[:, :1], y[:, 0]


def label_types(trial: Trial) -> Cases:
    """Every dtype of whole numbers, with more classes than a byte can count."""
    tried = trial.fast
    if trial.loss.labels == "integer":
        x = trial.rng.normal(0, 2, (2, MANY_CLASSES)).astype(np.float32)
        y = np.array([3, 100])
        dtypes = ["int8", "uint8", "int16", "uint16", "int32", "uint32"]
    elif trial.loss.labels == "binary":
        x = trial.rng.normal(0, 2, (2, CLASSES)).astype(np.float32)
        y = np.array([[0, 1, 0, 0], [1, 0, 0, 1]])
        dtypes = ["bool", "int8", "uint8", "int32"]
    else:
        return
    floats = y if trial.loss.labels == "integer" else y.astype(np.float32)
    ones = np.ones(trial.shape_of(x), np.float32)
    right = np.concatenate([tried.value(x, floats).ravel(), tried.reverse(x, floats, ones).ravel()])

    def both(x: Any, y: Any, ones: Any) -> Any:
        value, back = tried.transforms.vjp(lambda x: tried.function(x, y), x)[:2]
        return {"value": value, "gradient": back(ones)[0]}

    def run(dtype: str) -> np.ndarray:
        found = tried.run(both, x, y.astype(dtype), ones)
        return np.concatenate([found["value"].ravel(), found["gradient"].ravel()])

    for dtype in dtypes:
        yield case(dtype, error_or, right, partial(run, dtype))
