"""Features, compared by their cosines: margin heads, classes never seen in training, and very many classes."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

import jaxce
from jaxce import LOSSES, TokenStatistics
from jaxce.lab.charts import Sections
from jaxce.lab.config import Config
from jaxce.lab.data import Dataset
from jaxce.lab.errors import ConfigError
from jaxce.lab.metrics import Metric
from jaxce.lab.tasks import pairs
from jaxce.lab.tasks.task import (
    ACCURACY,
    CROSS_ENTROPY,
    Hyperparams,
    Key,
    Labels,
    Means,
    Outputs,
    Params,
    Predictions,
    Task,
)

# Beside the hyperparams, while `margin_epochs` last: which part of a head's margin counts already, from 0 to 1.
MARGIN_SHARE = "margin_share"

AREA = Metric("verification_auc", "verification AUC")
EQUAL_ERROR_RATE = Metric(
    "equal_error_rate", "equal error rate", "%", larger_is_better=False, fraction_of="pairs"
)


@dataclass(frozen=True)
class EmbeddingTask(Task):
    """Features as outputs; in training a head turns them into logits of the classes seen.

    Attributes:
        width: Length of the features.
        head: Margin head of `jaxce.LOSSES`; None for a linear layer.
        degree: The head's margin where it has to be a Python integer.
        has_unseen: Whether there are examples of classes that training has not, numbered from `num_classes` on.
            They count in no mean, and are what verification is measured on.
        num_sampled: Classes that a training step sees; None for all.
        parallel: How classes and a batch are spread over devices; None where there is one.
    """

    width: int = 0
    head: str | None = None
    degree: int | None = None
    has_unseen: bool = False
    num_sampled: int | None = None
    parallel: jaxce.ClassParallel | None = None

    kind = "embedding"
    losses_of: ClassVar[tuple[str, ...]] = ("integer",)
    reported: ClassVar[tuple[Metric, ...]] = (ACCURACY, CROSS_ENTROPY, AREA, EQUAL_ERROR_RATE)

    @classmethod
    def of_data(cls, config: Config, dataset: Dataset, mesh: Mesh | None) -> Self:
        """The task of a config and its data."""
        num_classes, head = len(dataset.classes), config.head
        check_classes(config, num_classes)
        is_degree = head is not None and config.margin is not None and "margin" in LOSSES[head].static
        return cls(
            config.loss,
            num_classes,
            width=config.embedding_width,
            head=head,
            degree=int(config.margin) if is_degree and config.margin is not None else None,
            has_unseen=bool(dataset.unseen),
            num_sampled=config.num_sampled,
            parallel=None if mesh is None or mesh.size == 1 else jaxce.ClassParallel(mesh, "classes", "batch"),
        )

    @property
    def headline(self) -> Metric:
        """Verification of classes never seen, where there are some; else accuracy."""
        return AREA if self.has_unseen else ACCURACY

    @property
    def num_outputs(self) -> int:
        """Outputs that the network must have for each example."""
        return self.width

    def init(self, key: PRNGKeyArray) -> dict[str, Any]:
        """A vector for each class."""
        shape = (self.width, self.num_classes)
        return {"head": {"kernel": jax.nn.initializers.lecun_normal()(key, shape)}}

    def measure(
        self, outputs: Outputs, labels: Labels, hyperparams: Hyperparams, params: Params, key: Key = None
    ) -> Means:
        """Mean `loss` and, but in training, `accuracy` of the nearest class vector and `cross_entropy`.

        All are of the classes seen; `cross_entropy` is without margin. Of classes there may be a million, so
        that all their logits are formed nowhere at once.
        """
        kernel = params["head"]["kernel"]
        is_seen = jnp.asarray(labels < self.num_classes, outputs.dtype)
        labels = jnp.where(is_seen > 0, labels, 0)
        takes = "logits" if self.head is None else LOSSES[self.head].inputs

        def loss(rows: Array, labels: Array) -> Array:
            return self.values(self._with_margin((rows,), rows, labels, hyperparams), labels, hyperparams)

        if key is not None and self.num_sampled is not None:
            sampled = jaxce.partial_fc(
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
            return {"loss": sampled}
        parallel = self.parallel
        if parallel is not None and key is None:
            parallel = parallel._replace(batch=None)  # a part need not be a multiple of the devices
        units = jaxce.unit_vectors(outputs), jaxce.unit_vectors(kernel, axis=0)
        if takes == "features":
            logits = self._with_margin((outputs, kernel), outputs @ kernel, labels, hyperparams)
            value = jaxce.weighted_mean(self.values(logits, labels, hyperparams), is_seen)
        else:
            x, w = units if takes == "cosines" else (outputs, kernel)
            value = jaxce.linear_loss(loss, x, w, labels, weights=is_seen, parallel=parallel)
        if key is not None:
            return {"loss": value}

        def statistics(features: Array, kernel: Array) -> TokenStatistics:
            return jaxce.linear_token_statistics(features, kernel, labels, parallel=parallel)

        plain = nearest = (
            statistics(units[0] * self._scale(hyperparams), units[1])
            if takes == "cosines"
            else statistics(outputs, kernel)
        )
        if self.head is not None and takes != "cosines":
            nearest = statistics(*units)
        right = (nearest.argmax == labels).astype(outputs.dtype)
        return {
            "loss": value,
            "accuracy": jaxce.weighted_mean(right, is_seen),
            "cross_entropy": jaxce.weighted_mean(-plain.label_log_prob, is_seen),
        }

    def _scale(self, hyperparams: Hyperparams) -> Float[Array, ""] | float:
        """Factor of the cosines."""
        assert self.head is not None
        return hyperparams.get("scale", LOSSES[self.head].options.get("scale", 1.0))

    def _with_margin(
        self, given: tuple[Array, ...], plain: Array, labels: Array, hyperparams: Hyperparams
    ) -> Array:
        """Logits by the head from what it is given: cosines or logits `plain`, or features and kernel."""
        if self.head is None:
            return plain
        head = LOSSES[self.head]
        options = {name: hyperparams[name] for name in head.options if name in hyperparams}
        if self.degree is not None:
            options["margin"] = self.degree
        logits = head.value(*given, labels, **options)
        if MARGIN_SHARE not in hyperparams:
            return logits
        plain = plain * self._scale(options)
        return plain + hyperparams[MARGIN_SHARE] * (logits - plain)

    def scores_of_all(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Verification, on all pairs of examples of unseen classes."""
        if not self.has_unseen:
            return {}
        unseen = labels >= self.num_classes
        _, _, found = pairs.all_pairs(outputs[unseen], labels[unseen])
        return {"verification_auc": found.area, "equal_error_rate": found.equal_errors[0]}

    def keep(self, found: Predictions) -> Predictions:
        """Examples of unseen classes alone, where there are some: it is these that verification is about."""
        if not self.has_unseen:
            return found
        unseen = found.labels >= self.num_classes
        return Predictions(
            found.outputs[unseen],
            found.labels[unseen] - self.num_classes,
            found.classes[self.num_classes :],
            found.inputs[unseen],
        )

    def hardest(self, found: Predictions, count: int) -> Int[np.ndarray, "shown"]:
        """Pairs of examples, one after the other."""
        return pairs.hardest_pairs(found.outputs, found.labels, count // 2)

    def sections(self, found: Predictions) -> Sections:
        """How well pairs of one class are separated from pairs of two."""
        return pairs.sections_of_pairs(found)


def check_classes(config: Config, num_classes: int) -> None:
    """Raise ConfigError where so many classes can be neither spread nor sampled as the config says."""
    devices, sample = config.class_devices, config.num_sampled
    if num_classes % devices:
        raise ConfigError(
            f"{num_classes} classes of data {config.data} cannot be spread evenly over class_devices = "
            f"{devices}"
        )
    if sample is None:
        return
    least = devices * min(config.batch_size or num_classes, num_classes // devices)
    if sample % devices or not least <= sample <= num_classes:
        raise ConfigError(
            f"num_sampled must be a multiple of class_devices = {devices}, from {least}, for a batch's labels "
            f"may all differ, to the {num_classes} classes of data {config.data}; not {sample}"
        )
