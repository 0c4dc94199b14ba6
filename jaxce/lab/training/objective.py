"""What a network's outputs mean, by what the labels are: losses, predictions and how good they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

import jaxce
from jaxce.lab import metrics
from jaxce.lab.config import LOSS_OPTIONS
from jaxce.lab.data import Examples

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
        key: PRNGKeyArray | None = None,
    ) -> dict[str, Float[Array, ""]]:
        """Mean `loss`, and further metrics that are means over examples; pure, for the compiled step.

        With a `key`, another one in each step, it is of a training step, and may be what a sample says of it.
        """
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
        num_sampled: Classes that a training step sees; None for all.
        parallel: How classes and a batch are spread over devices; None where there is one.
    """

    width: int
    head: str | None
    degree: int | None
    has_unseen: bool
    num_sampled: int | None = None
    parallel: jaxce.ClassParallel | None = None

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
        key: PRNGKeyArray | None = None,
    ) -> dict[str, Float[Array, ""]]:
        """Mean `loss` and, but in training, `accuracy` of the nearest class vector; of the classes seen.

        Of classes there may be a million, so that all their logits are formed nowhere at once.
        """
        kernel = params["head"]["kernel"]
        is_seen = jnp.asarray(labels < self.num_classes, outputs.dtype)
        labels = jnp.where(is_seen > 0, labels, 0)
        takes = "logits" if self.head is None else jaxce.LOSSES[self.head].inputs

        def loss(rows: Array, labels: Array) -> Array:
            return self._values(self._with_margin((rows,), rows, labels, hyperparams), labels, hyperparams)

        if key is not None and self.num_sampled is not None:
            return {
                "loss": jaxce.partial_fc(
                    outputs,
                    kernel,
                    labels,
                    key,
                    num_sampled=self.num_sampled,
                    loss=loss,
                    cosines=takes == "cosines",
                    weights=is_seen,
                    parallel=self.parallel,
                )
            }
        parallel = self.parallel
        if parallel is not None and key is None:
            parallel = parallel._replace(batch=None)  # a part need not be a multiple of the devices
        units = jaxce.unit_vectors(outputs), jaxce.unit_vectors(kernel, axis=0)
        if takes == "features":
            logits = self._with_margin((outputs, kernel), outputs @ kernel, labels, hyperparams)
            value = jaxce.weighted_mean(self._values(logits, labels, hyperparams), is_seen)
        else:
            x, w = units if takes == "cosines" else (outputs, kernel)
            value = jaxce.linear_loss(loss, x, w, labels, weights=is_seen, parallel=parallel)
        if key is not None:
            return {"loss": value}
        x, w = (outputs, kernel) if self.head is None else units
        found = jaxce.linear_token_statistics(x, w, labels, parallel=parallel)
        right = (found.argmax == labels).astype(outputs.dtype)
        return {"loss": value, "accuracy": jaxce.weighted_mean(right, is_seen)}

    def _with_margin(
        self, given: tuple[Array, ...], plain: Array, labels: Array, hyperparams: Hyperparams
    ) -> Array:
        """Logits by the head from what it is given: cosines or logits `plain`, or features and kernel."""
        if self.head is None:
            return plain
        head = jaxce.LOSSES[self.head]
        options = {name: hyperparams[name] for name in head.options if name in hyperparams}
        if self.degree is not None:
            options["margin"] = self.degree
        logits = head.value(*given, labels, **options)
        if MARGIN_SHARE not in hyperparams:
            return logits
        plain = plain * options.get("scale", head.options.get("scale", 1.0))
        return plain + hyperparams[MARGIN_SHARE] * (logits - plain)

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Verification on pairs of examples of unseen classes."""
        unseen = labels >= self.num_classes
        return metrics.of_pairs(outputs[unseen], labels[unseen]) if self.has_unseen else {}


def all_scores(objective: Objective, scores: Mapping[str, np.ndarray], part: Examples) -> dict[str, float]:
    """What was measured in the compiled step, and what needs all outputs of a part side by side."""
    means = {name: number(value) for name, value in scores.items() if name != "outputs"}
    return means | objective.score(scores["outputs"], np.asarray(part.labels))


def number(value: np.ndarray) -> float:
    """A float32 with as many digits as it has: 0.997, where `float` alone would give 0.996999979019165."""
    return float(str(value))
