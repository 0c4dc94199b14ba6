"""Numbers of which some are never seen in training, for the question whether two pictures show the same."""

import numpy as np

from jaxce.lab.data.bundled import digits
from jaxce.lab.data.examples import Examples
from jaxce.lab.data.split import Dataset, Split

SEEN, UNSEEN_IN_VALID = 70, 10
# Pictures of each number: to learn from, to judge what was learnt by, and of the numbers never seen.
TO_TRAIN, HELD_OUT, UNSEEN = 50, 10, 60


def open_set(split: Split) -> Dataset:
    """Numbers of two handwritten digits, 70 to train on, 10 others in valid and the last 20 in test.

    Inputs [N, 8, 16, 1], one digit beside the other. The digits are divided first, and which numbers are seen
    is drawn by the split's seed: the pictures of an unseen number share no stroke with those trained on. Valid
    and test have new pictures of the 70 as well. Ten digits are too few to learn what makes a class; numbers
    fill the space of their kind as faces do, which is what verification needs and margins were made for.
    """
    parts = digits(split)
    order = np.random.default_rng(split.seed).permutation(100)
    seen, in_valid, in_test = np.split(order, [SEEN, SEEN + UNSEEN_IN_VALID])

    def drawn(part: Examples, unseen: np.ndarray, first_label: int, seed: int) -> Examples:
        rng = np.random.default_rng([split.seed, seed])
        numbers = np.concatenate([seen.repeat(HELD_OUT), unseen.repeat(UNSEEN)])
        labels = np.concatenate(
            [np.arange(SEEN).repeat(HELD_OUT), first_label + np.arange(len(unseen)).repeat(UNSEEN)]
        )
        return Examples(pictures(part, numbers, rng), labels.astype(np.int32))

    assert isinstance(parts.train, Examples)
    train = pictures(parts.train, seen.repeat(TO_TRAIN), np.random.default_rng([split.seed, 0]))
    return Dataset(
        Examples(train, np.arange(SEEN, dtype=np.int32).repeat(TO_TRAIN)),
        drawn(parts.valid, in_valid, SEEN, seed=1),
        drawn(parts.test, in_test, SEEN + UNSEEN_IN_VALID, seed=2),
        classes=tuple(f"{number:02}" for number in seen),
        unseen=tuple(f"{number:02}" for number in (*in_valid, *in_test)),
    )


def pictures(part: Examples, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each number, written with digits that are drawn from that part: [N, 8, 16, 1]."""
    labels = np.asarray(part.labels)
    sides = []
    for digit in (numbers // 10, numbers % 10):
        rows = np.empty(len(numbers), int)
        for value in range(10):
            rows[digit == value] = rng.choice(np.flatnonzero(labels == value), (digit == value).sum())
        sides.append(np.asarray(part.inputs)[rows])
    return np.concatenate(sides, axis=2)
