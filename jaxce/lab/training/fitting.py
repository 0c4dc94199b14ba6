"""Which objective fits a config and the labels of its data, and what does not fit them."""

from jax.sharding import Mesh

import jaxce
from jaxce.lab.config import TRAINABLE_LOSSES, Config
from jaxce.lab.data import Dataset, LabelKind
from jaxce.lab.errors import ConfigError
from jaxce.lab.training.objective import (
    EmbeddingObjective,
    NumberObjective,
    Objective,
    SequenceObjective,
    SetObjective,
)

# What kinds of a loss's labels can be made of a data set's.
FITTING: dict[LabelKind, tuple[str, ...]] = {
    "class": ("integer", "distribution", "binary", "real"),
    "sequence": ("integer", "distribution", "binary", "real"),
    "set": ("binary",),
    "number": ("real",),
}


def make_objective(config: Config, dataset: Dataset, mesh: Mesh | None = None) -> Objective:
    """The objective that fits the data set's labels, with the config's loss.

    Args:
        config: The loss, its head and their options.
        dataset: What the labels are.
        mesh: Devices with the axes `batch` and `classes`; None for one device.

    Raises:
        ConfigError: The loss, or another setting, does not fit the labels.
    """
    fitting = [name for name in TRAINABLE_LOSSES if jaxce.LOSSES[name].labels in FITTING[dataset.labels]]
    if config.loss not in fitting:
        raise ConfigError(
            f"loss {config.loss} does not fit data {config.data}, where a label is a {dataset.labels}: "
            f"there fit {', '.join(fitting)}"
        )
    if config.joint_softmax and dataset.labels != "sequence":
        raise ConfigError(f"joint_softmax is for several labels an example; data {config.data} has one")
    num_classes = len(dataset.classes)
    if dataset.labels == "sequence":
        length = dataset.train.labels.shape[1]
        return SequenceObjective(config.loss, num_classes, length, config.joint_softmax)
    if config.head is not None or dataset.unseen or config.num_sampled is not None or config.class_devices > 1:
        if dataset.labels != "class" or jaxce.LOSSES[config.loss].labels != "integer":
            wanting = f"head {config.head}" if config.head or dataset.unseen else "num_sampled or class_devices"
            raise ConfigError(
                f"{wanting} on data {config.data} needs labels that are class numbers, and a loss of them, not "
                f"{config.loss}"
            )
        check_classes(config, num_classes)
        takes_degree = config.head is not None and isinstance(jaxce.LOSSES[config.head].options["margin"], int)
        degree = int(config.margin) if takes_degree and config.margin is not None else None
        parallel = None if mesh is None or mesh.size == 1 else jaxce.ClassParallel(mesh, "classes", "batch")
        return EmbeddingObjective(
            config.loss,
            num_classes,
            config.embedding_width,
            config.head,
            degree,
            bool(dataset.unseen),
            config.num_sampled,
            parallel,
        )
    return {"class": Objective, "set": SetObjective, "number": NumberObjective}[dataset.labels](
        config.loss, num_classes
    )


def check_classes(config: Config, num_classes: int) -> None:
    """Raise ConfigError where so many classes can be neither spread nor sampled as the config says."""
    devices, sample = config.class_devices, config.num_sampled
    if num_classes % devices:
        raise ConfigError(
            f"{num_classes} classes of data {config.data} cannot be spread evenly over class_devices = "
            f"{devices}"
        )
    if sample is None:
        return
    least = devices * min(config.batch_size or num_classes, num_classes // devices)
    if sample % devices or not least <= sample <= num_classes:
        raise ConfigError(
            f"num_sampled must be a multiple of class_devices = {devices}, from {least}, for a batch's labels "
            f"may all differ, to the {num_classes} classes of data {config.data}; not {sample}"
        )
