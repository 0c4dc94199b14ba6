"""What every task has: a loss on a network's outputs, metrics, and what a report says of its predictions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from jaxce import LOSSES
from jaxce.lab.charts import Sections
from jaxce.lab.config import LOSS_OPTIONS, Config
from jaxce.lab.data import Dataset
from jaxce.lab.errors import ConfigError
from jaxce.lab.metrics import Metric, number

Hyperparams = Mapping[str, Float[Array, ""] | float]

Outputs = Float[Array, "batch outputs"]
Labels = Shaped[Array | np.ndarray, "batch *label_shape"]
Params = Mapping[str, Any]
Key = PRNGKeyArray | None
Means = dict[str, Float[Array, ""]]

ACCURACY = Metric("accuracy", "accuracy", "%")
CROSS_ENTROPY = Metric("cross_entropy", "cross-entropy", "nats", larger_is_better=False)

MOST_CLASSES = 50  # more make neither a legible matrix nor a table that is read

# Losses that are no mean of −log p, nor of a weighted form of it.
NOT_IN_NATS = ("squared_error", "brier_score", "classification_error")


def loss_metric(loss: str) -> Metric:
    """The objective as a metric: the loss, with its smoothing, margin and whatever else it has."""
    return Metric("loss", "loss", "" if loss in NOT_IN_NATS else "nats", larger_is_better=False)


class Predictions(NamedTuple):
    """Outputs for a part, and what they should have been.

    Attributes:
        outputs: What the network gave, [N, outputs].
        labels: A class [N] or several [N, K]; 0 or 1 for each class [N, C]; or a real number [N].
        classes: Names of the classes, in the labels' order; none where labels are numbers.
        inputs: Inputs of all examples, or of those in `shown`.
        shown: Examples to show; None before they are chosen.
    """

    outputs: Float[np.ndarray, "examples outputs"]
    labels: Shaped[np.ndarray, "examples *label_shape"]
    classes: tuple[str, ...]
    inputs: Shaped[np.ndarray, "shown *shape"]
    shown: Int[np.ndarray, "shown"] | None = None


@dataclass(frozen=True)
class Task(ABC):
    """What a network's outputs mean: a loss of `jaxce.LOSSES` on them, predictions, and how good they are.

    A subclass is one kind of task, and is listed in TASKS. What a kind does not override, it does not have.

    Attributes:
        loss: Name of the loss.
        num_classes: Classes that training knows.
    """

    loss: str
    num_classes: int

    kind: ClassVar[str]
    """Name in Dataset.labels and in predictions.npz."""
    losses_of: ClassVar[tuple[str, ...]]
    """Which losses fit, by the labels that they take."""
    reported: ClassVar[tuple[Metric, ...]] = ()
    """Metrics beside the loss."""

    @classmethod
    def of_data(cls, config: Config, dataset: Dataset, mesh: Mesh | None) -> Self:
        """The task of a config and its data, on a mesh with the axes `batch` and `classes`, or on one device.

        Raises:
            ConfigError: A setting does not fit the labels.
        """
        if config.joint_softmax:
            raise ConfigError(f"joint_softmax is for several labels an example; data {config.data} has one")
        return cls(config.loss, len(dataset.classes))

    @classmethod
    def of_predictions(cls, loss: str, found: Predictions) -> Self:
        """The task that predictions came from, as far as it is needed to read them."""
        return cls(loss, len(found.classes))

    # For training: pure functions.

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have for each example."""
        return self.num_classes

    def init(self, key: PRNGKeyArray) -> dict[str, Any]:
        """Parameters beside the network's; `measure` gets them back."""
        return {}

    def values(self, outputs: Array, targets: Any, hyperparams: Hyperparams) -> Float[Array, "batch"]:
        """The values of the loss, added up over the outputs of an example."""
        options = {name: value for name, value in hyperparams.items() if name in LOSS_OPTIONS}
        return LOSSES[self.loss].value(outputs, targets, **options).reshape(len(outputs), -1).sum(-1)

    @abstractmethod
    def measure(
        self, outputs: Outputs, labels: Labels, hyperparams: Hyperparams, params: Params, key: Key = None
    ) -> Means:
        """Mean `loss`, and further means over examples, for the compiled step.

        With a `key`, another one in each step, it is of a training step, and a loss may be that of a sample.
        Without, it is an evaluation, with `cross_entropy` where the outputs are logits.
        """

    # For evaluation: on NumPy arrays of a whole part.

    @property
    def has_probs(self) -> bool:
        """Whether outputs are logits, which give probabilities: not where the loss is of predicted numbers."""
        return LOSSES[self.loss].inputs == "logits"

    @property
    def metrics(self) -> dict[str, Metric]:
        """What `scores` can hold, by name."""
        return {metric.name: metric for metric in (loss_metric(self.loss), *self.reported)}

    @property
    def headline(self) -> Metric:
        """The metric to show while a run goes on, and to compare settings by."""
        return ACCURACY

    def scores(self, measured: Mapping[str, Any], labels: Any) -> dict[str, float]:
        """All metrics of a part, from what the compiled evaluation measured, its `outputs` among it."""
        means = {name: number(value) for name, value in measured.items() if name != "outputs"}
        return means | self.scores_of_all(measured["outputs"], np.asarray(labels))

    def scores_of_all(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Metrics that are no means over examples."""
        return {}

    # For the report.

    def keep(self, found: Predictions) -> Predictions:
        """What predictions.npz keeps."""
        return found

    def hardest(self, found: Predictions, count: int) -> Int[np.ndarray, "shown"]:
        """Numbers of about `count` examples to show."""
        return np.zeros(0, int)

    def sections(self, found: Predictions) -> Sections:
        """What the report shows."""
        return Sections()


class OutputTask(Task):
    """A task whose loss compares outputs and labels, example by example, with no parameters of its own."""

    @abstractmethod
    def losses(self, outputs: Array, labels: Any, hyperparams: Hyperparams) -> Float[Array, "batch"]:
        """One loss per example, with those `hyperparams` that are options of a loss; outputs' losses add up."""

    @abstractmethod
    def predict(self, outputs: Any) -> Any:
        """Predictions, in the form of the labels."""

    def means(self, outputs: Array, labels: Any) -> dict[str, Float[Array, ""]]:
        """Metrics that are means over examples, of training and of evaluation."""
        return {}

    def cross_entropies(self, outputs: Array, labels: Any) -> Float[Array, "batch"] | None:
        """−log p of each example's label in nats, without options of the loss; None where labels have no p."""
        return None

    def measure(
        self, outputs: Outputs, labels: Labels, hyperparams: Hyperparams, params: Params, key: Key = None
    ) -> Means:
        """The mean of `losses`, with `means`, and of `cross_entropies` where the outputs are logits."""
        found = {"loss": self.losses(outputs, labels, hyperparams).mean(), **self.means(outputs, labels)}
        entropies = self.cross_entropies(outputs, labels) if key is None and self.has_probs else None
        return found if entropies is None else found | {CROSS_ENTROPY.name: entropies.mean()}
