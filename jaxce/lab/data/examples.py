"""What a part of a data set is: arrays, or a stream of what is too large to be one array on a device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxce.lab.errors import ConfigError

DEVICE_BYTES = 2 * 2**30
"""How much of a part is kept on the device: an epoch takes twice that, as its order is gathered at once, and a
device of 8 GiB then has half of its memory for the network."""


class Examples(NamedTuple):
    """Inputs and the labels that belong to them, row by row."""

    inputs: Float[Array | np.ndarray, "examples *shape"]
    labels: Shaped[Array | np.ndarray, "examples *label_shape"]


@dataclass(frozen=True)
class Stream:
    """Examples that stay on disk, or in the host's memory, until they are trained on.

    Attributes:
        source: Random access: `source[i]` is a row of inputs, as stored, and its label; several threads ask.
        inputs: Shape and dtype of all inputs.
        labels: Shape and dtype of all labels.
    """

    source: Sequence[tuple[Any, Any]] = field(repr=False)  # which may say where in memory it is
    inputs: jax.ShapeDtypeStruct
    labels: jax.ShapeDtypeStruct

    def take(self, rows: np.ndarray) -> "Stream":
        """Those examples, unread."""
        inputs, labels = (
            jax.ShapeDtypeStruct((len(rows), *each.shape[1:]), each.dtype)
            for each in (self.inputs, self.labels)
        )
        source = Source(len(rows), lambda i: self.source[int(rows[i])])
        return replace(self, source=source, inputs=inputs, labels=labels)

    def stack(self, rows: Sequence[tuple[Any, Any]]) -> Examples:
        """Rows of the source as arrays."""
        inputs, labels = zip(*rows, strict=True)
        return Examples(scaled(np.stack(inputs)), np.array(labels, self.labels.dtype))

    def read(self) -> Examples:
        """All of it."""
        return self.stack([self.source[i] for i in range(len(self.source))])


@dataclass(frozen=True)
class Source(Sequence):
    """Random access to rows, by a function from a row's number."""

    length: int
    row: Callable[[int], Any]

    def __len__(self) -> int:
        """How many."""
        return self.length

    def __getitem__(self, i: Any) -> Any:
        """One of them."""
        return self.row(i)


def fits(part: Examples | Stream) -> bool:
    """Whether a part can be kept on a device: its inputs take no more than DEVICE_BYTES there."""
    return num_bytes(part) <= DEVICE_BYTES


def num_bytes(part: Examples | Stream) -> int:
    """What the inputs take as float32."""
    return 4 * prod(part.inputs.shape)


def check_held(name: str, **parts: Examples | Stream) -> None:
    """Raise ConfigError where a part that is to be in memory is too large for that."""
    for part, rows in parts.items():
        if not fits(rows):
            raise ConfigError(
                f"the {part} part of data {name} takes {gib(num_bytes(rows))}, but only train streams, and "
                f"what is kept on the device may take {gib(DEVICE_BYTES)}: make {part} smaller"
            )


def gib(count: int) -> str:
    """Bytes to be read.

    >>> gib(3 * 2**29)
    '1.50 GiB'
    """
    return f"{count / 2**30:.2f} GiB"


def stream(part: Examples) -> Stream:
    """Arrays in the host's memory, as a stream."""
    inputs, labels = (jax.ShapeDtypeStruct(rows.shape, rows.dtype) for rows in part)
    source = Source(len(part.labels), lambda i: (part.inputs[i], part.labels[i]))
    return Stream(source, inputs, labels)


def scaled(values: np.ndarray) -> np.ndarray:
    """Inputs as float32; bytes become [0, 1]."""
    return values.astype(np.float32) / np.float32(255 if values.dtype == np.uint8 else 1)


Part = TypeVar("Part", Examples, Stream)


def take(part: Part, rows: np.ndarray) -> Part:
    """Those rows of inputs and labels."""
    if isinstance(part, Stream):
        return part.take(rows)
    return Examples(part.inputs[rows], part.labels[rows])


def has_classes(part: Examples | Stream) -> bool:
    """Whether labels are class numbers, one an example, and known: those of a stream are not, until read."""
    return isinstance(part, Examples) and part.labels.ndim == 1 and np.issubdtype(part.labels.dtype, np.integer)
