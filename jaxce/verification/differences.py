"""Central differences in float64 that know how far they can be trusted."""

from collections.abc import Callable

import numpy as np

OFFSETS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)


def central(
    function: Callable[[np.ndarray], np.ndarray],
    at: np.ndarray,
    move: np.ndarray | float,
    size: np.ndarray | float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The change of `function` for each `move` of its argument, over `size`, in the limit of small moves.

    Args:
        function: From an array like `at` to values.
        at: Where.
        move: One step of the argument.
        size: Length of the step, of the values' shape: the derivative along `move` is what results.

    Returns:
        The five-point rule's derivatives, and how much each changed when the step was halved: near a kink, or
        where rounding drowns the difference, that is much.
    """
    values = {k: np.asarray(function(at + k * move), np.float64) for k in OFFSETS}

    def five_points(h: float) -> np.ndarray:
        return (8 * (values[h] - values[-h]) - (values[2 * h] - values[-2 * h])) / (12 * h * size)

    coarse, fine = five_points(1.0), five_points(0.5)
    return fine, np.abs(fine - coarse)
