"""The worked example of CONTRIBUTING.md, word for word: it works, it verifies, and an error in it is found."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = "generalized_cross_entropy"
BLOCKS = re.findall(
    r"^```python\n# (jaxce/\S+)\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S
)


@pytest.fixture
def copy(tmp_path):
    """A copy of the package with the loss of CONTRIBUTING.md in it."""
    shutil.copytree(ROOT / "jaxce", tmp_path / "jaxce", ignore=shutil.ignore_patterns("__pycache__", "lab"))
    for path, text in BLOCKS:
        file = tmp_path / path
        file.write_text(f"{file.read_text()}\n\n{text}")
    file = tmp_path / "jaxce/losses/softmax.py"
    file.write_text(file.read_text().replace("__all__ = [", f'__all__ = ["{NAME}",', 1))
    return tmp_path


def run(copy, code):
    settings = os.environ | {"PYTHONPATH": str(copy), "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=copy, env=settings, capture_output=True, text=True, check=False)


VERIFY = f"""
import jaxce
from jaxce.verification.suite import verify_setting
for found in verify_setting(jaxce.LOSSES["{NAME}"], {{}}, "float64", thorough=False):
    print("right" if found.check.ok else "wrong", found.check)
"""


def test_the_example_has_a_formula_and_a_loss():
    assert [path for path, _ in BLOCKS] == ["jaxce/losses/definitions.py", "jaxce/losses/softmax.py"]


@pytest.mark.slow
def test_the_loss_of_the_example_verifies(copy):
    found = run(copy, VERIFY)
    assert found.stdout.count("right ") >= 5, found.stderr
    assert "wrong " not in found.stdout


def test_the_loss_of_the_example_has_all_that_is_promised(copy):
    found = run(
        copy,
        f"""
import doctest, inspect, jax, jax.numpy as jnp, jaxce
f = jaxce.{NAME}
z, y = jnp.array([[0.0, -20.0, 1.0], [1.0, 2.0, 3.0]]), jnp.array([2, 9])
value, grad = f.value_and_grad(z, y, ignore_index=9)
assert (value[1] == 0) and (grad[1] == 0).all() and (grad == f.grad(z, y, ignore_index=9)).all()
assert (f(z.T, y, axis=0, ignore_index=9) == value).all()
assert inspect.signature(f).parameters["q"].default == 0.7
assert f.record.formula == "(1 − p_y^q) / q, p = softmax(z)" and f.record.source.startswith("Zhang")
globs = {{"jnp": jnp, "{NAME}": f}}
for test in doctest.DocTestFinder(recurse=False).find(f, globs=globs):
    assert doctest.DocTestRunner().run(test) == (0, 1)
try:
    f(z, jnp.array([0, 1]), q=2.0)
except ValueError as error:
    print(error)
""",
    )
    assert found.stdout.strip() == "q is 2.0, but must lie in [0.001, 1]", found.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("jnp.exp(-q * p.nll)[..., None] * p.grad", "-jnp.exp(-q * p.nll)[..., None] * p.grad"),
        pytest.param(
            "return -jnp.expm1(-q * p.nll) / q", "return -jnp.expm1(-q * p.nll)", marks=pytest.mark.slow
        ),
    ],
    ids=["the gradient's sign", "a factor of the value"],
)
def test_verification_finds_a_planted_error(copy, right, wrong):
    file = copy / "jaxce/losses/softmax.py"
    assert right in file.read_text()
    file.write_text(file.read_text().replace(right, wrong))
    assert "wrong " in run(copy, VERIFY).stdout
