"""What tests of sweeps share: a small grid, and the rows that a sweep wrote."""

import json
from dataclasses import replace

from jaxce.lab.config import load_config
from jaxce.lab.sweep.plan import Plan

IRIS = replace(load_config("iris"), epochs=3)


def grid(*over, base=IRIS):
    return Plan("iris", base, over, "grid", None, False, "accuracy")


def rows_in(workdir):
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]
