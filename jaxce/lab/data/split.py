"""The one place where examples are divided into train, valid and test."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxce.lab.data.examples import Examples, Part, Stream, has_classes, take
from jaxce.lab.errors import ConfigError


@dataclass(frozen=True)
class Dataset:
    """Three disjoint parts, and what their labels are.

    Attributes:
        train: What is trained on; a stream where it is too large for a device.
        valid: What settings are chosen by.
        test: What the final numbers are of.
        classes: The names of the classes in the labels' order; none where labels are numbers.
        labels: What one example's label is, a key of jaxce.lab.tasks.TASKS: its `class`, int [N]; a `sequence`
            of classes, int [N, length]; the `set` of classes that are there, 0 or 1 [N, classes]; or a real
            `number`, float [N].
        unseen: Names of further classes, numbered on from `classes`, that only valid and test have examples
            of: a network cannot name them, but it can tell whether two examples are of the same.
    """

    train: Examples | Stream
    valid: Examples
    test: Examples
    classes: tuple[str, ...]
    labels: str = "class"
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """How to divide: fractions of all examples, and the seed of the drawing."""

    valid_fraction: float
    test_fraction: float
    seed: int

    def divide(self, examples: Part) -> tuple[Part, Part, Part]:
        """Train, valid and test: a partition; where labels are classes, each part has their proportions.

        The labels of a stream are not known: its parts have them by the law of large numbers.

        The test part is drawn first and depends on nothing but the seed and its own fraction, so that
        runs which differ in `valid_fraction` still answer the same test.

        Raises:
            ConfigError: A part would be empty, or too small to hold every class.
        """
        total = len(examples.labels)
        num_valid, num_test = (round(f * total) for f in (self.valid_fraction, self.test_fraction))
        counts = {"valid": num_valid, "test": num_test, "train": total - num_valid - num_test}
        given = f"valid_fraction = {self.valid_fraction} and test_fraction = {self.test_fraction} leave"
        check_counts(counts, examples, given)
        rest, test = self._drawn(examples, num_test)
        train, valid = self._drawn(rest, num_valid)
        return train, valid, test

    def hold_out(self, examples: Part, part: Literal["valid", "test"]) -> tuple[Part, Part]:
        """Train, and the part that a data set does not come with: each example is in one of the two.

        Raises:
            ConfigError: A part would be empty, or too small to hold every class.
        """
        fraction = getattr(self, f"{part}_fraction")
        count = round(fraction * len(examples.labels))
        counts = {part: count, "train": len(examples.labels) - count}
        check_counts(counts, examples, f"{part}_fraction = {fraction} leaves")
        return self._drawn(examples, count)

    def _drawn(self, examples: Part, count: int) -> tuple[Part, Part]:
        """The rest, and `count` examples."""
        from sklearn.model_selection import train_test_split  # a second to import: not before it is needed

        rest, drawn = train_test_split(
            np.arange(len(examples.labels)),
            test_size=count,
            random_state=self.seed,
            stratify=examples.labels if has_classes(examples) else None,
        )
        return take(examples, rest), take(examples, drawn)


def check_counts(counts: Mapping[str, int], examples: Examples | Stream, given: str) -> None:
    """Raise ConfigError when a part would have too few examples."""
    needed, why = 1, "which needs one"
    if isinstance(examples, Examples) and has_classes(examples):
        needed = len(np.unique(examples.labels))
        why = f"too few for one of each of {needed} classes"
    for part, count in counts.items():
        if count < needed:
            raise ConfigError(f"{given} {count} of {len(examples.labels)} examples for {part}, {why}")
