"""What a run said of the test part: kept in predictions.npz, read as classes, sets, numbers or features."""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxce.lab.errors import ConfigError
from jaxce.lab.files import write_whole
from jaxce.lab.report.pairs import hardest_pairs
from jaxce.losses import LOSSES

NUM_SHOWN = 12

Kind = Literal["class", "sequence", "set", "number", "embedding"]


@dataclass(frozen=True)
class Predictions:
    """Outputs for the test part, and what they should have been.

    Attributes:
        kind: What one example's label is; `embedding` where the outputs are features of an example of a class.
        loss: Name of the loss that the outputs were trained with: it says what they mean.
        outputs: What the network gave, [N, outputs].
        labels: A class [N] or several [N, K]; 0 or 1 for each class [N, C]; or a real number [N].
        classes: Names of the classes, in the labels' order; none where labels are numbers.
        shown: Examples to show: mistakes, the most confident first, then right ones, the least confident first;
            where outputs are features, pairs of examples, one after the other.
        inputs: Inputs of those.
    """

    kind: Kind
    loss: str
    outputs: Float[np.ndarray, "examples outputs"]
    labels: Shaped[np.ndarray, "examples *label_shape"]
    classes: tuple[str, ...] = ()
    shown: Int[np.ndarray, "shown"] | None = None
    inputs: Shaped[np.ndarray, "shown *shape"] | None = None

    @property
    def has_probs(self) -> bool:
        """Whether `probs` are probabilities: features are none, nor are outputs trained by squared error."""
        return self.kind != "embedding" and LOSSES[self.loss].inputs == "logits"

    @cached_property
    def probs(self) -> Float[np.ndarray, "examples parts classes"]:
        """Probability of each class; an example has a part for each class to name, a set one part."""
        parts = self.labels.shape[1] if self.kind == "sequence" else 1
        outputs = self.outputs.reshape(len(self.outputs), parts, -1)
        if not self.has_probs:
            return outputs
        if LOSSES[self.loss].labels != "binary":
            return np.asarray(jax.nn.softmax(outputs))
        probs = np.asarray(jax.nn.sigmoid(outputs))
        one_for_two = self.kind == "class" and probs.shape[-1] == 1
        return np.concatenate([1 - probs, probs], -1) if one_for_two else probs

    @cached_property
    def predicted(self) -> Shaped[np.ndarray, "examples *label_shape"]:
        """What was predicted, in the form of the labels."""
        if self.kind == "number":
            return self.outputs.reshape(self.labels.shape)
        if self.kind == "set":
            return (self.probs[:, 0] > 0.5).astype(int)
        return self.probs.argmax(-1).reshape(self.labels.shape)

    @cached_property
    def right(self) -> Bool[np.ndarray, "examples"]:
        """Whether the whole of an example was predicted right."""
        return (self.predicted == self.labels).reshape(len(self.labels), -1).all(-1)

    @cached_property
    def confidence(self) -> Float[np.ndarray, "examples"]:
        """Probability of the whole prediction of each example, as if its parts were independent."""
        best = np.maximum(self.probs[:, 0], 1 - self.probs[:, 0]) if self.kind == "set" else self.probs.max(-1)
        return best.prod(-1)

    def hardest(self, count: int = NUM_SHOWN) -> Int[np.ndarray, "shown"]:
        """Examples for `shown`; none where labels are numbers."""
        if self.kind == "number":
            return np.zeros(0, int)
        if self.kind == "embedding":
            return hardest_pairs(self.outputs, self.labels, count // 2)
        return np.lexsort((np.where(self.right, self.confidence, -self.confidence), self.right))[:count]

    def name(self, label: Shaped[np.ndarray, "*label_shape"]) -> str:
        """A label in words: the class, the classes in their order, or the set of them."""
        if self.kind == "set":
            return ", ".join(self.classes[i] for i in np.flatnonzero(label)) or "none"
        names = [self.classes[i] for i in np.atleast_1d(label)]
        return ("" if all(len(name) == 1 for name in self.classes) else " ").join(names)


def save_predictions(
    workdir: Path,
    kind: Kind,
    loss: str,
    inputs: Shaped[np.ndarray, "examples *shape"],
    labels: Shaped[np.ndarray, "examples *label_shape"],
    outputs: Float[np.ndarray, "examples outputs"],
    classes: tuple[str, ...] = (),
    unseen: tuple[str, ...] = (),
) -> None:
    """Write `workdir`/predictions.npz: outputs and labels of the test part, and the inputs of the hardest.

    Where there are `unseen` classes, numbered on from `classes`, only their examples are kept: the others say
    nothing of how well classes are told apart that training did not have.

    Raises:
        OSError: It could not be written; what stood there before is still there.
    """
    if unseen:
        chosen = labels >= len(classes)
        inputs, labels, outputs = inputs[chosen], labels[chosen] - len(classes), outputs[chosen]
    names = unseen or classes
    outputs = outputs.astype(np.float32).reshape(len(labels), -1)
    shown = Predictions(kind, loss, outputs, labels, names).hardest()
    file = io.BytesIO()
    np.savez_compressed(
        file,
        kind=np.array(kind),
        outputs=outputs,
        labels=labels,
        classes=np.array(names, str),
        shown=shown,
        inputs=inputs[shown],
    )
    write_whole(workdir / "predictions.npz", file.getvalue())


def load_predictions(workdir: Path, loss: str) -> Predictions | None:
    """What `save_predictions` wrote; None where there is none.

    Raises:
        ConfigError: The file is damaged.
    """
    path = workdir / "predictions.npz"
    if not path.exists():
        return None
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in ("outputs", "labels", "shown", "inputs")}
            classes = tuple(map(str, stored["classes"]))
            return Predictions(stored["kind"].item(), loss, classes=classes, **arrays)
    except Exception as error:  # NumPy and zipfile raise half a dozen kinds at a damaged file
        raise ConfigError(f"{path} is damaged ({error}): remove it to report on the run without it") from error
