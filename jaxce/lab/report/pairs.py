"""What features say of pairs of examples: which two are taken for one class, and which are not."""

import numpy as np
from jaxtyping import Float, Int

from jaxce.lab.metrics import all_pairs, verification_curve

MOST_COMPARED = 1500  # examples; more than a million pairs draw the same curve


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
    pairs = all_pairs(features[chosen], labels[chosen])
    found: list[int] = []
    for same, order in ((False, np.argsort(-pairs.cosines)), (True, np.argsort(pairs.cosines))):
        taken: set[int] = set()
        for pair in order[pairs.same[order] == same]:
            both = int(chosen[pairs.first[pair]]), int(chosen[pairs.second[pair]])
            if len(taken) < 2 * count and taken.isdisjoint(both):
                taken.update(both)
                found += both
    return np.array(found, int)


def of_each_class(
    features: Float[np.ndarray, "examples width"], labels: Int[np.ndarray, "examples"]
) -> dict[int, dict[str, float]]:
    """How well each class is verified, by the pairs with at least one example of it.

    Returns:
        For each class that two examples or more have, where there are others: mean cosine of its examples with
        each other and with all others, area under the ROC curve, equal error rate, number of examples compared.
    """
    pairs = all_pairs(features, labels)
    first, second = labels[pairs.first], labels[pairs.second]
    rows = {}
    for label in np.unique(labels):
        with_it = (first == label) | (second == label)
        cosines, same = pairs.cosines[with_it], pairs.same[with_it]
        if same.any() and not same.all():
            curve = verification_curve(cosines, same)
            rows[int(label)] = {
                "cosine with each other": float(cosines[same].mean()),
                "cosine with others": float(cosines[~same].mean()),
                "ROC area": curve.area,
                "equal error rate": curve.equal_error_rate,
                "examples": int((labels == label).sum()),
            }
    return rows
