"""Pairs of examples, compared by their features: are the two of one class?"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxce.lab import charts
from jaxce.lab.charts import Example, Figure, Gallery, Sections, Table, in_hundredths
from jaxce.lab.tasks.task import MOST_CLASSES, Predictions

MOST_COMPARED = 1500  # examples; more than a million pairs draw the same curve
MOST_NAMED = 20  # classes in a caption


@dataclass(frozen=True)
class Verification:
    """Pairs sorted by whether their cosine reaches a threshold, for every threshold.

    Attributes:
        cosines: Of the angles between the features of pairs.
        same: Whether a pair has the same class; of some pairs, but not of all.
    """

    cosines: Float[np.ndarray, "pairs"]
    same: Bool[np.ndarray, "pairs"]

    @cached_property
    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """False and true positive rates, and their thresholds: the ROC curve."""
        from sklearn.metrics import roc_curve

        return roc_curve(self.same, self.cosines, drop_intermediate=False)

    @property
    def area(self) -> float:
        """Area under the ROC curve: the chance that a pair of one class has a larger cosine than one of two."""
        from sklearn.metrics import auc

        return float(auc(*self.curve[:2]))

    @property
    def equal_errors(self) -> tuple[float, float]:
        """The rate at which equal shares of both sorts of pairs are taken for the other, and its threshold."""
        false_positive, true_positive, thresholds = self.curve
        false_negative = 1 - true_positive
        # One falls and the other rises along the curve: at their crossing they differ least.
        crossing = np.abs(false_positive - false_negative).argmin()
        rate = (false_positive[crossing] + false_negative[crossing]) / 2
        return float(rate), float(thresholds[crossing])


def all_pairs(
    features: Float[np.ndarray, "examples width"], labels: Int[np.ndarray, "examples"]
) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"], Verification]:
    """Every two examples: their numbers, cosines and whether they have the same class.

    Features of length zero have the cosine 0 with all others.

    >>> pairs = all_pairs(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), np.array([0, 0, 1, 1]))
    >>> pairs[2].area, pairs[2].equal_errors[0]
    (1.0, 0.0)
    """
    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)
    first, second = np.triu_indices(len(labels), 1)
    cosines = (directions @ directions.T)[first, second]
    return first, second, Verification(cosines, labels[first] == labels[second])


def compared(count: int) -> Int[np.ndarray, "compared"]:
    """The examples that are compared, each with each: all, or so many at even distances.

    >>> compared(3), len(compared(70_000))
    (array([0, 1, 2]), 1500)
    """
    return np.linspace(0, count - 1, min(count, MOST_COMPARED)).round().astype(int)


def hardest_pairs(
    features: Float[np.ndarray, "examples width"], labels: Int[np.ndarray, "examples"], count: int
) -> Int[np.ndarray, "shown"]:
    """Examples in pairs, one after the other: `count` most alike of two classes, as many least alike of one.

    An example is in one pair of each sort at most, as one outlier would be in all of them.

    >>> features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.8, 0.6]])
    >>> hardest_pairs(features, np.array([0, 0, 1, 1]), 1)
    array([1, 3, 2, 3])
    """
    chosen = compared(len(labels))
    first, second, pairs = all_pairs(features[chosen], labels[chosen])
    found: list[int] = []
    for same, order in ((False, np.argsort(-pairs.cosines)), (True, np.argsort(pairs.cosines))):
        taken: set[int] = set()
        for pair in order[pairs.same[order] == same]:
            both = int(chosen[first[pair]]), int(chosen[second[pair]])
            if len(taken) < 2 * count and taken.isdisjoint(both):
                taken.update(both)
                found += both
    return np.array(found, int)


def sections_of_pairs(found: Predictions) -> Sections:
    """The ROC curve, cosines, the hardest pairs, and each class; nothing where all pairs are of one sort."""
    chosen = compared(len(found.labels))
    labels = found.labels[chosen]
    first, second, pairs = all_pairs(found.outputs[chosen], labels)
    if not pairs.same.any() or pairs.same.all():
        return Sections()
    return Sections(
        figures=figures_of_pairs(found, pairs),
        galleries=galleries_of_pairs(found),
        classes=table_of_pairs(found.classes, pairs, labels[first], labels[second])
        if len(found.classes) <= MOST_CLASSES
        else None,
    )


def figures_of_pairs(found: Predictions, pairs: Verification) -> list[Figure]:
    """The ROC curve of verification, and the cosines of both sorts of pairs."""
    rate, threshold = pairs.equal_errors
    error = f"{100 * rate:.3g} %"
    one, two = pairs.cosines[pairs.same], pairs.cosines[~pairs.same]
    labels = np.unique(found.labels)
    names = ", ".join(found.classes[label] for label in labels[:MOST_NAMED])
    names += f" and {len(labels) - MOST_NAMED:,} more" if len(labels) > MOST_NAMED else ""
    count = f"{len(one):,} pairs of one class and {len(two):,} of two, of the classes {names}"
    return [
        Figure(
            f"Verification: area {pairs.area:.3f}",
            charts.verification(*pairs.curve[:2], rate),
            f"ROC curve of verification with area {pairs.area:.4g} and equal error rate {error}.",
            f"Are two examples of one class? By the cosine of their features; {count}.",
        ),
        Figure(
            "Cosines of pairs",
            charts.cosines(one, two, threshold),
            f"Histograms of the cosines of pairs of one class, mean {one.mean():.3f}, and of two, "
            f"mean {two.mean():.3f}.",
            f"Separated at the dashed line, {threshold:.3f}, {error} of either are taken for the other.",
        ),
    ]


def galleries_of_pairs(found: Predictions) -> list[Gallery]:
    """The pairs that look most as they should not, with their images."""
    assert found.shown is not None
    inputs = dict(zip(found.shown.tolist(), found.inputs, strict=True))
    alike: list[Example] = []
    unlike: list[Example] = []
    for both in found.shown.reshape(-1, 2).tolist():
        names = [found.classes[found.labels[i]] for i in both]
        _, _, pair = all_pairs(found.outputs[both], found.labels[both])
        cosine = f"cosine {pair.cosines[0]:.3f}"
        images = []
        for i, name in zip(both, names, strict=True):
            alt = f"Test example {i} of class {name}, of a pair with {cosine}."
            images += charts.pictures(inputs[i], alt)
        true, number = " and ".join(dict.fromkeys(names)), "no. {} and {}".format(*both)
        (unlike if pair.same[0] else alike).append(Example(images, cosine, "", true, not pair.same[0], number))
    return [
        Gallery("Two classes, most alike", "The pairs of two classes with the largest cosines.", alike),
        Gallery("One class, least alike", "The pairs of one class with the smallest cosines.", unlike),
    ]


def table_of_pairs(
    classes: tuple[str, ...],
    pairs: Verification,
    first: Int[np.ndarray, "pairs"],
    second: Int[np.ndarray, "pairs"],
) -> Table:
    """How well each class is verified, by the pairs with at least one example of it; `first` and `second` are
    the labels of pairs. A class has a row where two examples or more have it, and others have not.
    """
    rows = []
    for label in np.union1d(first, second):
        with_it = (first == label) | (second == label)
        own = Verification(pairs.cosines[with_it], pairs.same[with_it])
        if own.same.any() and not own.same.all():
            means = own.cosines[own.same].mean(), own.cosines[~own.same].mean()
            values = map(in_hundredths, (*means, own.area, own.equal_errors[0]))
            # Of n examples, each of one class with each other: n(n − 1)/2 pairs.
            count = int((1 + np.sqrt(1 + 8 * own.same.sum())) / 2)
            rows.append([classes[label], *values, f"{count:,}"])
    return Table(
        ["class", "cosine with each other", "cosine with others", "ROC area", "equal error rate", "examples"],
        rows,
        "Of pairs with an example of the class. Its features gather where the first cosine is near 1.",
    )
