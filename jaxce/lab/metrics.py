"""What a metric is, and those of classes, sets and numbers that need all predictions side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# scikit-learn takes a second to import, so each function imports it when it runs.


@dataclass(frozen=True)
class Metric:
    """A number that says how good outputs are.

    Attributes:
        name: In metrics.jsonl and summary.json, behind the part's name.
        words: In a sentence.
        unit: `%` for a fraction, shown as percent; `nats`; or none.
        larger_is_better: Which way is better.
        fraction_of: What a fraction counts.

    >>> Metric("error_rate", "error rate", "%", larger_is_better=False).show(0.025)
    '2.5 %'
    """

    name: str
    words: str
    unit: Literal["%", "nats", ""] = ""
    larger_is_better: bool = True
    fraction_of: str = "examples"

    def show(self, value: float | None) -> str:
        """A value with its unit; a dash where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        return f"{100 * value:.4g} %" if self.unit == "%" else f"{value:.4g} {self.unit}".strip()

    @property
    def title(self) -> str:
        """The words with a capital, unless the first has its own, as mAP."""
        first, _, _ = self.words.partition(" ")
        return self.words[0].upper() + self.words[1:] if first.islower() else self.words

    @property
    def axis(self) -> str:
        """What an axis of values counts."""
        return f"of {self.fraction_of}" if self.unit == "%" else self.unit or self.words


def number(value: np.ndarray) -> float:
    """A float32 with as many digits as it has: 0.997, where `float` alone would give 0.996999979019165."""
    return float(str(value))


def of_each_class(
    predictions: Int[np.ndarray, "examples *classes"],
    labels: Int[np.ndarray, "examples *classes"],
    classes: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of examples of each class; of class numbers, or of sets as 0 and 1.

    >>> of_each_class(np.array([0, 1, 1]), np.array([0, 1, 0]), ["cat", "dog"])["dog"]
    {'precision': 0.5, 'recall': 1.0, 'f1-score': 0.6666666666666666, 'support': 1.0}
    """
    from sklearn.metrics import classification_report

    numbers = range(len(classes))
    found = classification_report(labels, predictions, labels=numbers, zero_division=0.0, output_dict=True)
    return {classes[i]: found[str(i)] for i in numbers}


def ranking_of_each_class(
    scores: Float[np.ndarray, "examples classes"], labels: Int[np.ndarray, "examples classes"]
) -> tuple[Float[np.ndarray, "classes"], Float[np.ndarray, "classes"]]:
    """Average precision and area under the ROC curve of each class; NaN where every example has it, or none.

    >>> ranking_of_each_class(np.array([[0.1, 1], [0.4, 1], [0.9, 1]]), np.array([[0, 0], [1, 0], [1, 0]]))
    (array([ 1., nan]), array([ 1., nan]))
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    ranked = (labels.min(0) == 0) & (labels.max(0) == 1)
    found = np.full((2, len(ranked)), np.nan)
    if ranked.any():
        for row, score in zip(found, (average_precision_score, roc_auc_score), strict=True):
            row[ranked] = score(labels[:, ranked], scores[:, ranked], average=None)
    return found[0], found[1]


class Reliability(NamedTuple):
    """Predictions sorted into bins of equal width by their probability; empty bins are left out.

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

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean distance of confidence from accuracy, weighted by the bins' sizes.

        Zero where predictions made with 80 % are right in 80 % of cases, and so on.
        """
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.sizes))


def reliability(
    confidence: Float[np.ndarray, "predictions"], right: Bool[np.ndarray, "predictions"], bins: int = 10
) -> Reliability:
    """What a reliability diagram shows: how often predictions were right, by their probability.

    scikit-learn's `calibration_curve` has the same bins, but does not say how many predictions each holds.

    Args:
        confidence: Probability of what was predicted.
        right: Whether it was so.
        bins: Bins of equal width over [0, 1], each without its lower edge, the first with it.

    Source:
        Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, section 2.

    >>> reliability(np.array([0.9, 0.8, 0.3]), np.array([True, False, False]), bins=2).accuracy
    array([0. , 0.5])
    >>> round(reliability(np.array([0.9, 0.9]), np.array([True, False])).expected_error, 4)
    0.4
    """
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    sizes = np.bincount(which, minlength=bins)
    full = sizes > 0
    given, found = (
        np.bincount(which, each, minlength=bins)[full] / sizes[full] for each in (confidence, right)
    )
    return Reliability(given, found, sizes[full], (np.flatnonzero(full) + 0.5) / bins)
