"""Train a model: `python train.py [CONFIG] [--flags]`, the same as `jaxce train`.

CONFIG is a name in configs/ or the path of a .py file; left out, it is `digits`. `--help` lists every
flag with its meaning. The steps, top to bottom (`train` in jaxce/cli.py):

1. The config becomes one frozen value (jaxce/lab/config.py), changed by the flags (jaxce/lab/flags.py).
2. Its data set becomes arrays, split into train, valid and test (jaxce/lab/data).
3. `make_train` turns it into pure functions (jaxce/lab/training/step.py).
4. The loop calls them and writes config.json, metrics.jsonl, summary.json and checkpoints/ into the
   working folder (jaxce/lab/training/loop.py).
"""

import sys

from jaxce.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("train", sys.argv[1:], prog="train.py"))
