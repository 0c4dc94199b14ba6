"""jaxce.verify, for a loss of one's own: what is right passes, what is wrong is caught."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxce
from jaxce.losses import definitions

INTEGER = jaxce.LOSSES["softmax_cross_entropy_with_integer_labels"]
SOFT = jaxce.LOSSES["softmax_cross_entropy"]
BINARY = jaxce.LOSSES["sigmoid_binary_cross_entropy"]


def good(logits, labels):
    """In float32 at least, and by log_softmax: not exact where tiny, but right."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return -(labels * jax.nn.log_softmax(logits)).sum(-1)


def good_grad(logits, labels):
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return (jax.nn.softmax(wide) * labels.sum(-1, keepdims=True) - labels).astype(logits.dtype)


@pytest.fixture
def batch(rng):
    logits = rng.normal(0, 2, (6, 4)).astype(np.float32)
    return logits, np.eye(4, dtype=np.float32)[rng.integers(0, 4, 6)]


def wrong(verdict):
    return {check.name for check in verdict.checks if not check.ok}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_a_right_loss_is_found_right_in_every_dtype(batch, dtype):
    logits, labels = (each.astype(dtype) for each in batch)
    verdict = jaxce.verify(good, logits, labels, grad=good_grad)
    assert verdict, verdict
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_losses_of_jaxce_are_found_right_by_their_formulas(dtype):
    z = np.array([[0, -20, -3], [1e4, 1e4 - 5, 0], [2, 2, 2], [-50, 30, 1]]).astype(dtype)
    y = np.array([0, 1, 2, 0])
    assert jaxce.verify(
        INTEGER.value, z, y, grad=INTEGER.grad, definition=definitions.softmax_cross_entropy_with_integer_labels
    )
    soft = np.array([[1, 0, 0.25], [0.5, 1, 0], [1, 1, 0.5], [0, 0, 1]]).astype(dtype)
    assert jaxce.verify(
        BINARY.value, z, soft, grad=BINARY.grad, definition=definitions.sigmoid_binary_cross_entropy
    )


def test_masked_logits_are_right_where_they_cost_nothing(batch):
    logits, _ = batch
    logits[1:, 0] = -np.inf
    labels = np.eye(4, dtype=np.float32)[[1, 2, 3, 1, 2, 3]]
    assert jaxce.verify(SOFT.value, logits, labels, grad=SOFT.grad)
    assert "value" in wrong(jaxce.verify(good, logits, labels))  # 0·inf


def test_a_gradient_to_masked_logits_is_caught(batch):
    logits, _ = batch
    logits[:, 0] = -np.inf
    labels = np.eye(4, dtype=np.float32)[[1, 2, 3, 1, 2, 3]]
    found = jaxce.verify(SOFT.value, logits, labels, grad=lambda z, y: SOFT.grad(z, y).at[0, 0].set(1e-3))
    assert wrong(found) == {"closed form", "closed form, masked"}


def test_reduced_losses_are_right_as_a_mean_and_as_a_sum(batch):
    assert jaxce.verify(lambda z, y: good(z, y).mean(), *batch)
    assert jaxce.verify(lambda z, y: good(z, y).sum(), *batch)
    assert jaxce.verify(good, batch[0][0], batch[1][0])


def test_a_doubled_gradient_of_ones_own_is_caught(batch):
    assert wrong(jaxce.verify(good, *batch, grad=lambda z, y: 2 * good_grad(z, y))) == {"closed form"}


def test_a_custom_derivative_that_is_wrong_is_caught(batch):
    flipped = jax.custom_jvp(good)
    flipped.defjvp(lambda p, t: (flipped(*p), -(good_grad(*p) * t[0]).sum(-1)))
    assert wrong(jaxce.verify(flipped, *batch)) == {"differences"}  # whatever mode follows the rule
    assert wrong(jaxce.verify(flipped, *batch, definition=definitions.softmax_cross_entropy)) >= {
        "reverse",
        "forward",
    }


def test_a_custom_vjp_is_caught_unless_it_is_meant(batch):
    backwards = jax.custom_vjp(good)
    backwards.defvjp(lambda z, y: (good(z, y), (z, y)), lambda r, g: (g[:, None] * good_grad(*r), None))
    found = jaxce.verify(backwards, *batch)
    assert wrong(found) == {"forward"}
    assert "forward-mode" in str(found)
    assert jaxce.verify(backwards, *batch, modes=("reverse",))


BACKWARDS = {
    "ignores its cotangent": lambda g, ct: g,
    "uses the first for all": lambda g, ct: g * ct[0],
    "holds where it is one": lambda g, ct: g * (ct**2)[:, None],
    "holds where it is positive": lambda g, ct: g * jnp.abs(ct)[:, None],
}


@pytest.mark.parametrize("words", BACKWARDS)
def test_a_backward_that_mistakes_its_cotangent_is_caught(words, batch):
    backwards = jax.custom_vjp(good)
    backwards.defvjp(
        lambda z, y: (good(z, y), (z, y)), lambda r, ct: (BACKWARDS[words](good_grad(*r), ct), None)
    )
    assert "reverse" in wrong(
        jaxce.verify(backwards, *batch, modes=["reverse"], definition=definitions.softmax_cross_entropy)
    )
    assert not jaxce.verify(backwards, *batch, modes=["reverse"])


@pytest.mark.parametrize("rule", [lambda g, t: g, lambda g, t: g * t[0], lambda g, t: g * jnp.abs(t)])
def test_a_rule_that_mistakes_its_tangents_is_caught(rule, batch):
    forwards = jax.custom_jvp(good)
    forwards.defjvp(lambda p, t: (forwards(*p), rule(good_grad(*p), t[0]).sum(-1)))
    found = jaxce.verify(forwards, *batch, modes=["forward"], definition=definitions.softmax_cross_entropy)
    assert "forward" in wrong(found)


def test_a_wrong_second_derivative_of_ones_own_is_caught(batch):
    frozen = jax.custom_jvp(good)
    frozen.defjvp(lambda p, t: (frozen(*p), (jax.lax.stop_gradient(good_grad(*p)) * t[0]).sum(-1)))
    assert wrong(jaxce.verify(frozen, *batch)) == {"second derivative"}


def test_a_softmax_over_the_batch_is_caught(batch):
    assert "batch" in wrong(jaxce.verify(lambda z, y: -(y * jax.nn.log_softmax(z, 0)).sum(-1), *batch))


def test_a_loss_that_broadcasts_to_every_pair_is_caught(rng):
    logits, labels = rng.normal(size=(4, 1)).astype("f"), rng.uniform(size=4).astype("f")

    def pairs(z, y):
        with jax.numpy_rank_promotion("allow"):
            return (z - y) ** 2

    assert "batch" in wrong(jaxce.verify(pairs, logits, labels))
    assert "batch" in wrong(jaxce.verify(lambda z, y: pairs(z, y).mean(), logits, labels))


def test_losses_that_compare_examples_can_say_so(batch):
    def contrastive(z, y):
        return good(z - z.mean(0, keepdims=True), y)

    assert "batch" in wrong(jaxce.verify(contrastive, *batch))
    assert jaxce.verify(contrastive, *batch, independent=False)


def test_sums_in_half_precision_are_caught(rng):
    z = (rng.normal(size=(1, 400)) / 100).astype(jnp.bfloat16)
    y = np.eye(400)[[77]].astype(jnp.bfloat16)

    def in_bfloat16(z, y):
        def add(total, e):
            return total + e, None

        exps = jnp.exp(z - z.max(-1, keepdims=True))
        total, _ = jax.lax.scan(add, jnp.zeros(len(z), z.dtype), exps.T)
        return jnp.log(total) + z.max(-1) - (z * y).sum(-1)

    assert "value" in wrong(jaxce.verify(in_bfloat16, z, y))
    assert jaxce.verify(good, z, y)


def test_an_overflow_is_caught():
    z, y = np.float32([[100.0, 0.0], [1.0, 2.0]]), np.eye(2, dtype=np.float32)
    naive = lambda z, y: jnp.log(jnp.exp(z).sum(-1)) - (z * y).sum(-1)  # noqa: E731
    assert {"value", "reverse", "forward"} <= wrong(jaxce.verify(naive, z, y))


def test_a_wrong_formula_shows_against_a_definition(batch):
    half = lambda z, y: good(z, y) / 2  # noqa: E731
    assert jaxce.verify(half, *batch)
    assert wrong(jaxce.verify(half, *batch, definition=definitions.softmax_cross_entropy)) >= {
        "value",
        "reverse",
        "forward",
    }


def test_a_gradient_of_the_wrong_shape_is_caught(batch):
    assert wrong(jaxce.verify(good, *batch, grad=lambda z, y: good_grad(z, y).sum(0))) == {"closed form"}


def test_kinks_give_no_false_alarm():
    z = np.float32([[0.0, 1.0], [-2.0, 0.5]])
    assert jaxce.verify(lambda z, y: jax.nn.relu(z - y).sum(-1), z, np.ones((2, 2), "f") * 0.3)


@pytest.mark.slow
def test_a_large_batch_is_checked_in_part(rng):
    z = rng.normal(size=(64, 50)).astype("f")
    assert jaxce.verify(INTEGER.value, z, rng.integers(0, 50, 64), grad=INTEGER.grad)


def test_misuse_of_verify_is_explained(batch):
    with pytest.raises(TypeError, match="must be floating-point"):
        jaxce.verify(good, np.arange(4), np.arange(4))
    with pytest.raises(ValueError, match="modes holds"):
        jaxce.verify(good, *batch, modes=("backward",))
    with pytest.raises(ValueError, match="give the loss unreduced"):
        jaxce.verify(lambda z, y: good(z, y).mean(), *batch, definition=definitions.softmax_cross_entropy)


@pytest.mark.parametrize(
    ("error", "inputs", "labels", "message"),
    [
        (
            ValueError,
            np.zeros((0, 4), "f"),
            np.zeros((0, 4), "f"),
            r"shape \(0, 4\) and holds no example: give",
        ),
        (
            TypeError,
            (np.zeros(4, "f"), np.zeros(4, "f")),
            np.zeros(4, "f"),
            "must be one array, but is a tuple",
        ),
        (TypeError, np.arange(4), np.arange(4), "must be floating-point, but has dtype int"),
        (ValueError, np.zeros((3, 4), "f"), np.zeros((2, 4), "f"), "as many labels as examples"),
    ],
)
def test_a_mistake_of_a_user_is_a_sentence(error, inputs, labels, message):
    with pytest.raises(error, match=message):
        jaxce.verify(good, inputs, labels)


def test_a_loss_of_several_results_is_a_type_error(batch):
    with pytest.raises(TypeError, match="verify a function that returns one array"):
        jaxce.verify(lambda z, y: (good(z, y), z), *batch)


def test_a_verdict_prints_what_is_wrong_and_where(batch):
    found = jaxce.verify(good, *batch, grad=lambda z, y: good_grad(z, y).at[2, 1].add(1.0))
    assert "WRONG closed form" in repr(found)
    assert "[2, 1]" in repr(found)
    assert not found.ok


def test_importing_jaxce_loads_no_flint_and_no_rich():
    heavy = "{'flint', 'rich', 'argparse_', 'flax', 'optax', 'tensorflow'}"
    code = f"import sys, jaxce; jaxce.verify; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)
