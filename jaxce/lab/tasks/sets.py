"""Any number of classes an example: a sigmoid for each."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import jaxce
from jaxce.lab import charts
from jaxce.lab.charts import Figure, Sections
from jaxce.lab.metrics import Metric, Reliability, of_each_class, ranking_of_each_class, reliability
from jaxce.lab.tasks.classes import ClassTask, sections_of_classes
from jaxce.lab.tasks.task import ACCURACY, CROSS_ENTROPY, Hyperparams, Predictions

MEAN_AVERAGE_PRECISION = Metric("mAP", "mAP")


@dataclass(frozen=True)
class SetTask(ClassTask):
    """Any number of classes an example, one output each: `accuracy` is of sets with every class right."""

    kind = "set"
    losses_of: ClassVar[tuple[str, ...]] = ("binary",)
    reported: ClassVar[tuple[Metric, ...]] = (
        ACCURACY,
        CROSS_ENTROPY,
        MEAN_AVERAGE_PRECISION,
        Metric("roc_auc", "ROC AUC"),
        Metric("f1", "F1"),
    )

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have for each example."""
        return self.num_classes

    @property
    def headline(self) -> Metric:
        """Mean average precision."""
        return MEAN_AVERAGE_PRECISION

    def losses(self, outputs: Array, labels: Any, hyperparams: Hyperparams) -> Float[Array, "batch"]:
        """One loss per example; classes' losses add up."""
        return self.values(outputs, jnp.asarray(labels, outputs.dtype), hyperparams)

    def predict(self, outputs: Any) -> Any:
        """1 for each class whose output is positive, its probability above one half."""
        return (outputs > 0).astype(jnp.int32)

    def means(self, outputs: Array, labels: Any) -> dict[str, Float[Array, ""]]:
        """Accuracy of whole sets."""
        return {"accuracy": (self.predict(outputs) == labels).all(-1).mean()}

    def cross_entropies(self, outputs: Array, labels: Any) -> Float[Array, "batch"]:
        """−log p of the whole set: the binary cross-entropies of all classes, added up."""
        return jaxce.sigmoid_binary_cross_entropy(outputs, jnp.asarray(labels, outputs.dtype)).sum(-1)

    def scores_of_all(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """mAP, ROC AUC and F1, each the mean over classes; for F1 a class is found where its output is above 0.

        A class that every example has, or none, cannot be ranked: it is left out of mAP and ROC AUC.
        """
        from sklearn.metrics import f1_score

        precision, area = ranking_of_each_class(outputs, labels)
        ranked = not np.isnan(area).all()
        return {
            "mAP": float(np.nanmean(precision)) if ranked else math.nan,
            "roc_auc": float(np.nanmean(area)) if ranked else math.nan,
            "f1": float(f1_score(labels, outputs > 0, average="macro", zero_division=0.0)),
        }

    def probs(self, outputs: np.ndarray) -> Float[np.ndarray, "examples classes 1"]:
        """Probability that each class is there."""
        return np.asarray(jax.nn.sigmoid(outputs))[..., None]

    def confidence(self, outputs: np.ndarray) -> Float[np.ndarray, "examples"]:
        """Probability of an example's whole set, as if its classes were independent."""
        probs = self.probs(outputs)[..., 0]
        return np.maximum(probs, 1 - probs).prod(-1)

    def calibration(self, found: Predictions) -> Reliability:
        """How often a class was there, by its probability."""
        return reliability(self.probs(found.outputs).ravel(), found.labels.ravel() == 1)

    def name(self, label: np.ndarray, classes: tuple[str, ...]) -> str:
        """The classes of a set."""
        return ", ".join(classes[i] for i in np.flatnonzero(label)) or "none"

    def sections(self, found: Predictions) -> Sections:
        """Mistakes, ROC curves, calibration, and ranking, precision and recall of each class."""
        rows = of_each_class(np.asarray(self.predict(found.outputs)), found.labels, found.classes)
        ranking = ranking_of_each_class(found.outputs, found.labels)
        for row, precision, area in zip(list(rows), *ranking, strict=True):
            rows[row] = {"average_precision": precision, "roc_auc": area} | rows[row]
        return sections_of_classes(self, found, roc_figure(found, ranking[1]), rows)


def roc_figure(found: Predictions, areas: Float[np.ndarray, "classes"]) -> list[Figure]:
    """ROC curves of the classes that can be ranked."""
    from sklearn.metrics import roc_curve

    if np.isnan(areas).all():
        return []
    lines = {
        found.classes[i]: roc_curve(found.labels[:, i], found.outputs[:, i])[:2]
        for i in np.flatnonzero(~np.isnan(areas))
    }
    worst, area = found.classes[np.nanargmin(areas)], np.nanmin(areas)
    alt = f"ROC curves of {len(lines)} classes; the worst is {worst}, with area {area:.3f}."
    return [
        Figure("ROC curves", charts.roc_curves(lines, worst), alt, f"Area of the worst, {worst}: {area:.3f}.")
    ]
