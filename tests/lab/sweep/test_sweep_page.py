"""sweep.html: strictly well-formed, self-contained, true to the results, with and without each kind of them."""

import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from jaxce.lab.config import load_config
from jaxce.lab.sweep.importance import importance_of
from jaxce.lab.sweep.page import write_page
from jaxce.lab.sweep.plan import Plan
from jaxce.lab.sweep.results import best_of, by_rank, command_of, positions

HTML = "{http://www.w3.org/1999/xhtml}"
OVER = ("learning_rate=1e-3..1e-1:log:3", "widths=8x16,32x64", "clip_norm=None,1", "seed=seeds:2")
PLAN = Plan("digits", load_config("digits"), OVER, "grid", None, True, "accuracy")


def row(setting, accuracy, state="complete", **values):
    values = {"learning_rate": 0.01, "widths": [8, 16], "clip_norm": None, "seed": 0} | values
    found = {"setting": setting, "state": state, "values": values, "loss": PLAN.base.loss, "epochs": 9}
    if state == "failed":
        return found | {"error": "the loss is nan at step 3 <&>"}
    scores = {"accuracy": accuracy, "loss": 1.0}
    return found | {"valid": scores} | ({"test": {"accuracy": accuracy - 0.1}} if state == "complete" else {})


ROWS = [
    row(0, 0.90),
    row(1, 0.80, seed=1),
    row(2, 0.88, learning_rate=0.1),
    row(3, 0.88, learning_rate=0.1, seed=1),
    row(4, 0.95, widths=[32, 64], clip_norm=1.0, state="pruned"),
    row(5, None, learning_rate=0.001, state="failed"),
]


def page_of(rows, tmp_path, plan=PLAN):
    write_page(rows, importance_of(rows, plan), plan, tmp_path / "sweep.html")
    text = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    page = ElementTree.fromstring(text)  # raises at anything that is not well-formed
    assert "NaN" not in text
    for element in page.iter():
        for name in ("src", "href", "srcset", "action"):
            assert element.get(name, "data:").startswith("data:")
        if element.tag == f"{HTML}img":
            assert len(element.get("alt")) > 10
    assert page.find(f".//{HTML}script") is None
    return page


def titles(page):
    return [each.text for tag in ("h2", "h3") for each in page.iter(f"{HTML}{tag}")]


def text_of(page):
    return " ".join(" ".join(page.find(f"{HTML}body").itertext()).split())


def test_the_page_names_the_best_mean_over_seeds(tmp_path):
    page = page_of(ROWS, tmp_path)
    text = text_of(page)
    assert "best valid accuracy, 2 seeds 88 %" in text
    assert "its test accuracy, 2 seeds 78 %" in text
    assert "learning_rate=0.1 widths=8x16 clip_norm=None seed=0" in text
    command = page.find(f".//{HTML}pre").text
    assert command == "python -m jaxce train digits --widths 8 16 --learning-rate 0.1"
    assert command == command_of(best_of(ROWS, "accuracy")[0], PLAN)


def test_the_page_lists_every_setting_best_first(tmp_path):
    rows = [[cell.text or "" for cell in line] for line in page_of(ROWS, tmp_path).iter(f"{HTML}tr")][1:]
    assert [line[0] for line in rows] == ["0", "2", "3", "1", "4", "5"]
    assert rows[0] == ["0", "0.01", "8x16", "None", "0", "90 %", "80 %", ""]
    assert rows[4][-3:] == ["95 %", "–", "ended after 9 epochs"]
    assert rows[5][-3:] == ["–", "–", "failed: the loss is nan at step 3 <&>"]


def test_the_page_draws_importance_settings_and_responses(tmp_path):
    rows = [
        row(0, 0.9),
        row(1, 0.8, seed=1),
        row(2, 0.88, learning_rate=0.1),
        row(3, 0.86, learning_rate=0.1, seed=1),
    ]
    page = page_of(rows, tmp_path)
    assert titles(page)[-3:] == ["What explains the differences", "All settings", "Learning rate"]
    assert "exact shares of the variance" in text_of(page).lower()


def test_the_page_has_a_response_for_each_field_but_the_seed(tmp_path):
    assert titles(page_of(ROWS, tmp_path))[-4:] == ["All settings", "Learning rate", "Widths", "Clip norm"]


@pytest.mark.parametrize(
    ("rows", "absent"),
    [
        (ROWS[:1], ["What explains the differences", "All settings", "Learning rate"]),
        (ROWS[5:], ["Best setting", "What explains the differences", "All settings", "Learning rate"]),
        (ROWS[4:5], ["Best setting", "What explains the differences", "All settings", "Learning rate"]),
    ],
)
def test_sections_without_data_are_left_out(rows, absent, tmp_path):
    assert not set(titles(page_of(rows, tmp_path))) & set(absent)


def test_a_smaller_error_rate_is_better():
    rows = [row(i, 0.5) | {"valid": {"error_rate": rate}} for i, rate in enumerate([0.3, 0.1, 0.2])]
    rows = [each | {"values": {"seed": 0, "momentum": i / 10}} for i, each in enumerate(rows)]
    assert [each["setting"] for each in by_rank(rows, "error_rate")] == [1, 2, 0]
    assert best_of(rows, "error_rate") == [rows[1]]


def test_a_changed_base_comes_back_as_flags():
    base = replace(load_config("captcha_one_softmax"), epochs=7)
    plan = Plan("captcha_one_softmax", base, ("joint_softmax=True,False",), "grid", None, False, "accuracy")
    found = command_of({"values": {"joint_softmax": False, "loss": "softmax_cross_entropy"}}, plan)
    assert found == "python -m jaxce train captcha_one_softmax --no-joint-softmax --epochs 7"


def test_numbers_that_span_a_decade_stand_by_their_logarithm():
    assert positions([1e-3, 1e-1, 1e-2]) == {1e-3: 0.0, 1e-2: 0.5, 1e-1: 1.0}
    assert positions([0.0, 0.1, 0.025]) == {0.0: 0.0, 0.025: 0.25, 0.1: 1.0}
    assert list(positions([None, 2.0, 10.0])) == [2.0, 10.0, None]
    assert positions([(8, 16)]) == {(8, 16): 0.5}


@pytest.mark.slow
def test_a_browser_shows_the_page(browser, tmp_path):
    page_of(ROWS, tmp_path)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    picture, page = tmp_path / "page.png", (tmp_path / "sweep.html").as_uri()
    done = subprocess.run(
        [
            browser,
            *flags,
            f"--screenshot={picture}",
            "--window-size=1000,1800",
            page,
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    from PIL import Image

    colours = Image.open(picture).convert("RGB").getcolors(maxcolors=10**6)
    assert len(colours) > 200  # text, tables and charts, not a blank page
