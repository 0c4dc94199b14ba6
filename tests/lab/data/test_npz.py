"""A user's own arrays: what fits becomes a task, and every way in which they do not fit has its sentence."""

import json

import numpy as np
import pytest

from jaxce.cli import run_command
from jaxce.lab.config import Config
from jaxce.lab.data import Split, load
from jaxce.lab.errors import ConfigError
from jaxce.lab.training.loop import run

SPLIT = Split(valid_fraction=0.2, test_fraction=0.2, seed=0)
N = 40
CLASSES = np.arange(N) % 4
VECTORS = np.random.default_rng(0).normal(size=(N, 3))
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 8, 6), dtype=np.uint8)


def saved(folder, **arrays):
    path = folder / "mine.npz"
    np.savez(path, **arrays)
    return str(path)


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def all_inputs(dataset):
    return np.concatenate([part.inputs for part in (dataset.train, dataset.valid, dataset.test)])


def test_images_of_bytes_become_fractions_with_a_channel_axis(tmp_path):
    dataset = load(saved(tmp_path, images=IMAGES, labels=CLASSES), SPLIT)
    found = all_inputs(dataset)
    assert found.shape == (N, 8, 6, 1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.sort(found.ravel()), np.sort(IMAGES.ravel()) / np.float32(255))
    assert dataset.classes == ("0", "1", "2", "3")
    assert len(dataset.test.labels) == 8
    colours = np.repeat(IMAGES[..., None], 3, axis=-1)
    assert load(saved(tmp_path, images=colours, labels=CLASSES), SPLIT).train.inputs.shape == (24, 8, 6, 3)


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (CLASSES.astype(np.uint8), "class", ("0", "1", "2", "3")),
        (np.eye(4, dtype=bool)[CLASSES], "set", ("0", "1", "2", "3")),
        (np.eye(4)[CLASSES], "set", ("0", "1", "2", "3")),
        (VECTORS[:, 0], "number", ()),
    ],
)
def test_labels_decide_the_task_and_stay_with_their_inputs(labels, kind, classes, tmp_path):
    dataset = load(saved(tmp_path, inputs=VECTORS, labels=labels), SPLIT)
    assert (dataset.labels, dataset.classes) == (kind, classes)
    expected = {row.tobytes(): label for row, label in zip(VECTORS.astype(np.float32), labels, strict=True)}
    for part in (dataset.train, dataset.valid, dataset.test):
        for row, label in zip(part.inputs, part.labels, strict=True):
            np.testing.assert_allclose(label, expected[row.tobytes()], rtol=1e-6)


def test_names_of_classes_may_be_more_than_there_are_examples_of(tmp_path):
    path = saved(tmp_path, inputs=VECTORS, labels=CLASSES, classes=["cat", "dog", "emu", "fox", "gnu"])
    assert load(path, SPLIT).classes == ("cat", "dog", "emu", "fox", "gnu")


MISFITS = {
    "no labels": ({"inputs": VECTORS}, "holds inputs, but must hold either inputs or images, and labels"),
    "other names": (
        {"x": VECTORS, "y": CLASSES},
        "holds x, y, but must hold either inputs or images, and labels",
    ),
    "both": ({"inputs": VECTORS, "images": IMAGES, "labels": CLASSES}, "must hold either inputs or images"),
    "nothing": ({}, "holds nothing, but must hold"),
    "objects": (
        {"inputs": np.array([[1], [2, 3]], object), "labels": CLASSES},
        "holds an array of Python objects: give numbers only",
    ),
    "integer inputs": (
        {"inputs": VECTORS.astype(int), "labels": CLASSES},
        "inputs in .* have dtype int64: give",
    ),
    "text inputs": ({"inputs": VECTORS.astype(str), "labels": CLASSES}, "inputs in .* have dtype <U32: give"),
    "complex inputs": ({"inputs": VECTORS + 0j, "labels": CLASSES}, "inputs in .* have dtype complex128: give"),
    "one number an input": (
        {"inputs": VECTORS[:, 0], "labels": CLASSES},
        r"inputs in .* have shape \(40,\): give \[N, ...\], one row an example",
    ),
    "flat images": (
        {"images": VECTORS, "labels": CLASSES},
        r"images in .* have shape \(40, 3\): give \[N, H, W\] or \[N, H, W, C\]",
    ),
    "no pixels": ({"images": IMAGES[:, :0], "labels": CLASSES}, r"are empty: their shape is \(40, 0, 6, 1\)"),
    "a NaN": (
        {"inputs": changed(VECTORS, (3, 2), np.nan), "labels": CLASSES},
        r"hold 1 values that are not finite in float32, the first inputs\[3, 2\] = nan: mend them",
    ),
    "an infinity": (
        {"inputs": changed(VECTORS, (slice(5, 7), 0), -np.inf), "labels": CLASSES},
        r"hold 2 values that are not finite in float32, the first inputs\[5, 0\] = -inf",
    ),
    "too large for float32": (
        {"inputs": changed(VECTORS, (0, 0), 1e39), "labels": CLASSES},
        r"the first inputs\[0, 0\] = 1e\+39",
    ),
    "fewer labels": (
        {"inputs": VECTORS, "labels": CLASSES[1:]},
        r"inputs in .* have shape \(40, 3\), but labels \(39,\): give one label to each of 40 examples",
    ),
    "one label": ({"inputs": VECTORS, "labels": np.array(3)}, r"but labels \(\): give one label to each"),
    "labels in a cube": (
        {"inputs": VECTORS, "labels": np.zeros((N, 2, 2), int)},
        r"labels in .* have shape \(40, 2, 2\): give \[N\], one class or number an example, or \[N, C\]",
    ),
    "labels as text": (
        {"inputs": VECTORS, "labels": CLASSES.astype(str)},
        "labels in .* have dtype <U21: give whole numbers, 0 for the first class",
    ),
    "a NaN label": (
        {"inputs": VECTORS, "labels": changed(VECTORS[:, 0], 7, np.nan)},
        r"labels in .* hold 1 values that are not finite in float32, the first labels\[7\] = nan",
    ),
    "labels from one": (
        {"inputs": VECTORS, "labels": CLASSES + 1},
        r"must count from 0 to 3, for there are 4 different labels, but labels\[3\] = 4",
    ),
    "a negative label": (
        {"inputs": VECTORS, "labels": changed(CLASSES, 9, -1)},
        r"must count from 0 to 4, for there are 5 different labels, but labels\[9\] = -1",
    ),
    "a label beyond the names": (
        {"inputs": VECTORS, "labels": CLASSES, "classes": ["a", "b", "c"]},
        r"must count from 0 to 2, for there are 3 names in classes, but labels\[3\] = 3",
    ),
    "a label beyond int32": (
        {"inputs": VECTORS, "labels": changed(CLASSES.astype(np.uint64), 0, 2**63)},
        rf"must count from 0 to 4, .* but labels\[0\] = {2**63}",
    ),
    "a name twice": (
        {"inputs": VECTORS, "labels": CLASSES, "classes": ["a", "b", "a", "c"]},
        "classes in .* have a name twice: a, b, a, c; give each its own",
    ),
    "a lonely class": (
        {"inputs": VECTORS, "labels": changed(CLASSES, slice(0, 2), 4)},
        "have class 4 2 times only: give 3 examples or more of each",
    ),
    "a set that holds two": (
        {"inputs": VECTORS, "labels": changed(np.eye(4)[CLASSES], (6, 1), 2)},
        r"sets of classes, 0 or 1 each, but labels\[6, 1\] = 2.0: give 0 and 1, or a class number each, \[N\]",
    ),
    "names that are not the columns": (
        {"inputs": VECTORS, "labels": np.eye(4)[CLASSES], "classes": ["a"]},
        "but there are 1 names in classes: give a column to each",
    ),
    "too few for the parts": (
        {"inputs": VECTORS[:12], "labels": CLASSES[:12]},
        "leave 2 of 12 examples for valid, too few for one of each of 4 classes",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_arrays_that_do_not_fit_are_told_in_one_sentence(misfit, tmp_path):
    arrays, sentence = MISFITS[misfit]
    with pytest.raises(ConfigError, match=sentence) as told:
        load(saved(tmp_path, **arrays), SPLIT)
    assert "\n" not in str(told.value)


def damaged(path, change):
    path.write_bytes(change(bytearray(path.read_bytes())))


FILES = {
    "none": (lambda path: path.unlink(), "cannot read .*mine.npz: No such file or directory"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot read .*mine.npz: Is a directory"),
    "empty": (lambda path: path.write_bytes(b""), "is no whole .npz file: write it with numpy.savez"),
    "text": (lambda path: path.write_text("a,b\n1,2\n"), "is no whole .npz file"),
    "one array": (
        lambda path: path.write_bytes(npy_bytes(path.parent)),
        "holds one array without a name: write it with numpy.savez",
    ),
    "cut short": (lambda path: damaged(path, lambda data: data[: len(data) // 2]), "is no whole .npz file"),
    "a byte changed": (
        lambda path: damaged(path, lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:]),
        "is no whole .npz file",
    ),
}


def npy_bytes(folder):
    np.save(folder / "one.npy", VECTORS)
    return (folder / "one.npy").read_bytes()


@pytest.mark.parametrize("file", FILES)
def test_what_is_no_npz_file_is_told_in_one_sentence(file, tmp_path):
    spoil, sentence = FILES[file]
    saved(tmp_path, inputs=VECTORS, labels=CLASSES)
    spoil(tmp_path / "mine.npz")
    with pytest.raises(ConfigError, match=sentence):
        load(str(tmp_path / "mine.npz"), SPLIT)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            [],
            "error: model cnn with 2 stages needs images [H, W, C] of 4x4 pixels or more, but",
        ),
        (["--model", "mlp", "--label-smoothing", "None", "--loss", "squared_error"], None),
        (["--model", "linear", "--batch-size", "8"], None),
    ],
)
def test_the_front_door_trains_on_them(flags, line, tmp_path, capsys):
    path = saved(tmp_path, inputs=VECTORS, labels=CLASSES)
    flags = [
        "--data",
        path,
        "--epochs",
        "2",
        "--valid-fraction",
        ".2",
        "--workdir",
        str(tmp_path / "run"),
        *flags,
    ]
    status = run_command("train", flags, "train.py")
    if line:
        assert status == 2
        assert capsys.readouterr().err.startswith(line)
        assert not (tmp_path / "run").exists()
    else:
        assert status == 0
        assert json.loads((tmp_path / "run" / "summary.json").read_text())["config"]["data"] == path
        assert (tmp_path / "run" / "report.html").exists()


def test_sets_and_numbers_are_trained_on_with_losses_that_fit(tmp_path):
    of_sets = saved(tmp_path, inputs=VECTORS, labels=np.eye(4)[CLASSES])
    tiny = {"model": "linear", "valid_fraction": 0.2, "epochs": 1}
    with pytest.raises(ConfigError, match=r"does not fit data .*, where a label is a set: there fit sigmoid"):
        run(Config(data=of_sets, **tiny), tmp_path / "run")
    summary = run(Config(data=of_sets, loss="sigmoid_binary_cross_entropy", **tiny), tmp_path / "run")
    assert 0 < summary["test"]["mAP"] <= 1
    of_numbers = saved(tmp_path, inputs=VECTORS, labels=VECTORS[:, 0])
    assert "r2" in run(Config(data=of_numbers, loss="squared_error", **tiny), tmp_path / "numbers")["test"]


def test_a_name_that_is_none_says_that_a_path_fits_too():
    with pytest.raises(ConfigError, match=r"unknown data 'mine.npy'; there are: .*, PATH\.npz$"):
        Config(data="mine.npy")
