"""report.html and comparison.html: strictly well-formed, self-contained, true to the run, rendered."""

import json
import shlex
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict

import numpy as np
import pytest

from jaxce.cli import run_command
from jaxce.lab import metrics
from jaxce.lab.config import Config, load_config
from jaxce.lab.flags import read_flags
from jaxce.lab.report import charts, embedding
from jaxce.lab.report.comparison import labels_of, write_comparison
from jaxce.lab.report.page import write_report
from jaxce.lab.report.predictions import Predictions, load_predictions, save_predictions
from jaxce.lab.report.run import read_run, repeat_command
from jaxce.lab.training.loop import run

HTML = "{http://www.w3.org/1999/xhtml}"
SOFTMAX, SIGMOID = "softmax_cross_entropy_with_integer_labels", "sigmoid_binary_cross_entropy"
TEN = tuple("0123456789")
# What a page could load, run or follow.
REFERENCES = ("src", "href", "srcset", "data", "action", "poster", "xlink:href")


def strictly_parsed(path):
    """The page as a tree, after checks that hold for every page."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    page = ElementTree.fromstring(text)  # raises at anything that is not well-formed
    for element in page.iter():
        for name in REFERENCES:
            assert element.get(name, "data:").startswith("data:")
        assert not any(name.startswith("on") for name in element.attrib)
        if element.tag == f"{HTML}img":
            assert len(element.get("alt")) > 10
    assert page.find(f".//{HTML}script") is None
    style = page.find(f".//{HTML}style").text
    assert "url(" not in style
    assert "@import" not in style
    assert page.get("lang") == "en"
    return page


def text_of(page):
    return " ".join(" ".join(page.find(f"{HTML}body").itertext()).split())


def titles(page):
    return [each.text for tag in ("h2", "h3") for each in page.iter(f"{HTML}{tag}")]


def make_run(folder, epochs=25, finished=True, test=None, predictions=None, **changes):
    """A run's folder, as the loop writes it, with invented curves."""
    config = Config(**{"epochs": epochs} | changes)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    rows = [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "train_accuracy": 1 - 0.9 / epoch,
            "valid_loss": 2.2 / epoch + epoch / 100,
            "valid_accuracy": 1 - 1 / epoch,
            "grad_norm": 3 / epoch**2,
            "seconds": epoch,
        }
        for epoch in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if predictions is not None:
        save_predictions(folder, predictions[0], config.loss, *predictions[1:])
    if finished:
        summary = {"test": test or {"accuracy": 0.5, "loss": 1.25}, "wall_seconds": 75.0}
        summary |= {"versions": {"jax": "1.2.3"}, "device": {"kind": "abacus", "count": 2}}
        summary["memory"] = {"held": 2_000_000, "temporary": 500_000}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def images(rng, count, channels=1):
    return rng.random((count, 6, 8, channels)).astype(np.float32)


@pytest.fixture
def kinds(tmp_path, rng):
    """A run of each kind of label."""
    classes = rng.integers(0, 10, 60)
    digits = rng.integers(0, 10, (30, 4))
    sets = rng.integers(0, 2, (40, 3))
    sets[:, 2] = 0  # a class that no example has
    numbers = rng.normal(size=50).astype(np.float32)
    found = {
        "class": ("class", images(rng, 60), classes, 3 * np.eye(10)[classes] + rng.normal(size=(60, 10)), TEN),
        "sequence": (
            "sequence",
            images(rng, 30, 3),
            digits,
            3 * np.eye(10)[digits].reshape(30, 40) + rng.normal(size=(30, 40)),
            TEN,
        ),
        "set": ("set", images(rng, 40), sets, sets + rng.normal(size=(40, 3)), ("<cat>", "dog & cow", "emu")),
        "embedding": ("embedding", images(rng, 60), classes, rng.normal(size=(60, 5)), TEN[:7], TEN[7:]),
        "number": ("number", rng.normal(size=(50, 3)), numbers, numbers[:, None] + 0.1, ()),
    }
    losses = {"set": SIGMOID, "number": "squared_error"}
    return {
        kind: make_run(tmp_path / kind, predictions=each, loss=losses.get(kind, SOFTMAX))
        for kind, each in found.items()
    }


SECTIONS = {
    "class": {"Confusions", "The most confident mistakes", "Class by class"},
    "sequence": {"Confusions", "The most confident mistakes", "Class by class"},
    "set": {"ROC curves", "The most confident mistakes", "Class by class"},
    "number": {"Predicted against true"},
    "embedding": {
        "Verification",
        "Cosines of pairs",
        "Two classes, most alike",
        "One class, least alike",
        "Class by class",
    },
}


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_page_is_well_formed_loads_nothing_and_has_the_sections_that_its_labels_allow(kind, kinds):
    assert load_predictions(kinds[kind], read_run(kinds[kind]).config["loss"]).kind == kind
    page = strictly_parsed(write_report(kinds[kind]))
    always = {"How it learned", "Loss", "Accuracy", "Gradient norm", "How it does on the test part", "Settings"}
    shown = {title.partition(":")[0] for title in titles(page)} - {"Right, but barely", "Calibration"}
    assert shown == always | SECTIONS[kind]
    text = text_of(page)
    assert "50 % test accuracy" in text.replace("test accuracy 50 %", "50 % test accuracy")
    assert "2 × abacus" in text
    assert "2.5 MB" in text
    assert "1.2.3" in text
    assert "1 min 15 s" in text


def test_what_runs_leave_is_reported(tmp_path):
    config = load_config("iris")
    summary = run(Config(**asdict(config) | {"epochs": 3}), tmp_path / "run")
    page = strictly_parsed(tmp_path / "run" / "report.html")
    text = text_of(page)
    assert f"{100 * summary['test']['accuracy']:.4g} %" in text
    assert "python -m jaxce train iris --epochs 3" in text
    assert "versicolor" in text
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["grad_norm"] > 0 for row in rows)
    found = load_predictions(tmp_path / "run", config.loss)
    assert found.right.mean() == pytest.approx(summary["test"]["accuracy"])
    loss = -np.log(found.probs[np.arange(30), 0, found.labels]).mean()
    assert loss == pytest.approx(summary["test"]["loss"], rel=1e-5)


def test_an_unfinished_run_is_reported_and_said_to_be_one(tmp_path):
    folder = make_run(tmp_path / "run", finished=False)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:7]) + lines[7][:20])  # killed as it wrote
    text = text_of(strictly_parsed(write_report(folder)))
    assert "Unfinished: 7 of 25 epochs. No test result yet." in text
    (folder / "metrics.jsonl").unlink()
    assert "Unfinished: 0 of 25 epochs" in text_of(strictly_parsed(write_report(folder)))


def test_mistakes_come_first_and_the_most_confident_of_them_first():
    logits = np.log([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3], [0.51, 0.49]])
    found = Predictions("class", SOFTMAX, logits, np.array([0, 0, 0, 0, 0]), ("a", "b"))
    assert found.hardest(4).tolist() == [1, 2, 4, 3]
    np.testing.assert_allclose(found.confidence, [0.9, 0.8, 0.6, 0.7, 0.51], rtol=1e-5)


def test_one_output_for_two_classes_is_the_probability_of_the_second():
    found = Predictions("class", SIGMOID, np.array([[2.0], [-1.0]]), np.array([1, 1]), ("a", "b"))
    np.testing.assert_allclose(found.probs[:, 0, 1], 1 / (1 + np.exp([-2.0, 1.0])), rtol=1e-5)
    assert found.predicted.tolist() == [1, 0]
    assert found.right.tolist() == [True, False]


def test_a_sequence_is_right_where_all_of_it_is():
    outputs = np.eye(3)[[[0, 1], [2, 2]]].reshape(2, 6)
    found = Predictions("sequence", SOFTMAX, outputs, np.array([[0, 1], [2, 1]]), ("a", "b", "c"))
    assert found.predicted.tolist() == [[0, 1], [2, 2]]
    assert found.right.tolist() == [True, False]
    assert found.name(found.predicted[0]) == "ab"


def test_features_are_compared_by_pairs_of_unseen_classes_and_never_taken_for_logits(tmp_path):
    features = np.array([[1.0, 0.0], [5.0, 0.0], [4.0, 3.0], [0.0, 2.0], [-1.0, 0.0]])
    labels = np.array([0, 2, 2, 3, 3])
    images = np.arange(5 * 16.0).reshape(5, 4, 4, 1)
    save_predictions(tmp_path, "embedding", SOFTMAX, images, labels, features, ("a", "b"), ("c", "d"))
    found = load_predictions(tmp_path, SOFTMAX)
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert not found.has_probs
    # Cosines: of one class .8 and 0; of two 0, -1, .6 and -.8.
    assert found.shown.tolist() == [1, 2, 0, 3, 2, 3, 0, 1]
    assert found.inputs[2, 0, 0, 0] == 16
    table = {row[0]: row[1:] for row in embedding.class_table(found).rows}
    assert table["c"] == ["0.800", "-0.300", "1.000", "0.000", "2"]
    assert table["d"][:3] == ["0.000", "-0.300", "0.625"]
    alike, unlike = embedding.galleries(found)
    assert [(each.said, each.true) for each in alike.examples] == [
        ("cosine 0.600", "c and d"),
        ("cosine -1.000", "c and d"),
    ]
    assert [(each.said, each.true) for each in unlike.examples] == [
        ("cosine 0.000", "d"),
        ("cosine 0.800", "c"),
    ]
    curve = metrics.verification_curve(*metrics.all_pairs(found.outputs, found.labels)[2:])
    assert curve.area == pytest.approx((4 + 2.5) / 8)


def test_of_many_classes_a_caption_names_some(tmp_path, rng):
    names = tuple(f"n{i}" for i in range(1000))
    labels = np.arange(50).repeat(2)
    save_predictions(
        tmp_path, "embedding", SOFTMAX, np.zeros((100, 2)), labels, rng.normal(size=(100, 3)), names
    )
    shown, _ = embedding.figures(load_predictions(tmp_path, SOFTMAX))
    assert "n0, n1, " in shown.caption
    assert shown.caption.endswith("n19 and 30 more.")


def test_features_of_one_class_leave_nothing_to_compare(tmp_path):
    folder = make_run(
        tmp_path / "run", predictions=("embedding", np.zeros((3, 2)), np.zeros(3, int), np.eye(3), ("a",))
    )
    assert "Class by class" not in titles(strictly_parsed(write_report(folder)))


def test_the_worked_calibration_error(rng):
    confidence, right = np.array([0.95, 0.95, 0.65, 0.65]), np.array([True, False, True, True])
    # (2/4)·|.95 − .5| + (2/4)·|.65 − 1|
    assert metrics.expected_calibration_error(confidence, right) == pytest.approx(0.4)
    p = rng.random(20_000)
    assert metrics.expected_calibration_error(p, rng.random(20_000) < p) < 0.02
    found = metrics.reliability(np.array([0.0, 0.1, 1.0]), np.ones(3, bool))
    assert found.sizes.tolist() == [2, 1]
    np.testing.assert_allclose(found.middle, [0.05, 0.95])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 3, "widths": (4, 8), "label_smoothing": None, "batch_size": None},
        {"data": "iris", "model": "linear", "loss": SIGMOID, "learning_rate": 1e-5},
    ],
)
def test_the_command_of_a_page_repeats_the_run(changes):
    config = Config(**changes)
    words = shlex.split(repeat_command(asdict(config)))
    assert words[:4] == ["python", "-m", "jaxce", "train"]
    assert read_flags((load_config(words[4]),), words[5:], "jaxce train", "") == (config,)


def test_runs_are_called_by_what_differs(tmp_path):
    runs = [read_run(make_run(tmp_path / f"run{seed}", seed=seed)) for seed in (1, 2)]
    assert labels_of(runs, ["seed"]) == ["seed 1", "seed 2"]
    assert labels_of(runs, []) == ["run1", "run2"]
    again = [read_run(make_run(tmp_path / part / "run")) for part in "ab"]
    assert labels_of(again, []) == [str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")]


def test_a_comparison_shows_what_differs_and_the_best_in_bold(tmp_path):
    one = make_run(tmp_path / "one", test={"accuracy": 0.75, "loss": 1.5}, learning_rate=0.01)
    two = make_run(tmp_path / "two", test={"accuracy": 0.5, "loss": 0.5}, learning_rate=0.02)
    cut = make_run(tmp_path / "cut", finished=False, epochs=4)
    write_comparison([one, two, cut], tmp_path / "page.html")
    page = strictly_parsed(tmp_path / "page.html")
    text = text_of(page)
    assert "Unfinished: " in text
    assert "learning_rate 0.01 0.02 0.001" in text
    bold = {each.text for each in page.iter(f"{HTML}strong") if each.text[0].isdigit()}
    assert bold == {"75 %", "0.5 nats"}
    other = make_run(tmp_path / "other", test={"accuracy": 0.9}, data="iris")
    write_comparison([one, other], tmp_path / "page.html")
    page = strictly_parsed(tmp_path / "page.html")
    assert "Nothing compares: these runs differ in data, so in their test." in text_of(page)
    assert not [each for each in page.iter(f"{HTML}strong") if each.text[0].isdigit()]
    smoothed = make_run(tmp_path / "smoothed", label_smoothing=0.1)
    write_comparison([one, smoothed], tmp_path / "page.html")
    page = strictly_parsed(tmp_path / "page.html")
    assert "Losses do not compare: these runs differ in label_smoothing." in text_of(page)
    assert "1.25 nats" not in {each.text for each in page.iter(f"{HTML}strong")}


def test_the_command_says_where_the_page_is(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "a", seed=1)
    make_run(tmp_path / "runs" / "b", seed=2)
    assert run_command("report", ["runs/a"], "jaxce report") == 0
    assert capsys.readouterr().out == "report in runs/a/report.html\n"
    assert run_command("report", ["runs/a", "runs/b"], "jaxce report") == 0
    assert capsys.readouterr().out == "comparison of 2 runs in runs/comparison.html\n"
    assert run_command("report", ["runs/a", "runs/b", "--out", "c.html"], "jaxce report") == 0
    strictly_parsed(tmp_path / "c.html")


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("config.json", None, "is no run: it holds no config.json; give a folder that jaxce train wrote"),
        ("config.json", "{", "config.json cannot be read ("),
        ("config.json", "[]", "config.json is damaged: it holds no JSON object"),
        ("config.json", "{}", "config.json is no config of a run: it has no data"),
        (
            "config.json",
            '{"data": "x", "loss": "x", "epochs": 1}',
            "it has a loss 'x' that this version does not",
        ),
        ("metrics.jsonl", '{"epoch": 1}\n{"ep\n', "metrics.jsonl, line 2 is damaged: remove the line"),
        ("summary.json", '{"test": ', "summary.json cannot be read ("),
        ("summary.json", "{}", "summary.json is damaged: it has no test"),
        ("predictions.npz", "PK", "predictions.npz is damaged ("),
    ],
)
def test_what_is_no_run_or_damaged_is_named_in_one_line(file, content, line, tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_text(content)
    assert run_command("report", [str(folder)], "jaxce report") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert line in error
    assert error.count("\n") == 1
    assert not (folder / "report.html").exists()


def test_a_folder_that_is_not_there_is_no_run(tmp_path, capsys):
    assert run_command("report", [str(tmp_path / "nowhere")], "jaxce report") == 2
    assert "nowhere is no run: it is no folder" in capsys.readouterr().err


def test_labels_of_lines_do_not_overlap_and_stay_in_order():
    placed = charts.spread(np.array([0.99, 0.98, 0.97, 0.2]), 0.1)
    assert np.all(np.diff(placed[[3, 2, 1, 0]]) > 0.099)
    assert placed.max() <= 1


def test_a_picture_is_stretched_and_dark_grounds_are_inverted():
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    dark = np.zeros((4, 6, 1))
    dark[1, 2] = 0.5
    stored = np.array(Image.open(BytesIO(b64decode(charts.picture(dark).partition(",")[2]))))
    assert stored.shape == (4, 6)
    assert (stored[1, 2], stored[0, 0]) == (0, 255)


@pytest.mark.parametrize("width", [390, 1100])
def test_a_browser_renders_the_pages_without_a_console_error_and_nothing_is_cut_off(
    width, kinds, browser, tmp_path
):
    for folder in kinds.values():
        write_report(folder)
    write_comparison(list(kinds.values()), tmp_path / "comparison.html")
    pages = [*(f"{kind}/report.html" for kind in kinds), "comparison.html"]
    # Each page in a frame as wide as a phone's screen, and a script beside them that says what it sees there.
    style = f"width:{width}px;height:900px"
    frames = "".join(f'<iframe src="{page}" style="{style}"></iframe>' for page in pages)
    (tmp_path / "frame.html").write_text(
        f"<!DOCTYPE html><html><body>{frames}<script>onload = () => {{"
        "const seen = [...document.querySelectorAll('iframe')].map(frame => {"
        "const page = frame.contentDocument; const images = [...page.images];"
        "return {wide: page.documentElement.scrollWidth,"
        "images: images.length, broken: images.filter(i => !i.complete || !i.naturalWidth).length,"
        "drawn: images.filter(i => i.getBoundingClientRect().width > 35).length}; });"
        "document.body.textContent = JSON.stringify(seen); };</script></body></html>"
    )
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=60
    )
    assert "CONSOLE" not in done.stderr
    found = json.loads(done.stdout[done.stdout.index("[") : done.stdout.rindex("]") + 1])
    assert len(found) == 6
    for page, seen in zip(pages, found, strict=True):
        assert seen["images"] >= 3, page
        assert seen["broken"] == 0, page
        assert seen["drawn"] == seen["images"], page
        assert seen["wide"] <= width, page
