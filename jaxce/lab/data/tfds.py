"""TensorFlow Datasets by name: prepared once, then read from random-access files, without TensorFlow."""

import contextlib
import io
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jax
import numpy as np

from jaxce.lab.data.examples import Part, Source, Stream, check_held, fits
from jaxce.lab.data.split import Dataset, Split
from jaxce.lab.errors import ConfigError, TrainingError, quiet

PARTS = ("train", "validation", "test")
SECONDS_TO_ANSWER = 8.0


def tfds(name: str, split: Split, folder: Path | None = None) -> Dataset:
    """The data set that TensorFlow Datasets calls `name`, its own validation and test parts where it has them.

    It is downloaded and prepared on first use. Bytes become [0, 1]. What is too large for a device stays on
    disk, as a stream, but for valid and test.

    Args:
        name: As `tensorflow_datasets.builder` takes it, with configuration and version if need be.
        split: How much of train is held out for the parts that it has not.
        folder: Where prepared data sets lie; None for TFDS_DATA_DIR or, where that is not set,
            ~/tensorflow_datasets.

    Raises:
        ConfigError: There is no such data set, or it is none of inputs of one shape with one class each.
        TrainingError: It is not there and cannot be fetched, or TensorFlow is needed to prepare it.
    """
    # tensorflow_datasets prints remarks for its developers.
    with quiet("absl"), contextlib.redirect_stdout(io.StringIO()):
        builder = find(name, folder)
        inputs, label = check_features(name, builder.info)
        if not builder.is_prepared():
            prepare(name, builder)
        try:
            sources = builder.as_data_source()
        except (NotImplementedError, ValueError) as error:
            raise ConfigError(
                f"tfds:{name} lies in {builder.data_dir} in a form without random access: move it away, or set "
                f"TFDS_DATA_DIR to another folder, and it is prepared again"
            ) from error
        unread = {part: unread_part(sources[part], inputs, label) for part in PARTS if part in sources}
        classes = tuple(builder.info.features[label].names)
        if fits(unread["train"]):
            check_held(f"tfds:{name}", **unread)
            return Dataset(*three({part: rows.read() for part, rows in unread.items()}, split), classes)
        train, valid, test = three(unread, split)
        check_held(f"tfds:{name}", valid=valid, test=test)
        return Dataset(train, valid.read(), test.read(), classes)


def three(parts: dict[str, Part], split: Split) -> tuple[Part, Part, Part]:
    """Train, valid and test, of the parts that a data set comes with."""
    train = parts["train"]
    if len(parts) == 1:
        return split.divide(train)
    if "test" not in parts:
        train, parts["test"] = split.hold_out(train, "test")
    if "validation" not in parts:
        train, parts["validation"] = split.hold_out(train, "valid")
    return train, parts["validation"], parts["test"]


def find(name: str, folder: Path | None) -> Any:
    """The builder of that name, or ConfigError."""
    import tensorflow_datasets
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    try:
        return tensorflow_datasets.builder(name, data_dir=folder, file_format="array_record")
    except DatasetNotFoundError as error:
        raise ConfigError(
            f"TensorFlow Datasets has no data set {name!r}: its names are on tensorflow.org/datasets/catalog"
        ) from error
    except ValueError as error:  # a configuration or version that it has not, or one prepared in another form
        raise ConfigError(f"tfds:{name} cannot be had: {str(error).strip().splitlines()[0]}") from error


def check_features(name: str, info: Any) -> tuple[str, str]:
    """The names of inputs and label, or ConfigError where they are not of the kind that we train on."""
    from tensorflow_datasets import features

    keys = info.supervised_keys
    if keys is None or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise ConfigError(
            f"tfds:{name} does not say what is input and what is label: give one for classification"
        )
    inputs, label = (info.features[key] for key in keys)
    if not isinstance(label, features.ClassLabel):
        raise ConfigError(f"tfds:{name} has labels of type {type(label).__name__}, but must have ClassLabel")
    if not isinstance(inputs, features.Image | features.Tensor) or None in inputs.shape or not inputs.shape:
        raise ConfigError(
            f"tfds:{name} has inputs of type {type(inputs).__name__} and shape {inputs.shape}: give numbers or "
            f"pictures of one size"
        )
    if "train" not in info.splits and info.splits:
        raise ConfigError(f"tfds:{name} has no part to train on, only {', '.join(info.splits)}")
    return keys[0], keys[1]


def prepare(name: str, builder: Any) -> None:
    """Download the data set and write it as random-access files, once and for all, or raise TrainingError."""
    import tensorflow_datasets

    urls = list(builder.url_infos or ())
    if urls and not answers(urls[0]):
        raise TrainingError(
            f"cannot download tfds:{name}: nobody answers at {urlsplit(urls[0]).hostname}; connect to a "
            f"network, or copy a prepared {name} to {builder.data_dir}"
        )
    if not sys.stderr.isatty():
        tensorflow_datasets.disable_progress_bar()
    # Its bucket holds prepared copies in a form without random access.
    config = tensorflow_datasets.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
    except ImportError as error:
        module = missing(error)
        raise TrainingError(
            f"tfds:{name} needs {module} to be prepared, once, and then no more: pip install {module}, or copy "
            f"a prepared {name} to {builder.data_dir}"
        ) from error
    except Exception as error:  # anything: a download, a disk, and what its own code may do wrong
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(f"cannot prepare tfds:{name}: {type(error).__name__}: {reason}") from error


def missing(error: BaseException) -> str:
    """The package whose import failed: tensorflow_datasets wraps the error in words of its own.

    >>> missing(ModuleNotFoundError("No module named 'cv2.dnn'", name="cv2.dnn"))
    'cv2'
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return (getattr(error, "name", None) or "tensorflow").partition(".")[0]


def unread_part(source: Any, inputs: str, label: str) -> Stream:
    """One part; of its examples, only their shape is known."""
    count, shape = len(source), source.dataset_info.features[inputs].shape

    def row(i: int) -> tuple[Any, Any]:
        stored = source[i]
        return stored[inputs], stored[label]

    return Stream(
        Source(count, row),
        jax.ShapeDtypeStruct((count, *shape), np.float32),
        jax.ShapeDtypeStruct((count,), np.int32),
    )


def answers(url: str) -> bool:
    """Whether a server does, with whatever status, within SECONDS_TO_ANSWER: one question in place of the many
    that libraries ask where there is no network.
    """
    import requests  # tensorflow_datasets brings it

    found = []

    def ask() -> None:
        with contextlib.suppress(requests.exceptions.RequestException):
            found.append(requests.head(url, timeout=SECONDS_TO_ANSWER))

    # Looking a name up has a time limit of its own, which requests does not know.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_ANSWER)
    return bool(found)
