import contextlib
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image
from tensorflow_datasets import features

from jaxce.lab.data import Split, tfds
from jaxce.lab.errors import ConfigError, TrainingError

ROOT = Path(__file__).parents[3]
SPLIT = Split(0.1, 0.2, seed=0)
PIXELS = {"image": features.Image(shape=(8, 8, 1)), "label": features.ClassLabel(names=["dark", "light"])}


class Shapes(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
    """Pictures of one grey level, 2n + 150 (n mod 2); the label says which of both."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")
    shown: ClassVar = PIXELS
    keys: ClassVar = ("image", "label")
    parts: ClassVar = {"train": range(40), "test": range(40, 50)}

    def _info(self):
        described = features.FeaturesDict(self.shown)
        return tensorflow_datasets.core.DatasetInfo(builder=self, features=described, supervised_keys=self.keys)

    def _split_generators(self, dl_manager):
        return {part: self._generate_examples(numbers) for part, numbers in self.parts.items()}

    def _generate_examples(self, numbers):
        for number in numbers:
            picture = np.full((8, 8), 2 * number + 150 * (number % 2), np.uint8)
            yield number, {"image": Image.fromarray(picture), "label": number % 2}


class OurShapes(Shapes):
    pass


class OurValidShapes(Shapes):
    parts: ClassVar = {"train": range(40), "validation": range(40, 44), "test": range(44, 50)}


class OurTrainShapes(Shapes):
    parts: ClassVar = {"train": range(50)}


class OurVectors(Shapes):
    shown: ClassVar = {"image": features.Tensor(shape=(3,), dtype=np.float32), "label": PIXELS["label"]}

    def _generate_examples(self, numbers):
        for number in numbers:
            yield number, {"image": np.full(3, number / 8, np.float32), "label": number % 2}


class OurArrays(Shapes):
    """NumPy pictures, as mnist has them: only TensorFlow can write these."""

    def _generate_examples(self, numbers):
        for number in numbers:
            yield number, {"image": np.zeros((8, 8, 1), np.uint8), "label": 0}


class OurOffline(Shapes):
    """From an address that no name server knows (RFC 2606)."""

    @property
    def url_infos(self):
        return {"https://data.invalid/pictures.zip": None}


class OurPoint(Shapes):
    shown: ClassVar = {**PIXELS, "label": features.Scalar(dtype=np.float32)}


class OurSizes(Shapes):
    shown: ClassVar = {**PIXELS, "image": features.Image(shape=(None, None, 3))}


class OurUnsupervised(Shapes):
    keys: ClassVar = None


class OurFaulty(Shapes):
    def _generate_examples(self, numbers):
        yield 0, {"image": Image.new("L", (8, 8)), "label": 17}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


def numbers_of(part):
    """Which examples these are, from their grey levels."""
    level = np.rint(255 * part.inputs[:, 0, 0, 0]).astype(int)
    return (level - 150 * part.labels) // 2


def test_pictures_come_scaled_with_labels_and_own_test_part(folder):
    dataset = tfds("our_shapes", SPLIT, folder)
    assert dataset.classes == ("dark", "light")
    parts = [dataset.train, dataset.valid, dataset.test]
    assert [part.inputs.shape for part in parts] == [(36, 8, 8, 1), (4, 8, 8, 1), (10, 8, 8, 1)]
    assert [part.labels.dtype for part in parts] == [np.int32] * 3
    assert all(part.inputs.dtype == np.float32 for part in parts)
    assert sorted(numbers_of(dataset.test)) == list(range(40, 50))
    assert sorted([*numbers_of(dataset.train), *numbers_of(dataset.valid)]) == list(range(40))
    for part in parts:
        np.testing.assert_array_equal(part.labels, numbers_of(part) % 2)
        assert set(part.labels) == {0, 1}


def test_a_validation_part_is_used_and_a_missing_one_held_out(folder):
    dataset = tfds("our_valid_shapes", SPLIT, folder)
    assert sorted(numbers_of(dataset.train)) == list(range(40))
    assert sorted(numbers_of(dataset.valid)) == list(range(40, 44))
    assert sorted(numbers_of(dataset.test)) == list(range(44, 50))
    dataset = tfds("our_train_shapes", SPLIT, folder)
    sizes = [len(part.labels) for part in (dataset.train, dataset.valid, dataset.test)]
    assert sizes == [35, 5, 10]


def test_numbers_are_taken_as_they_are(folder):
    train = tfds("our_vectors", SPLIT, folder).train
    assert train.inputs.shape == (36, 3)
    np.testing.assert_array_equal(
        train.labels, 8 * train.inputs[:, 0].astype(int) * 0 + 8 * train.inputs[:, 0] % 2
    )


@pytest.mark.slow
def test_a_prepared_set_is_read_without_its_builder(folder, tmp_path):
    tfds("our_shapes", SPLIT, folder)
    command = [sys.executable, ROOT / "train.py", "digits", "--data", "tfds:our_shapes", "--epochs", "1"]
    command += ["--widths", "2", "4", "--workdir", tmp_path / "run"]
    environment = os.environ | {"TFDS_DATA_DIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


def test_pictures_that_only_tensorflow_can_write_are_refused(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it were not there
    message = (
        r"^tfds:our_arrays needs tensorflow to be prepared, once, and then no more: pip install tensorflow"
    )
    with pytest.raises(TrainingError, match=message):
        tfds("our_arrays", SPLIT, folder)
    assert capsys.readouterr().out == ""


def test_without_a_network_one_line_comes_within_fifteen_seconds(folder):
    started = time.perf_counter()
    message = (
        r"^cannot download tfds:our_offline: nobody answers at data\.invalid; connect to a network, or copy"
    )
    with pytest.raises(TrainingError, match=message):
        tfds("our_offline", SPLIT, folder)
    assert time.perf_counter() - started < 15


def test_a_name_server_that_never_answers_is_not_waited_for(monkeypatch):
    import requests

    module = importlib.import_module("jaxce.lab.data.tfds")
    monkeypatch.setattr(module, "SECONDS_TO_ANSWER", 0.2)
    monkeypatch.setattr(requests, "head", lambda url, timeout: time.sleep(2))
    started = time.perf_counter()
    assert not module.answers("https://data.invalid/")
    assert time.perf_counter() - started < 1.5


def test_mnist_that_cannot_be_fetched_is_one_line(tmp_path):
    # An address that takes no connection, in place of a network that is not there.
    environment = os.environ | {"TFDS_DATA_DIR": str(tmp_path / "data"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, ROOT / "train.py", "mnist", "--workdir", tmp_path / "run"]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert time.perf_counter() - started < 30  # 15 on a machine that does nothing else
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot download tfds:mnist: nobody answers at ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("our_shape", "TensorFlow Datasets has no data set 'our_shape'"),
        ("our_shapes/large", "tfds:our_shapes/large cannot be had: "),
        ("our_point", "tfds:our_point has labels of type Scalar, but must have ClassLabel"),
        (
            "our_sizes",
            "tfds:our_sizes has inputs of type Image and shape (None, None, 3): give numbers or pictures",
        ),
        ("our_unsupervised", "tfds:our_unsupervised does not say what is input and what is label"),
    ],
)
def test_a_data_set_that_does_not_fit_is_told_in_a_sentence(folder, name, message):
    with pytest.raises(ConfigError) as caught:
        tfds(name, SPLIT, folder)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_builder_that_fails_is_told_with_its_reason(folder):
    with pytest.raises(TrainingError, match=r"^cannot prepare tfds:our_faulty: ValueError: .*17") as caught:
        tfds("our_faulty", SPLIT, folder)
    assert "\n" not in str(caught.value)


def test_a_set_prepared_for_tensorflow_alone_is_named(folder, monkeypatch):
    builder = tensorflow_datasets.builder("our_valid_shapes", data_dir=folder)
    with contextlib.suppress(Exception):
        builder.download_and_prepare()
    # What the library raises of files that can only be read in order.
    monkeypatch.setattr(type(builder), "as_data_source", Mock(side_effect=NotImplementedError))
    with pytest.raises(ConfigError, match="in a form without random access: move it away"):
        tfds("our_valid_shapes", SPLIT, folder)
