"""Several classes an example, in their order: a softmax at each position, or a sigmoid for each class there."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

import jaxce
from jaxce import LOSSES
from jaxce.lab.config import Config
from jaxce.lab.data import Dataset
from jaxce.lab.metrics import Metric
from jaxce.lab.tasks.classes import ClassTask
from jaxce.lab.tasks.task import ACCURACY, CROSS_ENTROPY, Hyperparams, Predictions

DIGIT_ACCURACY = Metric("digit_accuracy", "digit accuracy", "%", fraction_of="positions")


@dataclass(frozen=True)
class SequenceTask(ClassTask):
    """One class at each of `length` positions, and outputs for each class at each position.

    Attributes:
        length: Positions.
        joint: One softmax over all outputs, towards equal shares for the classes that are right, in place of a
            loss for each position.
    """

    length: int = 1
    joint: bool = False

    kind = "sequence"
    reported: ClassVar[tuple[Metric, ...]] = (ACCURACY, DIGIT_ACCURACY, CROSS_ENTROPY)

    @classmethod
    def of_data(cls, config: Config, dataset: Dataset, mesh: Mesh | None) -> Self:
        """The task of a config and its data."""
        return cls(config.loss, len(dataset.classes), dataset.train.labels.shape[1], config.joint_softmax)

    @classmethod
    def of_predictions(cls, loss: str, found: Predictions) -> Self:
        """The task that predictions came from."""
        return cls(loss, len(found.classes), found.labels.shape[1])

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have for each example."""
        return self.length * self.num_classes

    def losses(self, outputs: Array, labels: Any, hyperparams: Hyperparams) -> Float[Array, "batch"]:
        """One loss per example; positions' losses add up."""
        by_position = self.by_position(outputs)
        if LOSSES[self.loss].labels == "integer":
            return self.values(by_position, labels, hyperparams)
        targets = jax.nn.one_hot(labels, self.num_classes, dtype=outputs.dtype)
        if self.joint:
            return self.values(outputs, targets.reshape(outputs.shape) / self.length, hyperparams)
        return self.values(by_position, targets, hyperparams)

    def by_position(self, outputs: Any) -> Any:
        """Outputs [batch, length, classes]."""
        return outputs.reshape(-1, self.length, self.num_classes)

    def predict(self, outputs: Any) -> Any:
        """The class of the largest output at each position."""
        return self.by_position(outputs).argmax(-1)

    def means(self, outputs: Array, labels: Any) -> dict[str, Float[Array, ""]]:
        """Accuracy, of whole sequences and of positions."""
        right = self.predict(outputs) == labels
        return {"accuracy": right.all(-1).mean(), "digit_accuracy": right.mean()}

    def cross_entropies(self, outputs: Array, labels: Any) -> Float[Array, "batch"]:
        """−log p of the whole sequence, with a softmax at each position whatever the loss."""
        return jaxce.softmax_cross_entropy_with_integer_labels(self.by_position(outputs), labels).sum(-1)

    def probs(self, outputs: np.ndarray) -> Float[np.ndarray, "examples positions classes"]:
        """Probability of each class at each position."""
        function = jax.nn.sigmoid if self.is_binary else jax.nn.softmax
        return np.asarray(function(self.by_position(outputs)))
