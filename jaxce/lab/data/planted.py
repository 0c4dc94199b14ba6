"""Features with classes planted in them, for heads of any number of classes: made up, and said to be."""

import numpy as np

from jaxce.lab.data.examples import Examples
from jaxce.lab.data.split import Dataset, Split

WIDTH, NOISE = 64, 0.5
SEEN, TO_TRAIN = 4096, 8  # classes that have examples, and how many each to train on
HELD_OUT = 1024  # examples each in valid and test


def many_classes(split: Split) -> Dataset:
    """A million classes, of which 4,096 have examples, 8 each to train on: what `planted` gives."""
    return planted(split, 10**6, SEEN)


def planted(split: Split, num_classes: int, num_seen: int) -> Dataset:
    """Classes that are directions in space; their examples are those and noise, as a network might give them.

    Inputs [N, 64]. Which classes have examples, their directions and the noise are drawn by the split's seed.
    The other classes have none, but a prediction is one of all.
    """
    rng = np.random.default_rng(split.seed)
    seen = rng.choice(num_classes, num_seen, replace=False).astype(np.int32)
    directions = rng.standard_normal((num_seen, WIDTH), np.float32)

    def drawn(which: np.ndarray) -> Examples:
        noise = rng.standard_normal((len(which), WIDTH), np.float32)
        return Examples(directions[which] + np.float32(NOISE) * noise, seen[which])

    train = drawn(np.arange(num_seen).repeat(TO_TRAIN))
    valid, test = (drawn(rng.integers(0, num_seen, HELD_OUT)) for _ in range(2))
    return Dataset(train, valid, test, classes=tuple(map(str, range(num_classes))))
