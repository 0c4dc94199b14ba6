"""A user's own arrays, from a file that `numpy.savez` wrote; each way in which they do not fit has its sentence."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxce.data.split import Dataset, Examples, Split
from jaxce.errors import ConfigError

HOW = "numpy.savez(path, inputs=..., labels=...)"


def npz(path: Path, split: Split) -> Dataset:
    """The arrays `inputs` [N, ...], or `images` [N, H, W] or [N, H, W, C], and `labels` [N] of an .npz file.

    Floats are taken as they are; uint8 becomes [0, 1]. Labels count classes from 0, each of which has an example,
    unless an array `classes` [C] of names says how many there are.

    Raises:
        ConfigError: There is no such file, or the arrays in it do not fit; the message says which and what would.
    """
    arrays = read(path)
    names = [name for name in ("inputs", "images") if name in arrays]
    if len(names) != 1 or "labels" not in arrays:
        raise ConfigError(
            f"{path} holds {in_a_row(arrays)}, but must hold either inputs or images, and labels: write it with {HOW}"
        )
    inputs = check_inputs(path, names[0], arrays[names[0]])
    classes = None if "classes" not in arrays else tuple(map(str, arrays["classes"].ravel()))
    labels = check_labels(path, arrays["labels"], classes)
    if len(inputs) != len(labels):
        raise ConfigError(f"{path} holds {len(inputs)} {names[0]}, but {len(labels)} labels: give one label each")
    return Dataset(
        *split.divide(Examples(inputs, labels)),
        classes=classes or tuple(str(label) for label in range(labels.max() + 1)),
    )


def read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file, by name."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ConfigError(f"{path} holds one array without a name: write it with {HOW}")
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise ConfigError(f"{path} holds an array of Python objects: give numbers, of one shape each") from error
        raise ConfigError(f"{path} is no whole .npz file: write it with {HOW}") from error


def check_inputs(path: Path, name: str, inputs: np.ndarray) -> np.ndarray:
    """The inputs as float32, or ConfigError."""
    if not (np.issubdtype(inputs.dtype, np.floating) or inputs.dtype == np.uint8):
        raise ConfigError(f"{name} in {path} have dtype {inputs.dtype}: give floats, or uint8 from 0 to 255")
    if name == "images" and inputs.ndim == 3:
        inputs = inputs[..., None]
    if inputs.ndim != 4 if name == "images" else inputs.ndim < 2:
        shape = "[N, H, W] or [N, H, W, C]" if name == "images" else "[N, ...], one row an example"
        raise ConfigError(f"{name} in {path} have shape {inputs.shape}: give {shape}")
    if not inputs.size:
        raise ConfigError(f"{name} in {path} are empty: their shape is {inputs.shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and told below
        values = (inputs / 255 if inputs.dtype == np.uint8 else inputs).astype(np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        place = ", ".join(map(str, np.argwhere(bad)[0]))
        raise ConfigError(
            f"{name} in {path} hold {bad.sum()} values that are not finite in float32, the first {name}[{place}] = "
            f"{inputs[tuple(np.argwhere(bad)[0])]}: mend them or leave those examples out"
        )
    return values


def check_labels(path: Path, labels: np.ndarray, classes: tuple[str, ...] | None) -> np.ndarray:
    """The labels as int32, or ConfigError."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(f"labels in {path} have dtype {labels.dtype}: give whole numbers, 0 for the first class")
    if labels.ndim != 1:
        raise ConfigError(f"labels in {path} have shape {labels.shape}: give one class number an example, [N]")
    if not labels.size:
        raise ConfigError(f"labels in {path} are empty")
    present = np.unique(labels)
    count = len(present) if classes is None else len(classes)
    outside = np.flatnonzero((labels < 0) | (labels >= count))
    if outside.size:
        has = f"{count} different labels" if classes is None else f"{count} names in classes"
        raise ConfigError(
            f"labels in {path} must count from 0 to {count - 1}, for there are {has}, "
            f"but labels[{outside[0]}] = {labels[outside[0]]}"
        )
    return labels.astype(np.int32)


def in_a_row(names: dict[str, np.ndarray]) -> str:
    """The names of the arrays that there are.

    >>> in_a_row({"x": np.zeros(1), "y": np.zeros(1)}), in_a_row({})
    ('x, y', 'nothing')
    """
    return ", ".join(names) or "nothing"
