"""The one place where examples are divided into train, valid and test."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from jaxce.errors import ConfigError


class Examples(NamedTuple):
    """Inputs and the labels that belong to them, row by row."""

    inputs: Float[Array | np.ndarray, "examples *shape"]
    labels: Int[Array | np.ndarray, "examples"]


@dataclass(frozen=True)
class Dataset:
    """A classification task: three disjoint parts, and the names of the classes in the labels' order."""

    train: Examples
    valid: Examples
    test: Examples
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """How to divide: fractions of all examples, and the seed of the drawing."""

    valid_fraction: float
    test_fraction: float
    seed: int

    def divide(self, examples: Examples) -> tuple[Examples, Examples, Examples]:
        """Train, valid and test: a partition, each part with the classes' proportions of the whole.

        The test part is drawn first and depends on nothing but the seed and its own fraction, so that
        runs which differ in `valid_fraction` still answer the same test.

        Raises:
            ConfigError: A part would be too small to hold every class.
        """
        from sklearn.model_selection import train_test_split  # a second to import: not before it is needed

        labels = examples.labels
        num_classes = len(np.unique(labels))
        num_valid, num_test = (round(f * len(labels)) for f in (self.valid_fraction, self.test_fraction))
        for part, count in (
            ("valid", num_valid),
            ("test", num_test),
            ("train", len(labels) - num_valid - num_test),
        ):
            if count < num_classes:
                raise ConfigError(
                    f"valid_fraction = {self.valid_fraction} and test_fraction = {self.test_fraction} leave "
                    f"{count} of {len(labels)} examples for {part}, "
                    f"too few for one of each of {num_classes} classes"
                )
        rest, test = train_test_split(
            np.arange(len(labels)), test_size=num_test, random_state=self.seed, stratify=labels
        )
        train, valid = train_test_split(
            rest, test_size=num_valid, random_state=self.seed, stratify=labels[rest]
        )

        def take(rows: np.ndarray) -> Examples:
            return Examples(examples.inputs[rows], labels[rows])

        return take(train), take(valid), take(test)
