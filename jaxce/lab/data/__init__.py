"""Where examples come from: functions from a split to arrays, and DATASETS, the one list of them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from jaxce.lab.data.bundled import digits, house_prices, iris, regression, tumor
from jaxce.lab.data.canvases import multilabel
from jaxce.lab.data.captcha import captcha
from jaxce.lab.data.examples import Examples, Stream, check_held, fits, stream
from jaxce.lab.data.npz import npz
from jaxce.lab.data.open_set import open_set
from jaxce.lab.data.planted import many_classes
from jaxce.lab.data.split import Dataset, Split
from jaxce.lab.data.tfds import tfds

DATASETS: dict[str, Callable[[Split], Dataset]] = {
    "digits": digits,
    "tumor": tumor,
    "iris": iris,
    "regression": regression,
    "house_prices": house_prices,
    "captcha": captcha,
    "multilabel": multilabel,
    "open_set": open_set,
    "many_classes": many_classes,
    "mnist": partial(tfds, "mnist"),
    "fashion_mnist": partial(tfds, "fashion_mnist"),
    "cifar10": partial(tfds, "cifar10"),
}

TFDS = "tfds:"
NPZ = ".npz"
NAMES = (*DATASETS, f"{TFDS}NAME", f"PATH{NPZ}")
"""What `load` can be asked for."""


def is_data(name: str) -> bool:
    """Whether `name` is in DATASETS, or says where examples are; not whether they are there.

    >>> [is_data(name) for name in ("digits", "digit", "tfds:kmnist", "mine/arrays.npz")]
    [True, False, True, True]
    """
    return name in DATASETS or (name.startswith(TFDS) and name != TFDS) or name.endswith(NPZ)


def load(name: str, split: Split) -> Dataset:
    """The data set of that name in DATASETS or, after `tfds:`, in TensorFlow Datasets; or an .npz file's.

    Its train part is a stream where it is too large for a device.

    Raises:
        ConfigError: Its valid or test part is too large for a device; or what the data set itself raises.
    """
    if name in DATASETS:
        dataset = DATASETS[name](split)
    elif name.startswith(TFDS):
        dataset = tfds(name.removeprefix(TFDS), split)
    else:
        dataset = npz(Path(name), split)
    check_held(name, valid=dataset.valid, test=dataset.test)
    if isinstance(dataset.train, Stream) or fits(dataset.train):
        return dataset
    return replace(dataset, train=stream(dataset.train))


__all__ = ["DATASETS", "NAMES", "Dataset", "Examples", "Split", "Stream", "is_data", "load"]
