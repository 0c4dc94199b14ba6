"""How good outputs are, by what the labels are: scikit-learn's metrics, outside the compiled step."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

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
    from sklearn.metrics import roc_auc_score, roc_curve

    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)
    first, second = np.triu_indices(len(labels), 1)
    cosines = (directions @ directions.T)[first, second]
    same = labels[first] == labels[second]
    accepted_wrongly, accepted_rightly, _ = roc_curve(same, cosines, drop_intermediate=False)
    refused_wrongly = 1 - accepted_rightly
    # One falls and the other rises along the curve: at their crossing they differ least.
    crossing = np.abs(accepted_wrongly - refused_wrongly).argmin()
    return {
        "verification_auc": float(roc_auc_score(same, cosines)),
        "equal_error_rate": float((accepted_wrongly[crossing] + refused_wrongly[crossing]) / 2),
    }


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
