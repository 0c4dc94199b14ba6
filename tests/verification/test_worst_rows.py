"""docs/worst_rows.py: it finds what is wrong, and the page says where."""

import pytest

import jaxce
from docs import worst_rows
from jaxce.verification.checks import Check


def test_the_search_finds_rows_that_are_wrong(monkeypatch):
    name = "softmax_cross_entropy_with_integer_labels"
    honest = worst_rows.search(name, 5)
    assert 0 < honest.value.error < 84
    assert honest.rows >= 5 * worst_rows.ROWS

    def inexact(*args, **options):
        value, grad = right(*args, **options)
        return 1.0001 * value, grad

    record = jaxce.LOSSES[name]
    right = record.value_and_grad
    monkeypatch.setitem(jaxce.LOSSES, name, type(record)(**{**vars(record), "value_and_grad": inexact}))
    found = worst_rows.search(name, 5)
    assert 800 < found.value.error < 900
    assert found.gradient.error < 84


def test_the_page_has_every_loss_and_where_it_errs():
    worst = worst_rows.Worst(
        Check("value", 1.25, 84, "largest at [0], of inputs [1. 2.]"), Check("gradient", 0, 84), 7
    )
    page = worst_rows.page({"brier_score": worst})
    assert "| `brier_score` | 7 | 1.25 | 0.00 | [1. 2.] | – |" in page
    written = worst_rows.PAGE.read_text(encoding="utf-8")
    for name in worst_rows.NAMES:
        assert f"| `{name}` |" in written


@pytest.mark.slow
@pytest.mark.parametrize("name", worst_rows.NAMES)
def test_no_row_of_few_is_wrong(name):
    found = worst_rows.search(name, 30)
    assert found.value.error <= 84
    assert found.gradient.error <= 84
