"""Real functions of balls: Arb's, with what IEEE 754 says of infinities, NaN and zero.

A ball is an `flint.arb`, a midpoint with a proven radius: a finite one, an exact ±infinity, or NaN. Zero has no
sign. What a ball is too wide to decide raises Undecided: the caller computes all again, with more precision.
"""

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flint import arb
from scipy import special

Ball = arb

ZERO, ONE, HALF, TWO = arb(0), arb(1), arb(0.5), arb(2)
INF, NAN = arb.pos_inf(), arb.nan()


class Undecided(ArithmeticError):
    """Balls are too wide to say which way a comparison goes, or whether a function is defined."""


class Unsupported(TypeError):
    """A program holds an operation that ball arithmetic has no rule for."""


def ball_of(number: float) -> Ball:
    """The exact ball of a float."""
    return NAN if number != number else arb(number)


def is_less(a: Ball, b: Ball) -> bool:
    """Whether a < b; false of NaN."""
    if a is b:
        return False
    if a < b:
        return True
    if a >= b or a.is_nan() or b.is_nan():
        return False
    raise Undecided


def is_at_most(a: Ball, b: Ball) -> bool:
    """Whether a ≤ b; false of NaN."""
    if a.is_nan() or b.is_nan():
        return False
    return a is b or not is_less(b, a)


def is_equal(a: Ball, b: Ball) -> bool:
    """Whether a = b; false of NaN. Two balls that are one object are one number."""
    if a.is_nan() or b.is_nan():
        return False
    if a is b:
        return True
    if not a.overlaps(b):
        return False
    if a.is_exact() and b.is_exact():
        return a.mid() == b.mid()
    raise Undecided


def larger(a: Ball, b: Ball) -> Ball:
    """The larger one, itself where it is known which; NaN if one is."""
    if a is b or a >= b:
        return a
    if b >= a:
        return b
    return NAN if a.is_nan() or b.is_nan() else a.max(b)


def smaller(a: Ball, b: Ball) -> Ball:
    """The smaller one, itself where it is known which; NaN if one is."""
    if a is b or a <= b:
        return a
    if b <= a:
        return b
    return NAN if a.is_nan() or b.is_nan() else a.min(b)


def subtract(a: Ball, b: Ball) -> Ball:
    """a − b, and exactly 0 where both are one object."""
    return ZERO if a is b and a.is_finite() else a - b


def limit(function: Callable[..., Any], poles: Iterable[float] = ()) -> Callable[..., Ball]:
    """The value of a NumPy function where Arb's is not finite: at infinities, NaN, poles, outside the domain.

    `poles`: points besides 0 at which the function is infinite, or beyond which it is not defined. Raises
    Undecided where a ball is not exact and holds one.
    """
    points = [ZERO, *map(arb, poles)]

    def of_balls(*balls: Ball) -> Ball:
        if any(each.is_nan() for each in balls):
            return NAN
        if any(not each.is_exact() and any(map(each.contains, points)) for each in balls):
            raise Undecided
        with np.errstate(all="ignore"):
            value = float(function(*map(_beside, balls)))
        is_special = any(not each.is_finite() or each.mid() in points for each in balls)
        if value == value and not (is_special and (math.isinf(value) or value in (-1, 0, 1, 2))):
            raise OverflowError
        return ball_of(value)

    return of_balls


def _beside(ball: Ball) -> float:
    """A float near the midpoint, and on the same side of 1 and −1."""
    near = float(ball.mid())
    if abs(near) == 1 and ball.mid() != near:
        return math.nextafter(near, math.inf if ball.mid() > near else -math.inf)
    return near


def total(function: Callable[..., Ball], elsewhere: Callable[..., Ball]) -> Callable[..., Ball]:
    """`function` of balls where it is finite, and otherwise `elsewhere` of them."""

    def of_balls(*balls: Ball) -> Ball:
        found = function(*balls)
        return found if found.is_finite() else elsewhere(*balls)

    return of_balls


multiply = total(operator.mul, limit(operator.mul))
divide = total(operator.truediv, limit(np.divide))


def power(a: Ball, b: Ball) -> Ball:
    """a ** b."""
    if (b.is_exact() and b.is_zero()) or (a.is_exact() and a == ONE):
        return ONE
    if b.is_exact() and b.is_integer() and a.is_finite() and (b > 0 or not a.contains(0)):
        found = integer_power(a, whole(b))
        return found if found.is_finite() else _power_limit(a, b)
    if a.is_exact() and a.is_zero() and b > 0:
        return ZERO
    found = a**b
    return found if found.is_finite() else _power_limit(a, b)


_power_limit = limit(np.power)


def whole(a: Ball) -> int:
    """The integer that an exact ball is."""
    return int(a.unique_fmpz() or 0)


def integer_power(a: Ball, exponent: int) -> Ball:
    """a ** exponent of a Python integer."""
    if exponent < 0:
        return divide(ONE, integer_power(a, -exponent))
    if not (a.contains(0) and exponent):
        return a**exponent
    root = integer_power(a, exponent // 2)  # Arb itself gives NaN where a ball holds 0
    return root * root * a if exponent % 2 else root * root


def sign(a: Ball) -> Ball:
    """−1, 0 or 1."""
    return NAN if a.is_nan() else ONE if is_less(ZERO, a) else -ONE if is_less(a, ZERO) else ZERO


def floor(a: Ball) -> Ball:
    """The largest integer that is not above a."""
    if not a.is_finite():
        return a
    low, high = a.lower().floor(), a.upper().floor()
    if low.is_exact() and is_equal(low, high):
        return low
    raise Undecided


def ceil(a: Ball) -> Ball:
    """The smallest integer that is not below a."""
    return -floor(-a)


def truncate(a: Ball) -> Ball:
    """The integer part."""
    return floor(a) if is_at_most(ZERO, a) else ceil(a)


def round_to_even(a: Ball) -> Ball:
    """The nearest integer, and of two the even one."""
    if not a.is_finite():
        return a
    up = floor(a + HALF)
    return up - ONE if is_equal(up - a, HALF) and whole(up) % 2 else up


def round_away(a: Ball) -> Ball:
    """The nearest integer, and of two the one further from zero."""
    return floor(a + HALF) if is_at_most(ZERO, a) else ceil(a - HALF)


def remainder(a: Ball, b: Ball) -> Ball:
    """a − b·trunc(a / b), with the sign of a."""
    if not b.is_finite() and a.is_finite() and not b.is_nan():
        return a
    quotient = divide(a, b)
    return a - b * truncate(quotient) if quotient.is_finite() else NAN


def logistic(a: Ball) -> Ball:
    """1 / (1 + exp(−a))."""
    return divide(ONE, ONE + exp(-a))


def cube_root(a: Ball) -> Ball:
    """The real cube root."""
    if not a.is_finite() or a.is_zero():
        return a
    return (abs(a)).root(3) * sign(a)


def log_gamma(a: Ball) -> Ball:
    """log |Γ(a)|."""
    if not a.is_finite():
        return abs(a)
    if a.is_exact() and a.is_integer() and not a > 0:
        return INF
    found = a.lgamma() if a > 0 else abs(a.gamma()).log()
    if found.is_finite():
        return found
    raise Undecided


def digamma(a: Ball) -> Ball:
    """d log Γ(a) / d a."""
    found = a.digamma()
    if found.is_finite():
        return found
    if not a.is_exact() and not a.is_nan():
        raise Undecided
    return INF if a > 0 else NAN


def angle(y: Ball, x: Ball) -> Ball:
    """atan2(y, x)."""
    if y.is_nan() or x.is_nan():
        return NAN
    if not y.is_finite() and not x.is_finite():
        y, x = sign(y), sign(x)
    found = arb.atan2(y, x)
    return found if found.is_finite() else limit(np.arctan2)(y, x)


def periodic(function: Callable[[Ball], Ball]) -> Callable[[Ball], Ball]:
    """A trigonometric function: NaN at infinities."""

    def of_ball(a: Ball) -> Ball:
        if not a.is_finite():
            return NAN
        found = function(a)
        if found.is_finite():
            return found
        raise Undecided

    return of_ball


ROUNDINGS = {"TO_NEAREST_EVEN": round_to_even, "AWAY_FROM_ZERO": round_away}

_acos = total(arb.acos, limit(np.arccos, [-1.0, 1.0]))
exp = total(arb.exp, limit(np.exp))
_log = total(arb.log, limit(np.log))

# by the name of the primitive of JAX; each of as many balls as it takes
FUNCTIONS: dict[str, Callable[..., Ball]] = {
    "neg": operator.neg,
    "abs": abs,
    "sign": sign,
    "add": operator.add,
    "add_any": operator.add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
    "rem": remainder,
    "max": larger,
    "min": smaller,
    "pow": power,
    "square": lambda a: a * a,
    "one_minus_square": lambda a: ONE - a * a,
    "sqrt": total(arb.sqrt, limit(np.sqrt)),
    "rsqrt": total(arb.rsqrt, limit(lambda x: np.divide(1, np.sqrt(x)))),
    "cbrt": cube_root,
    "exp": exp,
    "exp2": lambda a: exp(a * TWO.log()),
    "expm1": total(arb.expm1, limit(np.expm1)),
    "log": _log,
    "log2": lambda a: divide(_log(a), TWO.log()),
    "log1p": total(arb.log1p, limit(np.log1p, [-1.0])),
    "logistic": logistic,
    "tanh": total(arb.tanh, limit(np.tanh)),
    "sinh": total(arb.sinh, limit(np.sinh)),
    "cosh": total(arb.cosh, limit(np.cosh)),
    "asinh": total(arb.asinh, limit(np.arcsinh)),
    "acosh": total(arb.acosh, limit(np.arccosh, [1.0])),
    "atanh": total(arb.atanh, limit(np.arctanh, [-1.0, 1.0])),
    "sin": periodic(arb.sin),
    "cos": periodic(arb.cos),
    "tan": periodic(arb.tan),
    "asin": total(arb.asin, limit(np.arcsin, [-1.0, 1.0])),
    "acos": lambda a: ZERO if a.is_exact() and a == ONE else _acos(a),
    "atan": arb.atan,
    "atan2": angle,
    "erf": total(arb.erf, limit(special.erf)),
    "erfc": total(arb.erfc, limit(special.erfc)),
    "erf_inv": total(arb.erfinv, limit(special.erfinv, [-1.0, 1.0])),
    "lgamma": log_gamma,
    "digamma": digamma,
    "floor": floor,
    "ceil": ceil,
}
