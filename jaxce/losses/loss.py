"""What makes a function a loss: checked arguments, rows, one derivative rule, and a record in LOSSES.

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
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, ParamSpec, Protocol, cast, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from jaxce.losses import checks

__all__ = ["LOSSES", "Loss"]

P = ParamSpec("P")

Inputs = Literal["logits", "probs", "log_probs", "predictions", "cosines", "features"]
Labels = Literal["integer", "distribution", "log_distribution", "binary", "real", "none"]

# (inputs, labels, options...) -> (value, d value / d inputs)
ValueAndGrad = Callable[..., tuple[Array, Array]]


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
                return _run(body, part, *arguments(args, kwargs))

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


def does_something(option: Any) -> bool:
    """Whether an option has to be computed with: a neutral one reaches a loss as a plain number, or as None."""
    return isinstance(option, jax.Array)


def closed_form(value_and_grad: ValueAndGrad) -> Callable[..., Array]:
    """The value of `value_and_grad`, differentiated in its first argument by the gradient that it returns.

    Autodiff of a loss loses what its value keeps: of a label that is almost certain, the derivative comes
    out as (1 − tiny) − 1 = 0 where −tiny is exact. All other arguments (labels, masks, options) are
    differentiated as JAX differentiates the value. A custom JVP, and never a custom VJP, so that forward mode
    and Hessians work too.
    """

    @jax.custom_jvp
    def value(inputs: Array, *rest: Any) -> Array:
        # Without the barrier XLA's CPU backend fuses a user's .mean() into the row sums and repeats them.
        return jax.lax.optimization_barrier(value_and_grad(inputs, *rest)[0])

    def jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
        inputs, *rest = primals
        result = value(*primals)
        tangent = jnp.zeros_like(result)
        if not isinstance(tangents[0], SymbolicZero):
            terms = value_and_grad(inputs, *rest)[1] * tangents[0].astype(result.dtype)
            tangent += terms.sum(range(result.ndim, terms.ndim))

        leaves, structure = jax.tree.flatten(rest)
        directions = jax.tree.leaves(tangents[1:], is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        moving = [i for i, d in enumerate(directions) if not isinstance(d, SymbolicZero)]
        if moving:

            def of_moving(*values: Array) -> Array:
                now = list(leaves)
                for i, leaf in zip(moving, values, strict=True):
                    now[i] = leaf
                return value_and_grad(inputs, *jax.tree.unflatten(structure, now))[0]

            moved = tuple(leaves[i] for i in moving), tuple(directions[i] for i in moving)
            tangent += jax.jvp(of_moving, *moved)[1]
        return result, tangent

    value.defjvp(jvp, symbolic_zeros=True)
    return value


# From what the user gave to arrays, and from those to rows.

Part = Literal["value", "grad", "both"]


class Layout(NamedTuple):
    """What is known of a call when tracing.

    Attributes:
        labels: What the labels are: see Loss.
        axes: The axes of the classes; None where every component is an example.
        own_dtype: Whether the inputs keep their dtype.
        fixed: Options that shape the program, by name.
    """

    labels: Labels
    axes: tuple[int, ...] | None
    own_dtype: bool
    fixed: tuple[tuple[str, Any], ...]


class Checked(NamedTuple):
    """The arguments of one call, checked.

    Attributes:
        layout: What is known when tracing.
        inputs: In the user's layout.
        kernel: [features, classes] where the inputs are features.
        labels: In the user's layout; None where there are none.
        mask: Classes that count, of the inputs' shape; None for all.
        keep: Examples that count [*batch]; None for all.
        options: Those that enter the program, by name.
    """

    layout: Layout
    inputs: Array
    kernel: Array | None
    labels: Array | None
    mask: Array | None
    keep: Array | None
    options: dict[str, Any]


class Arguments:
    """How the arguments of one loss are bound and checked."""

    def __init__(
        self,
        signature: inspect.Signature,
        labels: Labels,
        options: Mapping[str, checks.Option],
        own_dtype: bool,
        components_too: bool,
    ) -> None:
        """Read the names from the signature."""
        self.signature, self.labels, self.options = signature, labels, options
        self.own_dtype, self.components_too = own_dtype, components_too
        parameters = signature.parameters.values()
        self.positional = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.first = self.positional[0]
        self.inputs = cast(Inputs, "log_probs" if self.first == "log_predictions" else self.first)
        self.label_name = None if labels == "none" else self.positional[2 if self.inputs == "features" else 1]

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Every argument by name, as Python binds them, in a quarter of the time that Signature.bind takes."""
        given = {**self.defaults, **kwargs, **dict(zip(self.positional, args, strict=False))}
        fits = given.keys() == self.signature.parameters.keys() and len(args) <= len(self.positional)
        if not fits or not kwargs.keys().isdisjoint(self.positional[: len(args)]):
            self.signature.bind(*args, **kwargs)  # raises the TypeError that says what does not fit
        return given

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Checked:
        """The arguments of a call, checked.

        Raises:
            ValueError: Shapes that do not fit, labels or options out of range.
            TypeError: Inputs that are not floating-point, class numbers that are not integers, or a mask that
                is not boolean.
        """
        given = self.bind(args, kwargs)
        inputs, kernel, keep, mask = checks.as_floating(self.first, given[self.first]), None, None, None
        labels: Any = given[self.label_name] if self.label_name else None
        axes: tuple[int, ...] | None
        if self.inputs == "features":
            kernel = checks.as_kernel(inputs, given["kernel"])
            axes, num_classes = (inputs.ndim - 1,), kernel.shape[1]
            if labels is not None:
                labels = checks.as_integer_labels(labels, num_classes)
                checks.check_same_shape("labels", labels, "features without their last axis", inputs.shape[:-1])
        elif self.labels in ("binary", "real") or (self.components_too and np.shape(labels) == inputs.shape):
            axes, num_classes = None, inputs.shape[-1] if inputs.ndim else 1
            labels = checks.as_component_labels(self.label_name or "", labels, self.first, inputs, self.labels)
        else:
            axes = checks.normalize_axes(given.get("axis", -1), inputs.ndim, self.first)
            num_classes = math.prod(inputs.shape[a] for a in axes)
            if given.get("where") is not None:
                keep, mask = checks.split_where(given["where"], inputs, axes, self.first)
            if self.inputs == "probs":
                checks.check_probabilities(self.first, inputs)
            if self.labels == "integer":
                ignore_index = given.get("ignore_index")
                labels = checks.as_integer_labels(labels, num_classes, ignore_index)
                checks.check_integer_labels_shape(labels, inputs, axes, self.first)
                if ignore_index is not None:
                    counts = labels != ignore_index
                    keep = counts if keep is None else keep & counts
            elif self.label_name:
                labels = checks.as_distributions(self.label_name, labels, self.first, inputs, self.labels)
        fixed, options = [], {}
        for name, check in self.options.items():
            value = check(name, given[name], num_classes)
            if check.is_fixed(value):
                fixed.append((name, value))
            elif value is not None:
                options[name] = value
        layout = Layout(self.labels, axes, self.own_dtype, tuple(fixed))
        return Checked(layout, inputs, kernel, labels, mask, keep, options)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
    body: ValueAndGrad,
    part: Part,
    layout: Layout,
    inputs: Array,
    kernel: Array | None,
    labels: Any,
    mask: Array | None,
    keep: Array | None,
    options: dict[str, Any],
) -> Any:
    """The value of `body` on rows, its gradient in the layout and dtype of the inputs, or both."""
    dtype = jnp.promote_types(inputs.dtype, jnp.float32)
    rows, axes = inputs, layout.axes
    if kernel is not None:
        dtype = jnp.promote_types(dtype, kernel.dtype)
        kernel = kernel.astype(dtype)
    of_classes = labels is not None and labels.ndim == inputs.ndim  # as many labels as inputs
    if mask is not None:
        rows = jnp.where(mask, rows, -jnp.inf)
        if of_classes:
            labels = jnp.where(mask, labels, -jnp.inf if layout.labels == "log_distribution" else 0)
    if axes is not None and kernel is None:
        rows = to_rows(rows, axes)
        labels = to_rows(labels, axes) if of_classes else labels
    rows = rows if layout.own_dtype else rows.astype(dtype)
    labels = labels.astype(dtype) if of_classes else labels
    if keep is not None:  # zeros are harmless wherever an example does not count, also to derivatives
        rows = jnp.where(keep[..., None], rows, 0)
        labels = jnp.where(keep[..., None] if of_classes else keep, labels, 0)

    def of_rows(rows: Array, kernel: Array | None, labels: Array | None, options: dict[str, Any]) -> Any:
        arrays = [each for each in (rows, kernel, labels) if each is not None]
        return body(*arrays, **options, **dict(layout.fixed))

    if part == "value":
        # Of features, JAX's own derivative is as exact, and needs no Jacobian.
        function = closed_form(of_rows) if kernel is None else lambda *arrays: of_rows(*arrays)[0]
        value = function(rows, kernel, labels, options)
        return value if keep is None else jnp.where(keep, value, 0)
    value, grad = of_rows(rows, kernel, labels, options)
    if keep is not None:
        value, grad = jnp.where(keep, value, 0), jnp.where(keep[..., None], grad, 0)
    if axes is not None and kernel is None:
        grad = from_rows(grad, axes, inputs.shape)
    grad = grad.astype(inputs.dtype) if mask is None else jnp.where(mask, grad, 0).astype(inputs.dtype)
    return grad if part == "grad" else (value, grad)


def to_rows(array: Array, axes: tuple[int, ...]) -> Array:
    """`array` with `axes` moved to the end and made one."""
    batch = [a for a in range(array.ndim) if a not in axes]
    num_classes = math.prod(array.shape[a] for a in axes)  # not −1, which an empty batch cannot resolve
    return array.transpose(*batch, *axes).reshape(*(array.shape[a] for a in batch), num_classes)


def from_rows(rows: Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The inverse of `to_rows`: an array of `shape`."""
    order = [a for a in range(len(shape)) if a not in axes] + list(axes)
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return rows.reshape([shape[a] for a in order]).transpose(inverse)


def _section(doc: str, name: str) -> str:
    """The text of a section of a docstring, in one line.

    >>> _section("Loss.\\n\\nFormula:\\n    (x − y)²\\n\\n>>> 1\\n1", "Formula")
    '(x − y)²'
    """
    found = re.search(rf"^{name}:\n((?: +.*\n?)+)", doc, re.MULTILINE)
    return " ".join(found.group(1).split()) if found else ""
