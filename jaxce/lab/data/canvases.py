"""Canvases with several real digits on each, for the question which digits are there."""

from functools import partial
from pathlib import Path

import numpy as np

from jaxce.lab.data.bundled import digits
from jaxce.lab.data.examples import Examples
from jaxce.lab.data.generated import Arrays, generate
from jaxce.lab.data.split import Dataset, Split

SIDE = 20
MOST_DIGITS = 4
PARTS = ("train", "valid", "test")


def multilabel(
    split: Split, counts: tuple[int, int, int] = (6000, 1000, 2000), cache: Path | None = None
) -> Dataset:
    """Canvases of one to four handwritten digits, inputs [N, 20, 20, 1], labels 0 or 1 for each digit [N, 10].

    The digits are divided first: no digit that is on a canvas for training is on one for testing.

    Args:
        split: How the digits are divided.
        counts: Canvases to draw for train, valid and test.
        cache: Where they are kept; None for the user's cache folder.
    """

    def part(name: str, count: int) -> Examples:
        settings = {"seed": 0, "valid": split.valid_fraction, "test": split.test_fraction, "split": split.seed}
        drawn = generate(f"canvases-{name}", partial(draw_canvases, split, name), count, settings, cache)
        return Examples(drawn["images"][..., None], drawn["labels"].astype(np.int32))

    train, valid, test = (part(name, count) for name, count in zip(PARTS, counts, strict=True))
    return Dataset(train, valid, test, classes=tuple("0123456789"), labels="set")


def draw_canvases(split: Split, part: str, numbers: range) -> Arrays:
    """One canvas for each number, of the digits in one part: images [N, 20, 20] and labels [N, 10]."""
    source: Examples = getattr(digits(split), part)
    images = np.zeros((len(numbers), SIDE, SIDE), np.float32)
    labels = np.zeros((len(numbers), 10), np.uint8)
    for image, label, number in zip(images, labels, numbers, strict=True):
        rng = np.random.default_rng([PARTS.index(part), number])
        for chosen in rng.choice(
            len(source.labels), rng.integers(1, MOST_DIGITS, endpoint=True), replace=False
        ):
            digit = np.asarray(source.inputs[chosen, ..., 0])
            top, left = free_place(image, digit, rng)
            place = image[top : top + 8, left : left + 8]
            np.maximum(place, digit, out=place)
            label[source.labels[chosen]] = 1
    return {"images": images, "labels": labels}


def free_place(image: np.ndarray, digit: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Top and left of a place where ink covers least ink, at random among the places where it does."""
    windows = np.lib.stride_tricks.sliding_window_view(image, digit.shape)
    covered = np.minimum(windows, digit[None, None]).sum((2, 3))
    places = np.argwhere(covered == covered.min())
    top, left = places[rng.integers(len(places))].tolist()
    return top, left
