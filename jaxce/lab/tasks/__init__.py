"""What outputs mean, one class a kind of task; TASKS is the one list of them."""

from jax.sharding import Mesh

from jaxce import LOSSES
from jaxce.lab.config import TRAINABLE_LOSSES, Config
from jaxce.lab.data import Dataset
from jaxce.lab.errors import ConfigError
from jaxce.lab.metrics import Metric
from jaxce.lab.tasks.classes import ClassTask
from jaxce.lab.tasks.embedding import MARGIN_SHARE, EmbeddingTask
from jaxce.lab.tasks.numbers import NumberTask
from jaxce.lab.tasks.sequence import SequenceTask
from jaxce.lab.tasks.sets import SetTask
from jaxce.lab.tasks.task import Hyperparams, Predictions, Task, loss_metric

TASKS: dict[str, type[Task]] = {
    task.kind: task for task in (ClassTask, SequenceTask, SetTask, NumberTask, EmbeddingTask)
}


def make_task(config: Config, dataset: Dataset, mesh: Mesh | None = None) -> Task:
    """The task that fits the data set's labels, with the config's loss.

    Args:
        config: The loss, its head and their options.
        dataset: What the labels are.
        mesh: Devices with the axes `batch` and `classes`; None for one device.

    Raises:
        ConfigError: The loss, or another setting, does not fit the labels.
    """
    task = TASKS[dataset.labels]
    fitting = [name for name in TRAINABLE_LOSSES if LOSSES[name].labels in task.losses_of]
    if config.loss not in fitting:
        raise ConfigError(
            f"loss {config.loss} does not fit data {config.data}, where a label is a {dataset.labels}: "
            f"there fit {', '.join(fitting)}"
        )
    if config.head or dataset.unseen or config.num_sampled is not None or config.class_devices > 1:
        if task is not ClassTask or LOSSES[config.loss].labels not in EmbeddingTask.losses_of:
            wanting = f"head {config.head}" if config.head or dataset.unseen else "num_sampled or class_devices"
            raise ConfigError(
                f"{wanting} on data {config.data} needs labels that are class numbers, and a loss of them, not "
                f"{config.loss}"
            )
        task = EmbeddingTask
    return task.of_data(config, dataset, mesh)


def find_metric(name: str, loss: str) -> Metric:
    """The metric of that name in metrics.jsonl or summary.json, without the part, of a run with that loss.

    >>> find_metric("equal_error_rate", "squared_error").larger_is_better
    False
    """
    metrics = [loss_metric(loss), *(metric for task in TASKS.values() for metric in task.reported)]
    return next((each for each in metrics if each.name == name), Metric(name, name.replace("_", " ")))


__all__ = ["MARGIN_SHARE", "TASKS", "Hyperparams", "Predictions", "Task", "find_metric", "make_task"]
