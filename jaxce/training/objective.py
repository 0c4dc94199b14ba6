"""What a network's outputs mean, by what the labels are: losses, predictions and how good they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

import jaxce
from jaxce import metrics
from jaxce.config import LOSS_OPTIONS, TRAINABLE_LOSSES, Config
from jaxce.data import Dataset, Examples, LabelKind
from jaxce.errors import ConfigError

Hyperparams = Mapping[str, Float[Array, ""] | float]

# Beside the hyperparams, while `margin_epochs` last: which part of a head's margin counts already, from 0 to 1.
MARGIN_SHARE = "margin_share"


@dataclass(frozen=True)
class Objective:
    """A loss of `jaxce.LOSSES` on examples that each belong to one of `num_classes` classes.

    A loss of binary labels sees one output for two classes, class 1 against class 0, and otherwise one
    output for each class, that class against all others. The other kinds of labels are subclasses.
    """

    loss: str
    num_classes: int

    headline = "accuracy"
    """The metric to show while a run goes on."""

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have."""
        return 1 if self._labels == "binary" and self.num_classes == 2 else self.num_classes

    @property
    def _labels(self) -> str:
        return jaxce.LOSSES[self.loss].labels

    def losses(
        self,
        outputs: Float[Array, "batch outputs"],
        labels: Shaped[Array | np.ndarray, "batch *label_shape"],
        hyperparams: Hyperparams,
    ) -> Float[Array, "batch"]:
        """One loss per example, with those `hyperparams` that are options of a loss; outputs' losses add up."""
        if self._labels == "integer":
            targets = labels
        elif self.num_outputs == 1:
            targets = labels[:, None].astype(outputs.dtype)
        else:
            targets = jax.nn.one_hot(labels, self.num_classes, dtype=outputs.dtype)
        return self._values(outputs, targets, hyperparams)

    def _values(
        self, outputs: Array, targets: Array | np.ndarray, hyperparams: Hyperparams
    ) -> Float[Array, "batch"]:
        options = {name: value for name, value in hyperparams.items() if name in LOSS_OPTIONS}
        values = jaxce.LOSSES[self.loss].value(outputs, targets, **options)
        return values.reshape(len(outputs), -1).sum(-1)

    def predict(self, outputs: Float[Array, "batch outputs"]) -> Int[Array, "batch *label_shape"]:
        """The label that the outputs speak for: of a single output, class 1 where it is positive."""
        if self.num_outputs == 1:
            return (outputs[:, 0] > 0).astype(jnp.int32)
        return outputs.argmax(-1)

    def init(self, key: PRNGKeyArray) -> dict[str, Any]:
        """Parameters of its own, beside the network's; `measure` gets them back."""
        return {}

    def measure(
        self,
        outputs: Float[Array, "batch outputs"],
        labels: Shaped[Array | np.ndarray, "batch *label_shape"],
        hyperparams: Hyperparams,
        params: Mapping[str, Any],
    ) -> dict[str, Float[Array, ""]]:
        """Mean `loss`, and further metrics that are means over examples; pure, for the compiled step."""
        return {"loss": self.losses(outputs, labels, hyperparams).mean(), **self._means(outputs, labels)}

    def _means(self, outputs: Array, labels: Array | np.ndarray) -> dict[str, Float[Array, ""]]:
        right = self.predict(outputs) == labels
        return {"accuracy": right.reshape(len(labels), -1).all(-1).mean()}

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Metrics that are no mean over examples; on the whole of a part, outside the compiled step."""
        return {}


@dataclass(frozen=True)
class SequenceObjective(Objective):
    """One class at each of `length` positions, and outputs for each class at each position.

    Attributes:
        joint: One softmax over all outputs, towards equal shares for the classes that are right, in place of
            a loss for each position.
    """

    length: int
    joint: bool = False

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have."""
        return self.length * self.num_classes

    def losses(
        self,
        outputs: Float[Array, "batch outputs"],
        labels: Int[Array | np.ndarray, "batch length"],
        hyperparams: Hyperparams,
    ) -> Float[Array, "batch"]:
        """One loss per example; positions' losses add up."""
        if self._labels == "integer":
            return self._values(self._by_position(outputs), labels, hyperparams)
        targets = jax.nn.one_hot(labels, self.num_classes, dtype=outputs.dtype)
        if self.joint:
            return self._values(outputs, targets.reshape(outputs.shape) / self.length, hyperparams)
        return self._values(self._by_position(outputs), targets, hyperparams)

    def _by_position(self, outputs: Array) -> Float[Array, "batch length classes"]:
        return outputs.reshape(-1, self.length, self.num_classes)

    def predict(self, outputs: Float[Array, "batch outputs"]) -> Int[Array, "batch length"]:
        """The class of the largest output at each position."""
        return self._by_position(outputs).argmax(-1)

    def _means(self, outputs: Array, labels: Array | np.ndarray) -> dict[str, Float[Array, ""]]:
        right = self.predict(outputs) == labels
        return {"accuracy": right.all(-1).mean(), "digit_accuracy": right.mean()}


@dataclass(frozen=True)
class SetObjective(Objective):
    """Any number of classes an example, one output each: `accuracy` is of sets with every class right."""

    headline = "mAP"

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have."""
        return self.num_classes

    def losses(
        self,
        outputs: Float[Array, "batch classes"],
        labels: Int[Array | np.ndarray, "batch classes"],
        hyperparams: Hyperparams,
    ) -> Float[Array, "batch"]:
        """One loss per example; classes' losses add up."""
        return self._values(outputs, jnp.asarray(labels, outputs.dtype), hyperparams)

    def predict(self, outputs: Float[Array, "batch classes"]) -> Int[Array, "batch classes"]:
        """1 for each class whose output is positive, its probability above one half."""
        return (outputs > 0).astype(jnp.int32)

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """mAP, ROC AUC and F1, means over the classes."""
        return metrics.of_sets(outputs, labels)


@dataclass(frozen=True)
class NumberObjective(Objective):
    """A real number an example, and one output."""

    headline = "r2"

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have."""
        return 1

    def losses(
        self,
        outputs: Float[Array, "batch 1"],
        labels: Float[Array | np.ndarray, "batch"],
        hyperparams: Hyperparams,
    ) -> Float[Array, "batch"]:
        """One loss per example."""
        return self._values(outputs, labels[:, None], hyperparams)

    def predict(self, outputs: Float[Array, "batch 1"]) -> Float[Array, "batch"]:
        """The output itself."""
        return outputs[:, 0]

    def _means(self, outputs: Array, labels: Array | np.ndarray) -> dict[str, Float[Array, ""]]:
        return {}

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """R² and RMSE."""
        return metrics.of_numbers(outputs[:, 0], labels)


@dataclass(frozen=True)
class EmbeddingObjective(Objective):
    """Features, compared by their cosines; in training a head turns them into logits of the classes seen.

    Attributes:
        width: Length of the features, which are the outputs.
        head: Margin head of `jaxce.LOSSES`; None for a linear layer.
        degree: The head's margin where it has to be a Python integer.
        has_unseen: Whether there are examples of classes that training has not, numbered from `num_classes` on.
            They count in no mean, and are what verification is measured on.
    """

    width: int
    head: str | None
    degree: int | None
    has_unseen: bool

    @property
    def headline(self) -> str:  # type: ignore[override]  # a constant elsewhere
        """The metric to show while a run goes on."""
        return "verification_auc" if self.has_unseen else "accuracy"

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have."""
        return self.width

    def init(self, key: PRNGKeyArray) -> dict[str, Any]:
        """A vector for each class."""
        shape = (self.width, self.num_classes)
        return {"head": {"kernel": jax.nn.initializers.lecun_normal()(key, shape)}}

    def measure(
        self,
        outputs: Float[Array, "batch width"],
        labels: Int[Array | np.ndarray, "batch"],
        hyperparams: Hyperparams,
        params: Mapping[str, Any],
    ) -> dict[str, Float[Array, ""]]:
        """Mean `loss`, and `accuracy` of the nearest class vector, margin left out; of the classes seen."""
        kernel = params["head"]["kernel"]
        is_seen = jnp.asarray(labels < self.num_classes, outputs.dtype)
        labels = jnp.where(is_seen > 0, labels, 0)
        logits = self._logits(outputs, kernel, labels, hyperparams)
        plain = outputs @ kernel if self.head is None else jaxce.normalized_cosines(outputs, kernel)
        right = (plain.argmax(-1) == labels).astype(outputs.dtype)
        return {
            "loss": jaxce.weighted_mean(self._values(logits, labels, hyperparams), is_seen),
            "accuracy": jaxce.weighted_mean(right, is_seen),
        }

    def _logits(self, features: Array, kernel: Array, labels: Array, hyperparams: Hyperparams) -> Array:
        if self.head is None:
            return features @ kernel
        head = jaxce.LOSSES[self.head]
        options = {name: hyperparams[name] for name in head.options if name in hyperparams}
        if self.degree is not None:
            options["margin"] = self.degree
        rows = jaxce.normalized_cosines(features, kernel) if head.inputs == "cosines" else features @ kernel
        first = (features, kernel) if head.inputs == "features" else (rows,)
        logits = head.value(*first, labels, **options)
        if MARGIN_SHARE not in hyperparams:
            return logits
        plain = rows * options.get("scale", head.options.get("scale", 1.0))
        return plain + hyperparams[MARGIN_SHARE] * (logits - plain)

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Verification on pairs of examples of unseen classes."""
        unseen = labels >= self.num_classes
        return metrics.of_pairs(outputs[unseen], labels[unseen]) if self.has_unseen else {}


# What kinds of a loss's labels can be made of a data set's.
FITTING: dict[LabelKind, tuple[str, ...]] = {
    "class": ("integer", "distribution", "binary", "real"),
    "sequence": ("integer", "distribution", "binary", "real"),
    "set": ("binary",),
    "number": ("real",),
}


def make_objective(config: Config, dataset: Dataset) -> Objective:
    """The objective that fits the data set's labels, with the config's loss.

    Raises:
        ConfigError: The loss, or another setting, does not fit the labels.
    """
    fitting = [name for name in TRAINABLE_LOSSES if jaxce.LOSSES[name].labels in FITTING[dataset.labels]]
    if config.loss not in fitting:
        raise ConfigError(
            f"loss {config.loss} does not fit data {config.data}, where a label is a {dataset.labels}: "
            f"there fit {', '.join(fitting)}"
        )
    if config.joint_softmax and dataset.labels != "sequence":
        raise ConfigError(f"joint_softmax is for several labels an example; data {config.data} has one")
    num_classes = len(dataset.classes)
    if dataset.labels == "sequence":
        length = dataset.train.labels.shape[1]
        return SequenceObjective(config.loss, num_classes, length, config.joint_softmax)
    if config.head is not None or dataset.unseen:
        if dataset.labels != "class" or jaxce.LOSSES[config.loss].labels != "integer":
            raise ConfigError(
                f"head {config.head} on data {config.data} needs labels that are class numbers, and a loss of "
                f"them, not {config.loss}"
            )
        takes_degree = config.head is not None and isinstance(jaxce.LOSSES[config.head].options["margin"], int)
        degree = int(config.margin) if takes_degree and config.margin is not None else None
        return EmbeddingObjective(
            config.loss, num_classes, config.embedding_width, config.head, degree, bool(dataset.unseen)
        )
    return {"class": Objective, "set": SetObjective, "number": NumberObjective}[dataset.labels](
        config.loss, num_classes
    )


def all_scores(objective: Objective, scores: Mapping[str, np.ndarray], part: Examples) -> dict[str, float]:
    """What was measured in the compiled step, and what needs all outputs of a part side by side."""
    means = {name: number(value) for name, value in scores.items() if name != "outputs"}
    return means | objective.score(scores["outputs"], np.asarray(part.labels))


def number(value: np.ndarray) -> float:
    """A float32 with as many digits as it has: 0.997, where `float` alone would give 0.996999979019165."""
    return float(str(value))
