"""How good outputs are, beyond their loss: scikit-learn's metrics, pairs and calibration, not compiled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# scikit-learn takes a second to import, so each function imports it when it runs.


def of_numbers(
    predictions: Float[np.ndarray, "examples"], targets: Float[np.ndarray, "examples"]
) -> dict[str, float]:
    """R², the part of the targets' variance that the predictions explain, and RMSE, in the targets' unit.

    >>> of_numbers(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))["r2"]
    0.5
    """
    from sklearn.metrics import r2_score, root_mean_squared_error

    return {
        "r2": float(r2_score(targets, predictions)),
        "rmse": float(root_mean_squared_error(targets, predictions)),
    }


def of_sets(
    scores: Float[np.ndarray, "examples classes"], labels: Int[np.ndarray, "examples classes"]
) -> dict[str, float]:
    """mAP, ROC AUC and F1, each the mean over classes; for F1 a class is found where its score is above 0.

    A class that every example has, or none, has no ranking to judge: it is left out of mAP and ROC AUC.

    >>> of_sets(np.array([[1.0], [2.0], [-1.0]]), np.array([[1], [0], [0]]))
    {'mAP': 0.5, 'roc_auc': 0.5, 'f1': 0.6666666666666666}
    """
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    judged = (labels.min(0) == 0) & (labels.max(0) == 1)
    ranking = (labels[:, judged], scores[:, judged])
    some = bool(judged.any())
    return {
        "mAP": float(average_precision_score(*ranking)) if some else float("nan"),
        "roc_auc": float(roc_auc_score(*ranking)) if some else float("nan"),
        "f1": float(f1_score(labels, scores > 0, average="macro", zero_division=0.0)),
    }


class Pairs(NamedTuple):
    """Every two of some examples.

    Attributes:
        first: Number of one.
        second: Number of the other.
        cosines: Of the angle between their features.
        same: Whether they have the same class.
    """

    first: Int[np.ndarray, "pairs"]
    second: Int[np.ndarray, "pairs"]
    cosines: Float[np.ndarray, "pairs"]
    same: Bool[np.ndarray, "pairs"]


def all_pairs(features: Float[np.ndarray, "examples width"], labels: Int[np.ndarray, "examples"]) -> Pairs:
    """All pairs of examples; features of length zero have the cosine 0 with all others."""
    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)
    first, second = np.triu_indices(len(labels), 1)
    cosines = (directions @ directions.T)[first, second]
    return Pairs(first, second, cosines, labels[first] == labels[second])


def of_pairs(
    features: Float[np.ndarray, "examples width"], labels: Int[np.ndarray, "examples"]
) -> dict[str, float]:
    """Verification: do two examples have the same class? By the cosine of their features, over all pairs.

    Returns:
        `verification_auc`, the chance that a pair of one class has the larger cosine than a pair of two; and
        `equal_error_rate`, that of the threshold which refuses the same part of the first
        as it lets pass of the second.

    >>> of_pairs(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), np.array([0, 0, 1, 1]))
    {'verification_auc': 1.0, 'equal_error_rate': 0.0}
    """
    pairs = all_pairs(features, labels)
    curve = verification_curve(pairs.cosines, pairs.same)
    return {"verification_auc": curve.area, "equal_error_rate": curve.equal_error_rate}


class VerificationCurve(NamedTuple):
    """What becomes of pairs as the cosine from which they count as one class falls.

    Attributes:
        accepted_wrongly: Part of the pairs of two classes that count as one.
        accepted_rightly: Part of the pairs of one class that do.
        area: Under the second over the first.
        equal_error_rate: Of the threshold which refuses the same part of one as it accepts of the other.
        threshold: That threshold.
    """

    accepted_wrongly: Float[np.ndarray, "thresholds"]
    accepted_rightly: Float[np.ndarray, "thresholds"]
    area: float
    equal_error_rate: float
    threshold: float


def verification_curve(
    cosines: Float[np.ndarray, "pairs"], same: Bool[np.ndarray, "pairs"]
) -> VerificationCurve:
    """The ROC curve of pairs, of which some must have the same class and some not."""
    from sklearn.metrics import auc, roc_curve

    accepted_wrongly, accepted_rightly, thresholds = roc_curve(same, cosines, drop_intermediate=False)
    refused_wrongly = 1 - accepted_rightly
    # One falls and the other rises along the curve: at their crossing they differ least.
    crossing = np.abs(accepted_wrongly - refused_wrongly).argmin()
    return VerificationCurve(
        accepted_wrongly,
        accepted_rightly,
        float(auc(accepted_wrongly, accepted_rightly)),
        float((accepted_wrongly[crossing] + refused_wrongly[crossing]) / 2),
        float(thresholds[crossing]),
    )


def of_each_class(
    predictions: Int[np.ndarray, "examples *classes"],
    labels: Int[np.ndarray, "examples *classes"],
    classes: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of examples of each class; of class numbers, or of sets as 0 and 1.

    >>> of_each_class(np.array([0, 1, 1]), np.array([0, 1, 0]), ["cat", "dog"])["dog"]
    {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'support': 1}
    """
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        labels, predictions, labels=range(len(classes)), zero_division=0.0
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {
        name: dict(zip(("precision", "recall", "f1", "support"), row, strict=True))
        for name, row in zip(classes, rows, strict=True)
    }


def ranking_of_each_class(
    scores: Float[np.ndarray, "examples classes"],
    labels: Int[np.ndarray, "examples classes"],
    classes: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Average precision and area under the ROC curve of each class that some examples have and some lack.

    >>> ranking_of_each_class(np.array([[0.1], [0.4], [0.9]]), np.array([[0], [1], [1]]), ["cat"])
    {'cat': {'average_precision': 1.0, 'roc_auc': 1.0}}
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {
        name: {
            "average_precision": float(average_precision_score(of_class, score)),
            "roc_auc": float(roc_auc_score(of_class, score)),
        }
        for name, of_class, score in zip(classes, labels.T, scores.T, strict=True)
        if 0 < of_class.sum() < len(of_class)
    }


class Reliability(NamedTuple):
    """Predictions sorted into bins of equal width by how sure they were; empty bins are left out.

    Attributes:
        confidence: Mean probability given in each bin.
        accuracy: Fraction that was right in each bin.
        sizes: Predictions in each bin.
        middle: Middle of each bin.
    """

    confidence: Float[np.ndarray, "bins"]
    accuracy: Float[np.ndarray, "bins"]
    sizes: Int[np.ndarray, "bins"]
    middle: Float[np.ndarray, "bins"]


def reliability(
    confidence: Float[np.ndarray, "examples"], right: Bool[np.ndarray, "examples"], bins: int = 10
) -> Reliability:
    """What a reliability diagram shows: how often predictions were right, by how sure they were.

    Args:
        confidence: Probability of what was predicted.
        right: Whether it was so.
        bins: Bins of equal width over [0, 1], each without its lower edge, the first with it.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 2 (not read).

    >>> reliability(np.array([0.9, 0.8, 0.3]), np.array([True, False, False]), bins=2).accuracy
    array([0. , 0.5])
    """
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    sizes = np.bincount(which, minlength=bins)
    full = sizes > 0
    given, found = (
        np.bincount(which, each, minlength=bins)[full] / sizes[full] for each in (confidence, right)
    )
    return Reliability(given, found, sizes[full], (np.flatnonzero(full) + 0.5) / bins)


def expected_calibration_error(
    confidence: Float[np.ndarray, "examples"], right: Bool[np.ndarray, "examples"], bins: int = 10
) -> float:
    """Mean distance of confidence from accuracy over the bins of `reliability`, weighted by their sizes.

    Zero where predictions made with 80 % are right in 80 % of cases, and so on. Arguments as there.

    >>> round(expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False])), 4)
    0.4
    """
    found = reliability(confidence, right, bins)
    return float(np.average(np.abs(found.confidence - found.accuracy), weights=found.sizes))
