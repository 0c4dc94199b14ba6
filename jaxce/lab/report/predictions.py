"""predictions.npz: what a run predicted for the test part, written and read."""

import io
from pathlib import Path

import numpy as np

from jaxce.lab.errors import ConfigError
from jaxce.lab.files import write_whole
from jaxce.lab.tasks import TASKS, Predictions, Task

NUM_SHOWN = 12


def save_predictions(workdir: Path, task: Task, found: Predictions) -> None:
    """Write `workdir`/predictions.npz: what the task keeps of these predictions, and the inputs of the hardest.

    Raises:
        OSError: It could not be written; what stood there before is still there.
    """
    found = task.keep(found)
    found = found._replace(outputs=found.outputs.astype(np.float32).reshape(len(found.labels), -1))
    shown = task.hardest(found, NUM_SHOWN)
    file = io.BytesIO()
    np.savez_compressed(
        file,
        kind=np.array(task.kind),
        outputs=found.outputs,
        labels=found.labels,
        classes=np.array(found.classes, str),
        shown=shown,
        inputs=found.inputs[shown],
    )
    write_whole(workdir / "predictions.npz", file.getvalue())


def load_predictions(workdir: Path, loss: str) -> tuple[Task, Predictions] | None:
    """What `save_predictions` wrote, and the task that it came from; None where there is no file.

    Raises:
        ConfigError: The file is damaged.
    """
    path = workdir / "predictions.npz"
    if not path.exists():
        return None
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in ("outputs", "labels", "inputs", "shown")}
            found = Predictions(classes=tuple(map(str, stored["classes"])), **arrays)
            return TASKS[stored["kind"].item()].of_predictions(loss, found), found
    except Exception as error:  # NumPy and zipfile raise half a dozen kinds at a damaged file
        raise ConfigError(f"{path} is damaged ({error}): remove it to report on the run without it") from error
