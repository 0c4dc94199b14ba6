import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sklearn

from jaxce.lab.data import DATASETS, Examples, Split, captcha, multilabel, open_set
from jaxce.lab.data import generated as generation
from jaxce.lab.data.canvases import draw_canvases
from jaxce.lab.data.captcha import draw_captchas
from jaxce.lab.data.generated import generate
from jaxce.lab.errors import ConfigError, TrainingError

ROOT = Path(__file__).parents[3]
SPLIT = Split(0.1, 0.2, seed=0)
SHAPES = {"digits": (1797, (8, 8, 1), 10), "tumor": (569, (30,), 2), "iris": (150, (4,), 3)}


@pytest.fixture(scope="module")
def datasets():
    return {name: DATASETS[name](SPLIT) for name in [*SHAPES, "regression"]}


@pytest.mark.parametrize("name", SHAPES)
def test_a_data_set_is_arrays_of_the_promised_shapes_and_types(name, datasets):
    count, shape, classes = SHAPES[name]
    dataset = datasets[name]
    parts = [dataset.train, dataset.valid, dataset.test]
    assert [len(part.labels) for part in parts[1:]] == [round(0.1 * count), round(0.2 * count)]
    assert sum(len(part.labels) for part in parts) == count
    assert len(dataset.classes) == classes
    for part in parts:
        assert part.inputs.shape == (len(part.labels), *shape)
        assert part.inputs.dtype == np.float32
        assert part.labels.dtype == np.int32
        assert set(part.labels) == set(range(classes))


def test_digits_are_grey_levels_the_right_way_up(datasets):
    images = datasets["digits"].train.inputs
    assert images.min() == 0
    assert images.max() == 1
    zeros = images[datasets["digits"].train.labels == 0].mean(0)[..., 0]
    assert zeros[3:5, 3:5].max() < 0.2 < 0.5 < zeros[3, [2, 5]].min()


def test_regression_has_real_targets_in_their_own_unit(datasets):
    dataset = datasets["regression"]
    assert dataset.labels == "number"
    assert dataset.train.inputs.shape == (310, 10)
    assert dataset.train.labels.dtype == np.float32
    assert 100 < dataset.train.labels.mean() < 200


@pytest.mark.parametrize("name", ["tumor", "iris", "regression"])
def test_features_are_standardized_by_the_train_part_alone(name, datasets):
    dataset = datasets[name]
    np.testing.assert_allclose(dataset.train.inputs.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(dataset.train.inputs.std(0), 1, rtol=1e-5)
    assert abs(dataset.test.inputs.mean(0)).max() > 0.01


def california(rng):
    """What scikit-learn downloads, but for the numbers: 20,640 districts, features alike in part."""
    features = rng.normal(size=(20_640, 8)) @ rng.normal(size=(8, 8)) + 3
    prices = features @ rng.normal(size=8) + rng.normal(size=20_640)
    return sklearn.utils.Bunch(data=features, target=prices)


def test_house_prices_are_standardized_numbers(monkeypatch, rng):
    monkeypatch.setattr(sklearn.datasets, "fetch_california_housing", lambda **_: california(rng))
    dataset = DATASETS["house_prices"](SPLIT)
    assert dataset.labels == "number"
    assert dataset.train.inputs.shape == (14_448, 8)
    assert dataset.train.labels.dtype == np.float32
    np.testing.assert_allclose(dataset.train.inputs.std(0), 1, rtol=1e-5)


def test_house_prices_without_a_network_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # takes no connection
    started = time.perf_counter()
    with pytest.raises(
        TrainingError, match=r"^cannot download the Californian house prices: nobody answers at"
    ):
        DATASETS["house_prices"](SPLIT)
    assert time.perf_counter() - started < 15


NUMBERED = Examples(np.arange(1000.0), np.repeat([0, 1], [800, 200]))


def test_a_split_is_a_partition_with_each_input_beside_its_label():
    parts = Split(0.1, 0.2, seed=0).divide(NUMBERED)
    np.testing.assert_array_equal(np.sort(np.concatenate([part.inputs for part in parts])), NUMBERED.inputs)
    for part in parts:
        np.testing.assert_array_equal(part.labels, part.inputs >= 800)


def test_a_split_keeps_the_proportions_of_the_classes():
    for seed in range(5):
        sizes = [(len(part.labels), part.labels.sum()) for part in Split(0.1, 0.2, seed).divide(NUMBERED)]
        assert sizes == [(700, 140), (100, 20), (200, 40)]


@pytest.mark.parametrize(
    ("valid", "test", "part"), [(0.001, 0.2, "valid"), (0.1, 0.001, "test"), (0.5, 0.499, "train")]
)
def test_a_part_too_small_for_the_classes_is_named(valid, test, part):
    with pytest.raises(ConfigError, match=f"leave 1 of 1000 examples for {part}, too few for one of each of 2"):
        Split(valid, test, seed=0).divide(NUMBERED)


def test_a_seed_names_one_split():
    def test_part(**changes):
        return (
            Split(**{"valid_fraction": 0.1, "test_fraction": 0.2, "seed": 0} | changes)
            .divide(NUMBERED)[2]
            .inputs
        )

    np.testing.assert_array_equal(test_part(), test_part())
    np.testing.assert_array_equal(test_part(), test_part(valid_fraction=0.4))
    assert not np.array_equal(test_part(), test_part(seed=1))


def test_numbers_and_sequences_are_divided_without_strata():
    rows = np.arange(1000.0)
    for labels in (rows, np.stack([rows.astype(int) % 10, rows.astype(int) % 7], 1)):
        parts = Split(0.1, 0.2, seed=0).divide(Examples(rows, labels))
        assert [len(part.labels) for part in parts] == [700, 100, 200]
        for part in parts:
            np.testing.assert_array_equal(part.labels, labels[part.inputs.astype(int)])
    with pytest.raises(ConfigError, match="leave 0 of 1000 examples for valid, which needs one"):
        Split(0.0001, 0.2, seed=0).divide(Examples(rows, rows))


# Generated examples


def squares(numbers):
    return {"squares": np.array(numbers) ** 2}


def never(numbers):
    raise AssertionError("drawn again")


def test_what_was_drawn_is_kept_under_its_settings(tmp_path):
    first = generate("squares", squares, 5, {"seed": 0}, tmp_path)
    np.testing.assert_array_equal(first["squares"], [0, 1, 4, 9, 16])
    again = generate("squares", never, 5, {"seed": 0}, tmp_path)
    np.testing.assert_array_equal(again["squares"], first["squares"])
    for count, settings in [(5, {"seed": 1}), (4, {"seed": 0}), (5, {"seed": 0, "size": 1})]:
        with pytest.raises(AssertionError, match="drawn again"):
            generate("squares", never, count, settings, tmp_path)


@pytest.mark.slow
def test_tasks_side_by_side_give_the_rows_of_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generation, "EXAMPLES_A_TASK", 3)
    drawn = generate("squares", squares, 10, {}, tmp_path)
    np.testing.assert_array_equal(drawn["squares"], np.arange(10) ** 2)
    assert "drawing 10 squares" in capsys.readouterr().out


def test_a_damaged_file_is_drawn_again_and_mended(tmp_path):
    generate("squares", squares, 5, {}, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"not a zip", whole[:40] + b"?!?!" + whole[44:]):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(generate("squares", squares, 5, {}, tmp_path)["squares"][-1], 16)
        generate("squares", never, 5, {}, tmp_path)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").touch()
    np.testing.assert_array_equal(generate("squares", squares, 2, {}, tmp_path / "file")["squares"], [0, 1])


KILLED = """
import sys
from pathlib import Path
import numpy as np
from jaxce.lab.data.generated import write
print("writing", flush=True)
write(Path(sys.argv[1]), {"rows": np.random.default_rng(0).integers(256, size=200_000_000, dtype=np.uint8)})
"""


def test_a_killed_generation_leaves_no_file_that_counts(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "rows.npz")], env=environment, stdout=subprocess.PIPE
    )
    with process:
        process.stdout.readline()
        while not any(path.stat().st_size for path in tmp_path.iterdir()):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]


def test_captchas_are_pictures_of_their_digits_centred(tmp_path):
    dataset = captcha(SPLIT, count=40, cache=tmp_path)
    assert dataset.labels == "sequence"
    parts = [dataset.train, dataset.valid, dataset.test]
    assert [part.inputs.shape for part in parts] == [(n, 30, 80, 1) for n in (28, 4, 8)]
    assert [part.labels.shape for part in parts] == [(n, 4) for n in (28, 4, 8)]
    images = np.concatenate([part.inputs for part in parts])
    np.testing.assert_allclose([images.mean(), images.std()], [0, 1], atol=1e-5)
    assert np.median(images) > 0  # paper is light and covers most
    assert {int(label) for part in parts for label in part.labels.ravel()} == set(range(10))


def test_a_captcha_depends_on_its_number_and_seed_alone():
    import captcha.image

    random.seed(1)
    both = draw_captchas(range(3, 5), seed=0)
    random.seed(2)
    second = draw_captchas(range(4, 5), seed=0)
    for key, rows in both.items():
        np.testing.assert_array_equal(rows[1:], second[key])
    assert not np.array_equal(both["images"][0], both["images"][1])
    assert not np.array_equal(draw_captchas(range(4, 5), seed=1)["images"], second["images"])
    assert captcha.image.secrets is secrets


def test_canvases_hold_the_digits_that_their_labels_say(datasets):
    digits = datasets["digits"].valid
    drawn = draw_canvases(SPLIT, "valid", range(60))
    assert set(drawn["labels"].sum(1)) == {1, 2, 3, 4}
    for image, label in zip(drawn["images"], drawn["labels"], strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, (8, 8)).reshape(-1, 64)
        shown = {
            int(of)
            for ink, of in zip(digits.inputs.reshape(-1, 64), digits.labels, strict=True)
            if (windows == ink).all(1).any()
        }
        # Boxes may overlap where there is no ink, so a digit may be seen with some of its neighbour's ink.
        assert shown <= set(np.flatnonzero(label))
    ink = drawn["images"].sum((1, 2))
    assert np.corrcoef(ink, drawn["labels"].sum(1))[0, 1] > 0.8


def test_canvases_of_the_parts_share_no_digit(tmp_path):
    dataset = multilabel(SPLIT, (30, 10, 20), tmp_path)
    assert [part.inputs.shape for part in (dataset.train, dataset.valid, dataset.test)] == [
        (n, 20, 20, 1) for n in (30, 10, 20)
    ]
    assert dataset.labels == "set"
    alone = {}
    for name in ("train", "test"):
        drawn = draw_canvases(SPLIT, name, range(60))
        canvases = drawn["images"][drawn["labels"].sum(1) == 1]
        alone[name] = [image[image.any(1)][:, image.any(0)].tobytes() for image in canvases]
        assert len(alone[name]) > 5
    assert not set(alone["train"]) & set(alone["test"])


def test_unseen_numbers_are_in_no_other_part():
    dataset = open_set(SPLIT)
    assert len(dataset.classes) == 70
    assert set(dataset.train.labels) == set(range(70))
    assert set(dataset.valid.labels) == set(range(80))
    assert set(dataset.test.labels) == {*range(70), *range(80, 100)}
    assert sorted(dataset.classes + dataset.unseen) == [f"{number:02}" for number in range(100)]


def test_a_number_is_written_with_digits_of_its_own_part(datasets):
    dataset, digits = open_set(SPLIT), datasets["digits"]
    names = dataset.classes + dataset.unseen
    for part in ("train", "valid", "test"):
        source, drawn = getattr(digits, part), getattr(dataset, part)
        digit_of = {image.tobytes(): int(of) for image, of in zip(source.inputs, source.labels, strict=True)}
        assert drawn.inputs.shape[1:] == (8, 16, 1)
        for image, label in list(zip(drawn.inputs, drawn.labels, strict=True))[::7]:
            shown = [digit_of[np.ascontiguousarray(half).tobytes()] for half in np.split(image, 2, axis=1)]
            assert "".join(map(str, shown)) == names[label]


def test_a_split_seed_names_one_open_set():
    first, again = open_set(SPLIT), open_set(SPLIT)
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)
    other = open_set(Split(0.1, 0.2, seed=1))
    assert set(other.classes) != set(first.classes)
