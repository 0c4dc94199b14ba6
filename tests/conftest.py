"""What tests share: no accidental broadcasting, random numbers seeded by test, and the command as a process."""

import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)  # virtual ones, for meshes


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def float64() -> Iterator[None]:
    """Numbers that must be equal are compared where rounding explains no difference."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without jaxtyping's checks of signatures, so that a mistake reaches jaxce's own."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def caches(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command(tmp_path, caches):
    """Arguments and settings of a process that runs `python -m jaxce` in an empty folder."""

    def build(*args, **changes):
        settings = {
            "XDG_CACHE_HOME": str(caches),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "COLUMNS": "120",
        }
        return {
            "args": [sys.executable, "-m", "jaxce", *args],
            "cwd": tmp_path,
            "env": os.environ | settings | changes,
            "text": True,
        }

    return build


@pytest.fixture
def jaxce(command):
    return lambda *args, **changes: subprocess.run(
        **command(*args, **changes), capture_output=True, check=False
    )


@pytest.fixture(scope="session")
def browser():
    """Path of a Chromium. pip cannot install one; without, the tests that read the pages' markup still run."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    return pytest.skip("no Chromium, which pip cannot install (Debian: apt-get install chromium)")
