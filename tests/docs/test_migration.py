"""docs/migration.md says the truth: each call of its tables, theirs and ours, gives the numbers beside it."""

import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import jaxce

os.environ.setdefault("KERAS_BACKEND", "jax")

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
SHARED, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
TITLES = ["optax", "PyTorch", "Keras and TensorFlow", "scikit-learn"]


def python_blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def rows(text, columns):
    """The cells of every line of tables with so many columns, but for headings; of calls, without backticks."""
    lines = (
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ") and "`" in line
    )
    return [[cell.strip("`") for cell in cells] for cells in lines if len(cells) == columns]


def arrays():
    """The arrays of the page, in float32 as JAX has them."""
    scope = {}
    exec(python_blocks(SHARED)[0], scope)
    return {
        name: array.astype(np.float32) if array.dtype == np.float64 else array
        for name, array in scope.items()
        if isinstance(array, np.ndarray)
    }


def ours(call):
    scope = {name: jnp.asarray(array) for name, array in arrays().items()}
    exec(python_blocks(SHARED)[1], scope)
    return np.ravel(eval(call, scope))


def theirs(title, call):
    (imports,) = python_blocks(next(text for text in SECTIONS if text.startswith(title)))
    scope = {"jax": jax, "jnp": jnp}
    try:
        exec(imports, scope)
    except ImportError as missing:
        pytest.skip(f"{missing.name} is not installed")
    as_theirs = {"PyTorch": lambda a: scope["torch"].tensor(a), "scikit-learn": np.asarray}.get(
        title, jnp.asarray
    )
    scope |= {name: as_theirs(array) for name, array in arrays().items()}
    with jax.numpy_rank_promotion("allow"):
        return np.ravel(eval(call, scope))


def check(result, cell):
    """What the page shows, but for the last digit."""
    assert_allclose(result, [float(word) for word in cell.split()], rtol=1.001e-3)


SAME = [(text.partition("\n")[0], *cells) for text in SECTIONS for cells in rows(text, 4)]
DIFFERENT = [(text.partition("\n")[0], *cells) for text in SECTIONS for cells in rows(text, 5)]
each_same = pytest.mark.parametrize(
    ("title", "their_call", "our_call", "gives"),
    [pytest.param(title, *calls, id=f"{title}: {what}") for title, what, *calls in SAME],
)
each_different = pytest.mark.parametrize(
    ("title", "their_call", "they_give", "our_call", "we_give"),
    [pytest.param(title, *cells, id=f"{title}: {why}") for title, *cells, why in DIFFERENT],
)


def test_the_page_has_tables_for_every_library():
    assert [text.partition("\n")[0] for text in SECTIONS] == TITLES
    assert [sum(row[0] == title for row in SAME) for title in TITLES] == [13, 21, 17, 7]
    assert [sum(row[0] == title for row in DIFFERENT) for title in TITLES] == [7, 6, 4, 1]


@each_same
def test_our_call_gives_the_numbers_of_the_page(title, their_call, our_call, gives):
    check(ours(our_call), gives)


@pytest.mark.slow
@each_same
@pytest.mark.filterwarnings("ignore")  # theirs
def test_their_call_gives_the_numbers_of_ours(title, their_call, our_call, gives):
    assert_allclose(theirs(title, their_call), ours(our_call), rtol=2e-5, atol=1e-7)


@each_different
def test_where_the_numbers_differ_ours_are_those_of_the_page(title, their_call, they_give, our_call, we_give):
    if we_give == "ValueError":
        with pytest.raises(ValueError, match=r"labels (holds|has shape)"):
            ours(our_call)
    else:
        check(ours(our_call), we_give)
    assert they_give != we_give


@pytest.mark.slow
@each_different
@pytest.mark.filterwarnings("ignore")
def test_where_the_numbers_differ_theirs_are_those_of_the_page(title, their_call, they_give, our_call, we_give):
    check(theirs(title, their_call), they_give)


def test_smoothing_over_the_other_classes_is_converted_as_the_page_says():
    assert "`label_smoothing=ε * V / (V - 1)`" in SHARED
    scope, epsilon = arrays(), 0.1
    z, y, num_classes = scope["z"], scope["y"], scope["z"].shape[1]
    off = epsilon / (num_classes - 1)
    targets = np.where(np.arange(num_classes) == y[:, None], 1 - epsilon, off)
    found = jaxce.softmax_cross_entropy_with_integer_labels(
        z, y, label_smoothing=epsilon * num_classes / (num_classes - 1)
    )
    assert_allclose(found, jaxce.softmax_cross_entropy(z, targets.astype(np.float32)), rtol=1e-5)
