"""What makes a function a loss: the decorator `loss`, its record, and LOSSES, the one list of them.

A loss is written once, as a function that returns its value and its gradient together:

    @loss(labels="binary", definition=definitions.my_loss, convex=True)
    def my_loss(logits, labels):
        ...
        return value, gradient

The decorator makes of it the public function, which returns the value and is differentiated by the gradient in
every mode, with `my_loss.grad` and `my_loss.value_and_grad` beside it, and enters it in LOSSES.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, Protocol, cast, get_args, runtime_checkable

from jaxtyping import Array

from jaxce.losses import checks
from jaxce.losses.arguments import Arguments, Inputs, Labels
from jaxce.losses.evaluation import Part, ValueAndGrad, evaluate

__all__ = ["LOSSES", "Loss"]

P = ParamSpec("P")


@dataclass(frozen=True)
class Loss:
    """What is known of one loss: its functions, and what verification and users have to know about it.

    Attributes:
        value: The function, `value(inputs, labels, **options)`, one number per example; of margins, one logit
            per class.
        grad: Its closed-form derivative with respect to the inputs, same arguments. Of margins on cosines or
            logits, each logit's in its own entry; on features, the Jacobian [*batch, classes, features].
        value_and_grad: Both, in one pass.
        definition: The textbook formula for one example, in plain JAX: see definitions.py.
        inputs: What the first argument holds: `logits`, `probs`, `log_probs`, `predictions` or `cosines`; for
            `features` the kernel [features, classes] follows, before the labels.
        labels: What the next holds: `integer` class numbers [*batch], `distribution`s over the classes
            [*batch, classes] or their logarithms, `log_distribution`s, or for losses of single components
            `binary` numbers in [0, 1] or `real` numbers, of the inputs' shape; `none` where there are none.
        convex: Whether the loss, with its default options, is convex in its inputs; of margins, None.
        formula: The value in one line.
        gradient: The gradient in one line.
        source: Paper and equation.
        options: Keyword-only options and their defaults.
        static: Names of the options that must be Python numbers, known when tracing.
        cases: Settings of the options, besides the defaults, that verification tries.
        returns: `losses`, or of margins the `logits` for a softmax loss.
    """

    value: Callable[..., Array]
    grad: Callable[..., Array]
    value_and_grad: ValueAndGrad
    definition: Callable[..., Array]
    inputs: Inputs
    labels: Labels
    convex: bool | None
    formula: str
    gradient: str
    source: str
    options: Mapping[str, Any] = field(hash=False)
    static: tuple[str, ...] = ()
    cases: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    returns: Literal["losses", "logits"] = "losses"

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.value.__name__


LOSSES: dict[str, Loss] = {}


@runtime_checkable
class LossFunction(Protocol[P]):
    """The public function of a loss: it returns the value."""

    __name__: str
    record: Loss

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        """The value."""

    def grad(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        """The gradient in closed form, in the shape and dtype of the inputs."""

    def value_and_grad(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Array, Array]:
        """Value and gradient in one pass."""


def loss(
    *,
    labels: Labels,
    definition: Callable[..., Array],
    convex: bool | None,
    options: Mapping[str, checks.Option] | None = None,
    cases: tuple[Mapping[str, Any], ...] = (),
    returns: Literal["losses", "logits"] = "losses",
    own_dtype: bool = False,
    components_too: bool = False,
) -> Callable[[Callable[P, tuple[Array, Array]]], LossFunction[P]]:
    """Make a loss of a function that returns value and gradient.

    The function is given rows: inputs in float32 or float64 with the classes last, masked classes at −inf,
    masked and ignored examples as zeros (what it returns for them is thrown away), checked options. `axis`,
    `where` and `ignore_index`, where its signature has them, are dealt with before it is called. An option at
    its neutral value arrives as a plain number, and `does_something` is false of it. Where labels are `binary`
    or `real`, each component is an example and arrays arrive in their own shape.

    Args:
        labels: What the labels are, and so how they are checked and laid out: see Loss.
        definition: The formula in definitions.py.
        convex: Whether the loss is convex in its inputs; None for margins.
        options: How each option is checked.
        cases: Settings of the options that verification tries.
        returns: Whether the value is a loss, or logits for another loss.
        own_dtype: Whether the inputs arrive in their own dtype, not widened to float32.
        components_too: Whether labels of the inputs' own shape, zeros and ones, are taken as well as integers.

    Returns:
        The decorator.
    """

    def decorate(body: Callable[P, tuple[Array, Array]]) -> LossFunction[P]:
        signature = inspect.signature(body)
        arguments = Arguments(signature, labels, options or {}, own_dtype, components_too)
        doc = inspect.getdoc(body) or ""
        gradient = _section(doc, "Gradient")
        of_value, of_grad = get_args(signature.return_annotation)

        def function(part: Part, suffix: str, returned: Any, text: str) -> Any:
            def of_arguments(*args: P.args, **kwargs: P.kwargs) -> Any:
                return evaluate(body, part, *arguments(args, kwargs))

            functools.update_wrapper(of_arguments, body)
            of_arguments.__name__ = suffix.removeprefix(".") or body.__name__
            of_arguments.__qualname__ = body.__qualname__ + suffix
            of_arguments.__doc__ = text
            of_arguments.__annotations__ = {**body.__annotations__, "return": returned}
            of_arguments.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
            return of_arguments

        name = f"{body.__name__} / d {arguments.first}"
        public = function("value", "", of_value, doc)
        public.grad = function("grad", ".grad", of_grad, f"d {name} in closed form: {gradient}")
        public.value_and_grad = function(
            "both",
            ".value_and_grad",
            signature.return_annotation,
            f"{body.__name__} and d {name}, in one pass.",
        )
        public.record = LOSSES[body.__name__] = Loss(
            value=public,
            grad=public.grad,
            value_and_grad=public.value_and_grad,
            definition=definition,
            inputs=arguments.inputs,
            labels=labels,
            convex=convex,
            formula=_section(doc, "Formula"),
            gradient=gradient,
            source=_section(doc, "Source"),
            options={p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY},
            static=tuple(option for option, check in arguments.options.items() if check.static),
            cases=cases,
            returns=returns,
        )
        return cast(LossFunction[P], public)

    return decorate


def _section(doc: str, name: str) -> str:
    """The text of a section of a docstring, in one line.

    >>> _section("Loss.\\n\\nFormula:\\n    (x − y)²\\n\\n>>> 1\\n1", "Formula")
    '(x − y)²'
    """
    found = re.search(rf"^{name}:\n((?: +.*\n?)+)", doc, re.MULTILINE)
    return " ".join(found.group(1).split()) if found else ""
