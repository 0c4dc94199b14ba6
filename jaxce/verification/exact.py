"""The truth: a loss's definition and its derivatives in mpmath, at numbers exactly as a dtype holds them."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

Number = Any  # mpmath's mpf, which has no types


@dataclass(frozen=True)
class Example:
    """What goes into a definition: a row of inputs or one component, the arguments that follow, the options.

    A row of logits means the same when they are all shifted: its `origin` is the largest, and each logit counts
    as known to an ulp of its distance from there or of 1, which is what rounding its exponential amounts to.
    """

    definition: Callable[..., Any]
    inputs: np.ndarray
    rest: tuple[Any, ...]
    options: Mapping[str, Any]
    origin: float | None = None

    def __str__(self) -> str:
        """What to type to see it again."""
        arguments = ", ".join(_show(each) for each in (self.inputs, *self.rest))
        return f"({arguments}{''.join(f', {name}={_show(v)}' for name, v in self.options.items())})"


def is_floating(value: Any) -> bool:
    """Whether these are numbers with a fraction: an array of them, or a Python float or tuple of floats."""
    return bool(jnp.issubdtype(np.asarray(value).dtype, jnp.floating))


class Exact:
    """A definition at one example as a function of a flat list of numbers, in arithmetic of many digits.

    The inputs come first, then the floating numbers among the other arguments, then those among the options.
    """

    def __init__(self, example: Example, digits: int) -> None:
        """Take every number of the example over exactly."""
        self.m = _arithmetic(digits)
        self.step = self.m.mpf(10) ** -(digits // 4)
        self.definition, self.origin = example.definition, example.origin
        self.numbers: list[Number] = []
        self.arguments = [self._place(each) for each in (example.inputs, *example.rest)]
        self.num_inputs, self.num_values = example.inputs.size, 1
        self.options_start = len(self.numbers)
        self.options = {name: self._place(value) for name, value in example.options.items()}

    def _place(self, value: Any) -> Callable[[Sequence[Number]], Any]:
        """Append the numbers of `value`, and return how to find it again in a list like that."""
        array = np.asarray(value)
        if not is_floating(value):
            constant = array.tolist()
            return lambda _: constant
        start = len(self.numbers)
        self.numbers += [self.m.mpf(float(v)) for v in array.ravel()]
        places = np.arange(start, len(self.numbers)).reshape(array.shape).tolist()
        return lambda numbers: _filled(places, numbers)

    def at(self, numbers: Sequence[Number]) -> list[Number]:
        """The definition at other numbers: one value, or the logits of a head; NaN outside its domain."""
        arguments = [place(numbers) for place in self.arguments]
        options = {name: place(numbers) for name, place in self.options.items()}
        try:
            found = self.definition(self.m, *arguments, **options)
        except (ValueError, TypeError, ZeroDivisionError):  # the logarithm of a negative number, compared
            found = [self.m.nan] * self.num_values
        values = found if isinstance(found, list) else [found]
        self.num_values = len(values)
        return [self.m.nan if isinstance(v, self.m.mpc) else self.m.mpf(v) for v in values]

    def gradient(self, i: int, values: list[Number]) -> list[Number]:
        """∂ values / ∂ input i; NaN at a kink or jump, where the slopes to both sides are not one."""
        step = self.step * (abs(self.numbers[i]) or 1)
        ahead, behind = self._moved(i, self.numbers, step), self._moved(i, self.numbers, -step)
        slopes = []
        for here, after, before in zip(values, ahead, behind, strict=True):
            right, left = (after - here) / step, (here - before) / step
            kink = abs(right - left) > 1e-10 * max(abs(left), abs(right), 1e-10)
            slopes.append(self.m.nan if kink else (after - before) / (2 * step))
        if any(abs(slope) < 1e-25 for slope in slopes):  # small in truth, or only because the step is?
            smaller = self.derivative(i, self.numbers, step / 2)
            slopes = [
                self.m.mpf(0) if abs(a - b) > 1e-10 * abs(a) and abs(a) < 1e-25 else a
                for a, b in zip(slopes, smaller, strict=True)
            ]
        return slopes

    def derivative(self, i: int, numbers: Sequence[Number], step: Number = None) -> list[Number]:
        """∂ values / ∂ number i, by a central difference of a step so small that it is exact to many digits."""
        step = step or self.step * (abs(numbers[i]) or 1)
        ahead, behind = self._moved(i, numbers, step), self._moved(i, numbers, -step)
        return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]

    def _moved(self, i: int, numbers: Sequence[Number], by: Number) -> list[Number]:
        return self.at([*numbers[:i], numbers[i] + by, *numbers[i + 1 :]])

    def parts(self, quantity: Callable[[Sequence[Number]], Number]) -> Number:
        """How large the parts are that a quantity is made up of: Σ |u ∂quantity/∂u| over labels and options u.

        Labels and most options are factors of the terms of a loss. Where the terms cancel, as p − q does where
        a soft target is met, the sum here stays as large as they are, and so does the rounding of each of
        them. Other options (exponents, thresholds) and the inputs count a twentieth, a few of their ulps.
        """
        here = quantity(self.numbers)
        total = self.m.mpf(0)
        for k, u in enumerate(self.numbers):
            is_logit = k < self.num_inputs and self.origin is not None
            size = max(abs(u - self.origin), 1) if is_logit else u
            if not size:
                continue

            def grown(by: Any, k: int = k, size: Number = size) -> Number:
                return quantity([*self.numbers[:k], self.numbers[k] + by * size, *self.numbers[k + 1 :]])

            part = abs(grown(self.step) - grown(-self.step)) / (2 * self.step)
            if k >= self.options_start:
                factor = abs(grown(1) - 2 * here + grown(-1)) < part / 10**9
            else:
                factor = k >= self.num_inputs
            total += part if factor else part / 20
        return total


@dataclass(frozen=True)
class Truth:
    """Values and Jacobian [value][input] of one example, and on request the parts that each is made up of."""

    values: list[Number]
    jacobian: list[list[Number]]
    parts_of_value: Callable[[int], Number]
    parts_of_entry: Callable[[int, int], Number]


def truth(example: Example, smallest: float) -> Truth:
    """Values and derivatives, to 20 digits at least of all that is not below `smallest`.

    Of a row, classes at −inf are left out, and a row of them alone is 0. An infinite component is a limit.
    """
    infinite = np.isinf(example.inputs.astype(np.float64))
    if not infinite.any():
        return _finite_truth(example, smallest)
    if infinite.ndim == 0:
        return _limit(example, smallest)
    return _without(example, infinite, smallest)


def _finite_truth(example: Example, smallest: float) -> Truth:
    """The truth with so many digits that more do not change it.

    1 − p and its like lose as many digits as p has nines: more than 60 of them only where inputs lie far apart.
    """
    inputs = example.inputs.astype(np.float64)
    far_apart = np.ptp(inputs) > 90 if inputs.ndim else abs(inputs) > 90
    known: list[Number] = []
    for digits in (140, 680, 9000) if far_apart else (140, 680):
        exact = Exact(example, digits)
        values = exact.at(exact.numbers)
        columns = [exact.gradient(i, values) for i in range(exact.num_inputs)]
        numbers = [*values, *(entry for column in columns for entry in column)]
        if known and _agree(known, numbers, smallest):
            break
        if not far_apart and (smallest > 1e-40 or all(abs(v) > 1e-40 for v in numbers)):
            break
        known = numbers
    return Truth(
        values,
        [list(row) for row in zip(*columns, strict=True)],
        lambda k: exact.parts(lambda numbers: exact.at(numbers)[k]),
        lambda k, i: exact.parts(lambda numbers: exact.derivative(i, numbers)[k]),
    )


def _agree(some: list[Number], others: list[Number], smallest: float) -> bool:
    return all(
        abs(a - b) <= 1e-20 * abs(b) or abs(b) < smallest / 1000 or (a != a and b != b)
        for a, b in zip(some, others, strict=True)
    )


def _without(example: Example, left_out: np.ndarray, smallest: float) -> Truth:
    """The truth for the other classes; a class left out has gradient 0."""
    size, kept = len(left_out), np.flatnonzero(~left_out)
    if not kept.size:
        return Truth([0], [[0] * size], lambda k: 0, lambda k, i: 0)
    labels = tuple(y[kept] if np.ndim(y) else np.searchsorted(kept, y) for y in example.rest)
    options = {name: np.asarray(v)[kept] if np.ndim(v) else v for name, v in example.options.items()}
    kept_example = dataclasses.replace(example, inputs=example.inputs[kept], rest=labels, options=options)
    rest = _finite_truth(kept_example, smallest)
    place = {int(i): n for n, i in enumerate(kept)}
    gradient = [rest.jacobian[0][place[i]] if i in place else 0 for i in range(size)]

    def parts_of_entry(k: int, i: int) -> Number:
        return rest.parts_of_entry(k, place[i]) if i in place else 0

    return Truth(rest.values, [gradient], rest.parts_of_value, parts_of_entry)


def _limit(example: Example, smallest: float) -> Truth:
    """The truth far out on the way to an infinite component; what still grows there tends to infinity."""
    near, far = (
        _finite_truth(dataclasses.replace(example, inputs=np.copysign(size, example.inputs)), smallest)
        for size in (2e3, 4e3)
    )
    grows = abs(far.values[0]) > 1.5 * abs(near.values[0]) > 1
    return dataclasses.replace(far, values=[math.inf]) if grows else far


def error(found: float, true: Number, parts: Callable[[], Number], limit: float, tiny: float) -> float | None:
    """How far `found` is from the truth, relative to it; None outside the domain of the definition.

    Below `tiny` an absolute error of that size is none. Beyond the limit, where the truth is what is left of
    parts that cancel (see Exact.parts), relative to them.
    """
    if true != true:
        return None
    if not math.isfinite(found):
        return 0.0 if found == float(true) else math.inf
    off, size = abs(found - true), abs(true)
    if off == 0 or (size < tiny and off <= tiny):
        return 0.0
    if off > limit * size:
        size = max(size, parts(), tiny)
    return float(off / size)


@functools.cache
def _arithmetic(digits: int) -> Any:
    """mpmath at this precision, remembering the exponentials and logarithms that differences ask for again."""
    try:
        import mpmath
    except ModuleNotFoundError as error:
        raise ImportError('a definition needs the extra "verify": pip install "jaxce[verify]"') from error

    m = mpmath.MPContext()
    m.dps = digits
    m.exp = functools.lru_cache(10_000)(m.exp)
    m.log = functools.lru_cache(10_000)(m.log)
    return m


def _filled(places: Any, numbers: Sequence[Number]) -> Any:
    return [_filled(each, numbers) for each in places] if isinstance(places, list) else numbers[places]


def _show(value: Any) -> str:
    array = np.asarray(value)
    if not is_floating(value):
        return str(array.tolist())
    if array.ndim == 0:
        return f"{float(array):.9g}"
    shown = [_show(each) for each in array[:8]] + [f"{len(array) - 8} more"] * (len(array) > 8)
    return f"[{', '.join(shown)}]"
