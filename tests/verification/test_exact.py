"""The truth in arithmetic of many digits, and the error relative to it."""

import mpmath
import numpy as np
import pytest

from jaxce.verification import formulas
from jaxce.verification.exact import Example, error, truth


@pytest.mark.parametrize(
    ("logits", "loss"),
    [([0, -20], 2.0611536203e-9), ([1e4, 1e4 - 5], 0.00671534849), ([0, -80], 1.80485139e-35)],
)
def test_the_truth_of_the_tiny_losses_of_the_specification(logits, loss):
    found = truth(
        Example(formulas.softmax_cross_entropy_with_integer_labels, np.float32(logits), (0,), {}), 1e-38
    )
    assert float(found.values[0]) == pytest.approx(loss, rel=1e-8)
    assert [float(entry) for entry in found.jacobian[0]] == pytest.approx([-loss, loss], rel=1e-2)


def test_the_truth_of_log_one_minus_p_has_all_its_digits_far_out():
    found = truth(Example(formulas.asymmetric_loss, np.float32(9000), (np.float32(0),), {"clip": 0}), 1e-38)
    assert float(found.values[0]) == pytest.approx(9000, rel=1e-12)


def test_there_is_no_derivative_at_a_kink_and_zero_at_a_minimum():
    found = truth(Example(lambda m, x, y: abs(x - y), np.float32(1), (np.float32(1),), {}), 1e-38)
    assert np.isnan(float(found.jacobian[0][0]))
    found = truth(Example(lambda m, x, y: (x - y) ** 2, np.float32(1), (np.float32(1),), {}), 1e-38)
    assert found.jacobian[0][0] == 0


def test_an_error_is_relative_to_the_truth_unless_parts_cancel():
    assert error(1.1, mpmath.mpf(1), lambda: 0, 1e-5, 1e-38) == pytest.approx(0.1)
    assert error(1e-9, mpmath.mpf(0), lambda: mpmath.mpf(1), 1e-5, 1e-38) == pytest.approx(1e-9)
    assert error(float("nan"), mpmath.mpf(0), lambda: mpmath.mpf(1), 1e-5, 1e-38) == float("inf")
    assert error(0.0, mpmath.mpf("1e-39"), lambda: 0, 1e-5, 1e-38) == 0


def test_the_parts_of_met_targets_are_large_of_hard_labels_small():
    definition = formulas.softmax_cross_entropy
    met = truth(Example(definition, np.zeros(2, "f"), (np.float32([0.5, 0.5]),), {}), 1e-38)
    assert met.jacobian[0][0] == 0
    assert float(met.parts_of_entry(0, 0)) == pytest.approx(0.5)
    hard = truth(Example(definition, np.float32([0, -20]), (np.float32([1, 0]),), {}), 1e-38)
    assert float(hard.parts_of_entry(0, 0)) == pytest.approx(
        2 * 2.0611536e-9
    )  # itself, and 20 times a twentieth
