"""What a network's outputs mean: the loss of each example under any of LOSSES, and the predicted class."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import jaxce
from jaxce.config import LOSS_OPTIONS


@dataclass(frozen=True)
class Objective:
    """A loss of `jaxce.LOSSES` on examples that each belong to one of `num_classes` classes.

    A loss of binary labels sees one output for two classes, class 1 against class 0, and otherwise one
    output for each class, that class against all others.
    """

    loss: str
    num_classes: int

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
        labels: Int[Array | np.ndarray, "batch"],
        hyperparams: Mapping[str, Float[Array, ""] | float],
    ) -> Float[Array, "batch"]:
        """One loss per example, with those `hyperparams` that are options of a loss; outputs' losses add up."""
        options = {name: value for name, value in hyperparams.items() if name in LOSS_OPTIONS}
        if self._labels == "integer":
            targets = labels
        elif self.num_outputs == 1:
            targets = labels[:, None].astype(outputs.dtype)
        else:
            targets = jax.nn.one_hot(labels, self.num_classes, dtype=outputs.dtype)
        losses = jaxce.LOSSES[self.loss].value(outputs, targets, **options)
        return losses.reshape(len(labels), -1).sum(-1)

    def predict(self, outputs: Float[Array, "batch outputs"]) -> Int[Array, "batch"]:
        """The class of the largest output; of a single output, class 1 where it is positive."""
        if self.num_outputs == 1:
            return (outputs[:, 0] > 0).astype(jnp.int32)
        return outputs.argmax(-1)
