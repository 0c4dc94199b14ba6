"""Importing the laboratory changes nothing of the process that imports it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import importlib, logging, os, pkgutil, signal, sys, threading, warnings

# What they change as they are imported is their own.
libraries = "jax flax.linen optax orbax.checkpoint grain tensorflow_datasets sklearn matplotlib.figure optuna"
libraries +=  " sqlalchemy alembic.config tensorboardX tyro rich.live jinja2 PIL.Image"
for name in libraries.split():
    importlib.import_module(name)
import jax, matplotlib
from jax.experimental import multihost_utils

def state():
    found = {name: value for name, value in jax.config.values.items()}
    for name, logger in [("root", logging.root), *logging.root.manager.loggerDict.items()]:
        if isinstance(logger, logging.Logger) and not name.startswith("jaxce"):
            found[f"logger {name}"] = logger.level, logger.disabled, logger.propagate, tuple(logger.handlers)
    for hook in ("excepthook", "unraisablehook", "displayhook"):
        found[f"sys.{hook}"] = getattr(sys, hook)
    found["threading.excepthook"] = threading.excepthook
    found["warnings.filters"] = list(warnings.filters)
    found["signals"] = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    found["environment"] = dict(os.environ)
    found["matplotlib"] = dict(matplotlib.rcParams)
    return found

before = state()
import jaxce.lab
for module in pkgutil.walk_packages(jaxce.lab.__path__, "jaxce.lab."):
    importlib.import_module(module.name)
after = state()
changed = {name for name in before if before[name] != after[name]}
silenced = {name for name in after.keys() - before.keys() if after[name][0] != logging.NOTSET}
print(len(sys.modules), sorted(changed | silenced))
"""


def test_importing_the_laboratory_has_no_global_effect():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.endswith(" []\n"), done.stdout + done.stderr
