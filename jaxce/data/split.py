"""The one place where examples are divided into train, valid and test."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxce.errors import ConfigError

LabelKind = Literal["class", "sequence", "set", "number"]


class Examples(NamedTuple):
    """Inputs and the labels that belong to them, row by row."""

    inputs: Float[Array | np.ndarray, "examples *shape"]
    labels: Shaped[Array | np.ndarray, "examples *label_shape"]


@dataclass(frozen=True)
class Dataset:
    """A task: three disjoint parts, and what their labels mean.

    Attributes:
        train: What is trained on.
        valid: What settings are chosen by.
        test: What the final numbers are of.
        classes: The names of the classes in the labels' order; none where labels are numbers.
        labels: What one example's label is: its `class`, int [N]; a `sequence` of classes, int [N, length];
            the `set` of classes that are there, 0 or 1 [N, classes]; or a real `number`, float [N].
        unseen: Names of further classes, numbered on from `classes`, that only valid and test have examples
            of: a network cannot name them, but it can tell whether two examples are of the same.
    """

    train: Examples
    valid: Examples
    test: Examples
    classes: tuple[str, ...]
    labels: LabelKind = "class"
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """How to divide: fractions of all examples, and the seed of the drawing."""

    valid_fraction: float
    test_fraction: float
    seed: int

    def divide(self, examples: Examples) -> tuple[Examples, Examples, Examples]:
        """Train, valid and test: a partition; where labels are classes, each part has their proportions.

        The test part is drawn first and depends on nothing but the seed and its own fraction, so that
        runs which differ in `valid_fraction` still answer the same test.

        Raises:
            ConfigError: A part would be empty, or too small to hold every class.
        """
        from sklearn.model_selection import train_test_split  # a second to import: not before it is needed

        labels = np.asarray(examples.labels)
        has_classes = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
        needed = len(np.unique(labels)) if has_classes else 1
        num_valid, num_test = (round(f * len(labels)) for f in (self.valid_fraction, self.test_fraction))
        for part, count in (
            ("valid", num_valid),
            ("test", num_test),
            ("train", len(labels) - num_valid - num_test),
        ):
            if count < needed:
                raise ConfigError(
                    f"valid_fraction = {self.valid_fraction} and test_fraction = {self.test_fraction} leave "
                    f"{count} of {len(labels)} examples for {part}, "
                    + (f"too few for one of each of {needed} classes" if has_classes else "which needs one")
                )
        strata = labels if has_classes else None
        rest, test = train_test_split(
            np.arange(len(labels)), test_size=num_test, random_state=self.seed, stratify=strata
        )
        train, valid = train_test_split(
            rest, test_size=num_valid, random_state=self.seed, stratify=None if strata is None else strata[rest]
        )

        def take(rows: np.ndarray) -> Examples:
            return Examples(examples.inputs[rows], examples.labels[rows])

        return take(train), take(valid), take(test)
