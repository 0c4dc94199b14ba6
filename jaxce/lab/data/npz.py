"""A user's own arrays, from a file that `numpy.savez` wrote; what does not fit is named."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxce.lab.data.examples import Examples
from jaxce.lab.data.split import Dataset, Split
from jaxce.lab.errors import ConfigError

HOW = "numpy.savez(path, inputs=..., labels=...)"


def npz(path: Path, split: Split) -> Dataset:
    """The arrays `inputs` [N, ...], or `images` [N, H, W] or [N, H, W, C], and `labels` of an .npz file.

    Floats are taken as they are; uint8 becomes [0, 1]. What the labels are decides the task:

    - whole numbers [N]: a class each, counted from 0. Each class has examples, unless an array `classes` [C]
      of names says how many there are.
    - 0 and 1, or False and True, [N, C]: the set of classes that are there.
    - floats [N]: a number each, for squared error.

    Raises:
        ConfigError: There is no such file, or the arrays in it do not fit; the message says what would.
    """
    arrays = read(path)
    names = [name for name in ("inputs", "images") if name in arrays]
    if len(names) != 1 or "labels" not in arrays:
        raise ConfigError(
            f"{path} holds {', '.join(arrays) or 'nothing'}, but must hold either inputs or images, and "
            f"labels: write it with {HOW}"
        )
    inputs = check_inputs(path, names[0], arrays[names[0]])
    labels = arrays["labels"]
    if labels.ndim == 0 or len(inputs) != len(labels):
        raise ConfigError(
            f"{names[0]} in {path} have shape {arrays[names[0]].shape}, but labels {labels.shape}: "
            f"give one label to each of {len(inputs)} examples"
        )
    classes = tuple(map(str, arrays["classes"].ravel())) if "classes" in arrays else ()
    if len(set(classes)) < len(classes):
        raise ConfigError(f"classes in {path} have a name twice: {', '.join(classes)}; give each its own")
    if labels.ndim == 1 and np.issubdtype(labels.dtype, np.floating):
        labels = finite(path, "labels", labels)
        return Dataset(*split.divide(Examples(inputs, labels)), classes=(), labels="number")
    if labels.ndim == 2:
        labels = check_sets(path, labels, classes)
        names_of_classes = classes or tuple(map(str, range(labels.shape[1])))
        return Dataset(*split.divide(Examples(inputs, labels)), classes=names_of_classes, labels="set")
    labels = check_classes(path, labels, classes)
    names_of_classes = classes or tuple(map(str, range(labels.max() + 1)))
    return Dataset(*split.divide(Examples(inputs, labels)), classes=names_of_classes)


def read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file, by name."""
    try:
        with path.open("rb") as file:  # of a path, NumPy would leave a damaged file open
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise ConfigError(f"{path} holds one array without a name: write it with {HOW}")
            return dict(arrays)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise ConfigError(f"{path} holds an array of Python objects: give numbers only") from error
        raise ConfigError(f"{path} is no whole .npz file: write it with {HOW}") from error


def check_inputs(path: Path, name: str, inputs: np.ndarray) -> np.ndarray:
    """The inputs as float32, images with an axis for colours."""
    if not (np.issubdtype(inputs.dtype, np.floating) or inputs.dtype == np.uint8):
        raise ConfigError(f"{name} in {path} have dtype {inputs.dtype}: give floats, or uint8 from 0 to 255")
    if name == "images" and inputs.ndim == 3:
        inputs = inputs[..., None]
    if inputs.ndim != 4 if name == "images" else inputs.ndim < 2:
        shape = "[N, H, W] or [N, H, W, C]" if name == "images" else "[N, ...], one row an example"
        raise ConfigError(f"{name} in {path} have shape {inputs.shape}: give {shape}")
    if not inputs.size:
        raise ConfigError(f"{name} in {path} are empty: their shape is {inputs.shape}")
    return finite(path, name, inputs) / np.float32(255 if inputs.dtype == np.uint8 else 1)


def finite(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    """The values as float32, all finite."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused
        bad = np.argwhere(~np.isfinite(values.astype(np.float32)))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ConfigError(
            f"{name} in {path} hold {len(bad)} values that are not finite in float32, the first "
            f"{name}[{', '.join(map(str, place))}] = {values[place]}: mend them, or leave those examples out"
        )
    return values.astype(np.float32)


def check_sets(path: Path, labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """The labels as int32, 0 or 1 for each class."""
    wrong = np.argwhere((labels != 0) & (labels != 1))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise ConfigError(
            f"labels in {path} have shape {labels.shape}, so they are sets of classes, 0 or 1 each, but "
            f"labels[{', '.join(map(str, place))}] = {labels[place]}: give 0 and 1, or a class number each, [N]"
        )
    if classes and len(classes) != labels.shape[1]:
        raise ConfigError(
            f"labels in {path} have shape {labels.shape}, but there are {len(classes)} names in classes: "
            f"give a column to each"
        )
    return labels.astype(np.int32)


def check_classes(path: Path, labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """The labels as int32, a class each."""
    if labels.ndim != 1:
        raise ConfigError(
            f"labels in {path} have shape {labels.shape}: give [N], one class or number an example, or "
            f"[N, C], 0 or 1 for each class"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(
            f"labels in {path} have dtype {labels.dtype}: give whole numbers, 0 for the first class, or floats "
            f"to predict numbers"
        )
    count = len(classes) or len(np.unique(labels))
    outside = np.flatnonzero((labels < 0) | (labels >= count))
    if outside.size:
        has = f"{count} names in classes" if classes else f"{count} different labels"
        raise ConfigError(
            f"labels in {path} must count from 0 to {count - 1}, for there are {has}, but "
            f"labels[{outside[0]}] = {labels[outside[0]]}"
        )
    sizes = np.bincount(labels.astype(int))
    few = np.flatnonzero((sizes > 0) & (sizes < 3))
    if few.size:
        raise ConfigError(
            f"labels in {path} have class {few[0]} {sizes[few[0]]} times only: give 3 examples or more of "
            f"each, for train, valid and test to have one"
        )
    return labels.astype(np.int32)
