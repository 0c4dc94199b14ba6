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
        value: The function, `value(inputs, labels, **options)`, one number per example; of margin heads, one
            logit per class.
        grad: Its closed-form derivative with respect to the inputs, same arguments. Of margin heads on cosines
            or logits, each logit's in its own entry; on features, the Jacobian [*batch, classes, features].
        definition: The textbook formula for one example in arithmetic of any precision:
            `definition(mp, inputs, labels, **options)` with numbers, or lists of them, of the module `mpmath`.
        inputs: What the first argument holds: `logits`, `probs`, `log_probs`, `predictions` or `cosines`; for
            `features` the kernel [features, classes] follows, before the labels.
        labels: What the next holds: `integer` class numbers [*batch], `distribution`s over the classes
            [*batch, classes] or their logarithms, `log_distribution`s, or for losses of single components
            `binary` numbers in [0, 1] or `real` numbers, of the inputs' shape; `none` where there are none.
        convex: Whether the loss, with its default options, is convex in its inputs; of margin heads, None.
        formula: The value in one line.
        source: Paper and equation.
        cases: Settings of the options, besides the defaults, that verification tries.
        returns: `losses`, or of margin heads the `logits` for a softmax loss.
    """

    value: Callable[..., jax.Array]
    grad: Callable[..., jax.Array]
    definition: Callable[..., Any]
    inputs: Literal["logits", "probs", "log_probs", "predictions", "cosines", "features"]
    labels: Literal["integer", "distribution", "log_distribution", "binary", "real", "none"]
    convex: bool | None
    formula: str
    source: str
    cases: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    returns: Literal["losses", "logits"] = "losses"

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.value.__name__

    @property
    def options(self) -> dict[str, Any]:
        """Keyword-only options and their defaults, read from the signature."""
        parameters = inspect.signature(self.value).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
