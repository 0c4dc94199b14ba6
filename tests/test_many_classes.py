"""examples/many_classes.py as people start it, with few classes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "many_classes.py"


@pytest.mark.parametrize("way", [("--sample", "600"), ("--devices", "2")], ids=["sampled", "class-parallel"])
def test_classes_are_named_after_a_few_steps(way):
    command = [sys.executable, str(EXAMPLE), "--classes", "2000", "--steps", "5", *way]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLE.parents[1]), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    before, after = (
        float(percent) for percent in re.findall(r"accuracy (?:before|after 5 steps): ([\d.]+)%", done.stdout)
    )
    assert before < 2
    assert after > 60  # of classes that have been seen in training, most have by then
    assert "MiB of temporary memory" in done.stdout
