"""One class an example: softmax over the classes, or a sigmoid for each."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

import jaxce
from jaxce import LOSSES
from jaxce.lab import charts
from jaxce.lab.charts import Example, Figure, Gallery, Sections, Table, in_hundredths
from jaxce.lab.metrics import Metric, Reliability, of_each_class, reliability
from jaxce.lab.tasks.task import ACCURACY, CROSS_ENTROPY, MOST_CLASSES, Hyperparams, OutputTask, Predictions


@dataclass(frozen=True)
class ClassTask(OutputTask):
    """One of `num_classes` classes an example.

    A loss of binary labels sees one output for two classes, class 1 against class 0, and otherwise one output
    for each class, that class against all others.
    """

    kind = "class"
    losses_of: ClassVar[tuple[str, ...]] = ("integer", "distribution", "binary", "real")
    reported: ClassVar[tuple[Metric, ...]] = (ACCURACY, CROSS_ENTROPY)

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have for each example."""
        return 1 if self.is_binary and self.num_classes == 2 else self.num_classes

    @property
    def is_binary(self) -> bool:
        """Whether the loss asks of each output by itself."""
        return LOSSES[self.loss].labels == "binary"

    def losses(self, outputs: Array, labels: Any, hyperparams: Hyperparams) -> Float[Array, "batch"]:
        """One loss per example."""
        if LOSSES[self.loss].labels == "integer":
            return self.values(outputs, labels, hyperparams)
        if self.num_outputs == 1:
            return self.values(outputs, labels[:, None].astype(outputs.dtype), hyperparams)
        return self.values(outputs, jax.nn.one_hot(labels, self.num_classes, dtype=outputs.dtype), hyperparams)

    def predict(self, outputs: Any) -> Any:
        """The class of the largest output; of a single output, class 1 where it is positive."""
        return (outputs[:, 0] > 0).astype(jnp.int32) if self.num_outputs == 1 else outputs.argmax(-1)

    def means(self, outputs: Array, labels: Any) -> dict[str, Float[Array, ""]]:
        """Accuracy."""
        return {"accuracy": (self.predict(outputs) == labels).mean()}

    def cross_entropies(self, outputs: Array, labels: Any) -> Float[Array, "batch"]:
        """−log p of the label by softmax: of sigmoids, that is p given that one class alone is right."""
        if self.num_outputs == 1:
            return jaxce.sigmoid_binary_cross_entropy(outputs[:, 0], labels.astype(outputs.dtype))
        return jaxce.softmax_cross_entropy_with_integer_labels(outputs, labels)

    def probs(self, outputs: np.ndarray) -> Float[np.ndarray, "examples answers classes"]:
        """Probability of each class in each answer of an example, which has one, by the loss's own function."""
        outputs = outputs.reshape(len(outputs), -1, self.num_outputs)
        if not self.is_binary:
            return np.asarray(jax.nn.softmax(outputs))
        probs = np.asarray(jax.nn.sigmoid(outputs))
        return np.concatenate([1 - probs, probs], -1) if self.num_outputs == 1 else probs

    def confidence(self, outputs: np.ndarray) -> Float[np.ndarray, "examples"]:
        """Probability of an example's whole prediction, as if its answers were independent."""
        return self.probs(outputs).max(-1).prod(-1)

    def right(self, found: Predictions) -> Bool[np.ndarray, "examples"]:
        """Whether the whole of each example was predicted right."""
        hits = np.asarray(self.predict(found.outputs)) == found.labels
        return hits.reshape(len(hits), -1).all(-1)

    def calibration(self, found: Predictions) -> Reliability:
        """How often each answer was right, by its probability."""
        right = np.asarray(self.predict(found.outputs)) == found.labels
        return reliability(self.probs(found.outputs).max(-1).ravel(), right.ravel())

    def hardest(self, found: Predictions, count: int) -> Int[np.ndarray, "shown"]:
        """Mistakes, the most confident first, then right ones, the least confident first."""
        right, confidence = self.right(found), self.confidence(found.outputs)
        return np.lexsort((np.where(right, confidence, -confidence), right))[:count]

    def sections(self, found: Predictions) -> Sections:
        """Mistakes, confusions, calibration, and precision and recall of each class."""
        if len(found.classes) > MOST_CLASSES:
            return sections_of_classes(self, found, [], {})
        predicted = np.asarray(self.predict(found.outputs)).ravel()
        rows = of_each_class(predicted, found.labels.ravel(), found.classes)
        return sections_of_classes(self, found, [confusion_figure(self, found)], rows)

    def name(self, label: np.ndarray, classes: tuple[str, ...]) -> str:
        """A label in words: the class, or the classes in their order."""
        names = [classes[i] for i in np.atleast_1d(label)]
        return ("" if all(len(name) == 1 for name in classes) else " ").join(names)


def confusion_figure(task: ClassTask, found: Predictions) -> Figure:
    """Which classes are taken for which."""
    from sklearn.metrics import confusion_matrix

    size = len(found.classes)
    predicted = np.asarray(task.predict(found.outputs)).ravel()
    counts = confusion_matrix(found.labels.ravel(), predicted, labels=range(size))
    wrong = counts * ~np.eye(size, dtype=bool)
    alt = f"Confusion matrix of {size} classes: {counts.trace():,} of {counts.sum():,} right."
    caption = "Shade: share of the true class."
    if wrong.max() > 0:
        true, taken_for = np.unravel_index(np.argmax(wrong), wrong.shape)
        times = "once" if wrong.max() == 1 else f"{wrong.max()} times"
        worst = f"Most frequent mistake: {found.classes[true]} taken for {found.classes[taken_for]}, {times}."
        alt, caption = f"{alt} {worst}", f"{worst} {caption}"
    return Figure("Confusions", charts.confusion(counts, found.classes), alt, caption)


def sections_of_classes(
    task: ClassTask, found: Predictions, figures: list[Figure], rows: dict[str, dict[str, float]]
) -> Sections:
    """Sections with these charts, and these numbers of each class; galleries where there are probabilities."""
    right = task.right(found)
    numbers = [("mistakes", f"{(~right).sum():,} of {len(right):,}")]
    if not task.has_probs:
        return Sections(numbers, figures, classes=table_of_classes(rows))
    bins = task.calibration(found)
    error = f"{bins.expected_error:.3f}"
    diagram = Figure(
        f"Calibration: expected error {error}",
        charts.reliability_diagram(bins),
        f"Reliability diagram: fraction right against probability given; expected error {error}.",
        "Above the dashed line it is better than it says, below it worse. Ten bins; bars: 95 % intervals; "
        "n: predictions in the bin.",
    )
    numbers.append(("calibration error", error))
    return Sections(numbers, [*figures, diagram], gallery_of_mistakes(task, found), table_of_classes(rows))


def gallery_of_mistakes(task: ClassTask, found: Predictions) -> list[Gallery]:
    """The mistakes among the examples shown, and the right ones; a gallery of none is left out."""
    assert found.shown is not None
    predicted, right = np.asarray(task.predict(found.outputs)), task.right(found)
    confidence = task.confidence(found.outputs)
    examples = []
    for i, pixels in zip(found.shown.tolist(), found.inputs, strict=True):
        answer, true = (task.name(each[i], found.classes) for each in (predicted, found.labels))
        percent = f"{100 * confidence[i]:.3g} %"
        alt = f"Test example {i}, of class {true}, predicted {answer} with {percent}."
        what = "right" if right[i] else f"is {true}"
        images = charts.pictures(pixels, alt)
        examples.append(Example(images, answer, percent, what, not right[i], f"no. {i}"))
    wrong, total = [each for each in examples if each.is_wrong], int((~right).sum())
    counted = "the only one" if total == 1 else f"{len(wrong)} of {total:,}"
    both = (
        Gallery(
            "The most confident mistakes",
            f"The answer, its probability, and what is true; {counted}.",
            wrong,
        ),
        Gallery(
            "Right, but barely",
            "The right predictions with the lowest probability.",
            [each for each in examples if not each.is_wrong],
        ),
    )
    return [gallery for gallery in both if gallery.examples]


def table_of_classes(rows: dict[str, dict[str, float]]) -> Table | None:
    """A row of numbers for each class, and their means; None for no rows, or for more than are read."""
    if not 0 < len(rows) <= MOST_CLASSES:
        return None
    columns = list(next(iter(rows.values())))
    heads = {"f1-score": "F1", "roc_auc": "ROC area", "support": "examples"}
    cells = [
        [name, *(f"{row[c]:,.0f}" if c == "support" else in_hundredths(row[c]) for c in columns)]
        for name, row in rows.items()
    ]
    if len(rows) > 1:
        means = [float(np.nanmean([row[c] for row in rows.values()])) for c in columns[:-1]]
        total = sum(row["support"] for row in rows.values())
        cells.append(["mean", *map(in_hundredths, means), f"{total:,.0f}"])
    return Table(
        ["class", *(heads.get(c, c.replace("_", " ")) for c in columns)],
        cells,
        "Precision: of the predictions of a class, the share that is right. Recall: of its examples, the "
        "share that is found. F1: their harmonic mean.",
    )
