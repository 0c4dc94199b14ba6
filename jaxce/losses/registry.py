"""What a loss declares about itself: one `Loss` record each, gathered in `jaxce.LOSSES`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax


@dataclass(frozen=True)
class Loss:
    """One loss: its value, its closed-form gradient and what a user has to know about it.

    Attributes:
        value: The function, `value(inputs, labels, **options)`, one number per example.
        grad: Its closed-form derivative with respect to the first argument, same arguments.
        labels: What the second argument holds: `integer` class numbers of shape [*batch], `distribution`
            over the classes [*batch, classes], `binary` numbers in [0, 1] of the inputs' shape, or `real`
            numbers of the inputs' shape.
        convex: Whether the loss is convex in its first argument.
        formula: The value in one line.
        source: Paper and equation.
    """

    value: Callable[..., jax.Array]
    grad: Callable[..., jax.Array]
    labels: Literal["integer", "distribution", "binary", "real"]
    convex: bool
    formula: str
    source: str

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.value.__name__

    @property
    def options(self) -> dict[str, Any]:
        """Keyword-only options and their defaults, read from the signature."""
        parameters = inspect.signature(self.value).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
