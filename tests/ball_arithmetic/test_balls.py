"""Functions of balls enclose those of the numbers in them, however wide the balls are, whatever they hold."""

import itertools

import pytest
from flint import arb, ctx

from jaxce.ball_arithmetic.balls import FUNCTIONS, Undecided, integer_power

MIDPOINTS = (0, 1, -1, 0.5, 2, -3.5, 1e30)
RADII = (1e-40, 1e-3, 1, 10, 1e31)
POWERS = {f"power {n}": lambda a, n=n: integer_power(a, n) for n in (-3, -2, -1, 1, 2, 3, 7)}
ALL = {**FUNCTIONS, **POWERS}
BINARY = ("add", "add_any", "sub", "mul", "div", "rem", "max", "min", "pow", "atan2")


def value(function, *balls):
    """The result; None where more digits are needed, or there are no such numbers."""
    try:
        return function(*balls)
    except (Undecided, OverflowError):
        return None


@pytest.mark.parametrize("name", ALL)
def test_a_ball_encloses_what_its_numbers_give(name):
    balls = list(itertools.product(MIDPOINTS, RADII))
    with ctx.workprec(120):
        for several in itertools.product(balls, repeat=2 if name in BINARY else 1):
            found = value(ALL[name], *itertools.starmap(arb, several))
            if found is None:
                continue
            points = itertools.product(*([mid - radius, mid, mid + radius] for mid, radius in several))
            of_points = [value(ALL[name], *map(arb, point)) for point in points]
            numbers = [each for each in of_points if each is not None and not each.is_nan()]
            assert all(map(found.overlaps, numbers)), (several, found)
            assert numbers or found.is_nan(), (several, found)
            assert not (numbers and found.is_nan()), several
