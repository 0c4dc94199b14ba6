"""What a loss declares about itself: one `Loss` record each, gathered in `jaxce.LOSSES`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax


@dataclass(frozen=True)
class Loss:
    """One loss: its value, its closed-form gradient and what verification and users have to know about it.

    Attributes:
        value: The function, `value(inputs, labels, **options)`, one number per example.
        grad: Its closed-form derivative with respect to the inputs, same arguments.
        definition: The textbook formula for one example in arithmetic of any precision:
            `definition(mp, inputs, labels, **options)` with numbers, or lists of them, of the module `mpmath`.
        inputs: What the first argument holds: `logits`, `probs`, `log_probs`, `predictions` or `cosines`.
        labels: What the second holds: `integer` class numbers [*batch], `distribution`s over the classes
            [*batch, classes], or for losses of single components `binary` numbers in [0, 1] or `real` numbers,
            of the inputs' shape.
        convex: Whether the loss, with its default options, is convex in its inputs.
        formula: The value in one line.
        source: Paper and equation.
        cases: Settings of the options, besides the defaults, that verification tries.
    """

    value: Callable[..., jax.Array]
    grad: Callable[..., jax.Array]
    definition: Callable[..., Any]
    inputs: Literal["logits", "probs", "log_probs", "predictions", "cosines"]
    labels: Literal["integer", "distribution", "binary", "real"]
    convex: bool
    formula: str
    source: str
    cases: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.value.__name__

    @property
    def options(self) -> dict[str, Any]:
        """Keyword-only options and their defaults, read from the signature."""
        parameters = inspect.signature(self.value).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
