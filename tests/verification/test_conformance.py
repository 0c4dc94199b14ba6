"""`jaxce conform`: what is right passes, and each kind of mistake is found in its own area."""

import importlib.util
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxce
from jaxce.cli import run_command
from jaxce.losses import definitions
from jaxce.verification.conformance import AREAS, LIKE, conform

NAME = "softmax_cross_entropy_with_integer_labels"
LOSS = jaxce.softmax_cross_entropy_with_integer_labels
HERE = str(Path(__file__))
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def plain(logits, labels):
    return LOSS(logits, labels)


def slopes(logits, labels, tangents):
    return (LOSS.grad(logits, labels) * tangents).sum(-1).astype(LOSS(logits, labels).dtype)


def with_rule(rule):
    """The loss with another rule for its derivative."""
    planted = jax.custom_jvp(plain)
    planted.defjvp(lambda p, t: (plain(*p), rule(*p, t[0])))
    return planted


def wrong_sign(logits, labels):
    return with_rule(lambda z, y, t: -slopes(z, y, t))(logits, labels)


def wrong_axis(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits, 0), labels[..., None], -1)[..., 0]


def forgotten_mask(logits, labels):
    return LOSS(jnp.where(logits == -jnp.inf, 0, logits), labels)


def ignored_cotangent(logits, labels):
    backwards = jax.custom_vjp(plain)
    backwards.defvjp(lambda *args: (plain(*args), args), lambda args, ct: (LOSS.grad(*args), None))
    return backwards(logits, labels)


def cancellation(logits, labels):
    picked = jnp.take_along_axis(logits, labels[..., None], -1)[..., 0]
    return jax.nn.logsumexp(logits, -1) - picked


def wrong_second_derivative(logits, labels):
    return with_rule(lambda z, y, t: slopes(jax.lax.stop_gradient(z), y, t))(logits, labels)


# planted error -> the area of `conform`, and the check of `verify`, that it shows in
PLANTED = {
    wrong_sign: ("gradients", "reverse"),
    wrong_axis: ("values", "value"),
    forgotten_mask: ("infinities", "value"),
    ignored_cotangent: ("cotangents", "reverse"),
    cancellation: ("values", "value"),
    wrong_second_derivative: ("Hessians", "second derivative"),
}


def short(results):
    return {each.area for each in results if not each.check.ok}


@pytest.mark.slow
@pytest.mark.parametrize("planted", PLANTED)
def test_conform_finds_a_planted_error(planted):
    _, results = conform(f"{HERE}:{planted.__name__}", NAME)
    assert PLANTED[planted][0] in short(results)


def verdict_of(loss):
    z = jnp.array([[0.0, -20.0, -30.0, -20.0], [1.0, 2.0, 0.5, -jnp.inf], [1.0, -2.0, 0.3, 0.1]])
    return jaxce.verify(loss, z, jnp.array([0, 1, 2]), definition=getattr(definitions, NAME))


def test_verify_finds_nothing_where_nothing_is_planted():
    assert verdict_of(plain)


@pytest.mark.parametrize("planted", PLANTED)
def test_verify_finds_a_planted_error(planted):
    verdict = verdict_of(planted)
    assert PLANTED[planted][1] in {each.name for each in verdict.checks if not each.ok}


@pytest.mark.parametrize(
    "name",
    [n if n == "squared_error" else pytest.param(n, marks=pytest.mark.slow) for n in LIKE],
)
def test_the_losses_of_jaxce_conform(name):
    found, results = conform(f"jaxce:{name}", name)
    assert found.framework == "jax"
    assert {each.area: each.check for each in results if not each.check.ok} == {}
    areas = {each.area for each in results}
    assert areas >= AREAS.keys() - {"infinities", "label types", "sharding"}
    assert "sharding" in areas or jax.device_count() < 4


@pytest.mark.slow
def test_the_same_points_are_tried_whatever_went_before():
    _, good = conform(f"jaxce:{NAME}", NAME)
    _, bad = conform(f"{HERE}:wrong_second_derivative", NAME)
    of_values = [[each.check.error for each in found if each.area == "values"] for found in (good, bad)]
    assert of_values[0] == of_values[1]


def summed(logits, labels):
    return LOSS(logits, labels).sum()


NOT_A_FUNCTION = 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "which function? give MODULE:FUNCTION"),
        (["optax"], "'optax' is no MODULE:FUNCTION"),
        (["no_such_module:loss"], "cannot import no_such_module: ModuleNotFoundError"),
        (["nowhere/losses.py:loss"], "cannot import nowhere/losses.py: FileNotFoundError"),
        (["jaxce:no_such_loss"], "jaxce has no no_such_loss"),
        ([f"{HERE}:NOT_A_FUNCTION"], "is no function but int"),
        ([f"{HERE}:summed"], "gives losses of shape () for inputs of shape (12, 4)"),
        (["jaxce:squared_error"], "is it another kind of loss, for --like?"),
        (["jaxce:squared_error", "--like", "squared_eror"], "did you mean squared_error?"),
        (["jaxce:arcface", "--like", "arcface"], "unknown loss 'arcface'"),
    ],
)
def test_a_mistake_is_one_sentence(args, message, capsys):
    assert run_command("conform", args, "jaxce conform") == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def half_the_square(predictions, targets):
    return (predictions - targets) ** 2 / 2


def test_the_scoreboard_says_what_falls_short(capsys):
    args = [f"{HERE}:half_the_square", "--like", "squared_error"]
    assert run_command("conform", args, "jaxce conform") == 1
    printed = capsys.readouterr().out
    assert "values          0 of 2" in printed
    assert "cotangents      3 of 3" in printed
    assert "values, hostile: 4.19e+06 > 84 ulp" in printed
    assert "\033[" not in printed
    assert run_command("conform", [*args, "--json"], "jaxce conform") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["areas"]["values"]) == (False, {"passed": 0, "cases": 2})
    assert sum(area["cases"] for area in found["areas"].values()) == len(found["cases"])


def test_a_loss_that_conforms_exits_with_zero(capsys):
    assert run_command("conform", ["jaxce:squared_error", "--like", "squared_error"], "jaxce conform") == 0
    assert "nothing falls short" in capsys.readouterr().out


def test_a_loss_of_torch_is_tried_with_tensors():
    pytest.importorskip("torch")
    found, results = conform(f"{PAGE.parent}/conformance.py:torch_kl", "kl_divergence")
    assert found.framework == "torch"
    assert short(results) == {"misuse"}


def of_page():
    spec = importlib.util.spec_from_file_location("conformance_page", PAGE.with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_every_peer_and_the_present_cases_of_jaxce():
    page, written = of_page(), PAGE.read_text(encoding="utf-8")
    for library, peers in page.PEERS.items():
        assert f"{library} " in written.partition("What is tried")[0]
        for name, _, _ in peers:
            assert f"| {library} `{name}` |" in written
    _, results = conform("jaxce:kl_divergence", "kl_divergence")
    counts = {area: [each.check.ok for each in results if each.area == area] for area in AREAS}
    cells = (f"{sum(oks)}/{len(oks)}" if oks else "–" for oks in counts.values())
    assert f"| jaxce `kl_divergence` | {' | '.join(cells)} |" in written


def test_a_module_in_the_present_folder_is_found(tmp_path, monkeypatch, capsys):
    (tmp_path / "losses_of_mine.py").write_text("def loss(x, y):\n    return (x - y) ** 2\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert run_command("conform", ["losses_of_mine:loss", "--like", "squared_error"], "jaxce conform") in (0, 1)
    assert sys.path == before
    printed = capsys.readouterr().out
    assert "losses_of_mine:loss" in printed
    assert np.all([f"  {area}" in printed for area in AREAS])
