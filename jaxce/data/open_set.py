"""Digits of which some are never seen in training, for the question whether two pictures show the same."""

import numpy as np

from jaxce.data.bundled import digits
from jaxce.data.split import Dataset, Examples, Split

# The last two groups are unseen. Turned by 180 degrees a 6 is a 9, so neither is among those that are turned.
TRAIN_DIGITS, VALID_DIGITS, TEST_DIGITS = (2, 3, 4, 5, 7), (0, 6), (1, 8, 9)
TURNS = ("", " turned left", " upside down", " turned right")


def open_set(split: Split) -> Dataset:
    """Digits 2, 3, 4, 5 and 7, each in four orientations, to train on; 0 and 6 for valid, 1, 8 and 9 for test.

    Inputs [N, 8, 8, 1], twenty classes: five digits are too few to learn what makes a class, and a digit turned
    is a picture like any other. Valid and test have upright digits that training never saw, all examples of
    them, and examples of the twenty classes that were held out. The unseen digits are numbered from 20 on.
    """
    parts = digits(split)
    classes = tuple(f"{digit}{turn}" for digit in TRAIN_DIGITS for turn in TURNS)
    unseen = VALID_DIGITS + TEST_DIGITS

    def seen(part: Examples) -> list[Examples]:
        return [
            Examples(
                np.rot90(part.inputs[part.labels == digit], turn, axes=(1, 2)),
                np.full((part.labels == digit).sum(), len(TURNS) * i + turn, np.int32),
            )
            for i, digit in enumerate(TRAIN_DIGITS)
            for turn in range(len(TURNS))
        ]

    def of_digits(wanted: tuple[int, ...]) -> list[Examples]:
        return [
            Examples(
                part.inputs[part.labels == digit],
                np.full((part.labels == digit).sum(), len(classes) + unseen.index(digit), np.int32),
            )
            for digit in wanted
            for part in (parts.train, parts.valid, parts.test)
        ]

    return Dataset(
        joined(seen(parts.train)),
        joined(seen(parts.valid) + of_digits(VALID_DIGITS)),
        joined(seen(parts.test) + of_digits(TEST_DIGITS)),
        classes=classes,
        unseen=tuple(map(str, unseen)),
    )


def joined(parts: list[Examples]) -> Examples:
    """One after the other."""
    return Examples(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))
