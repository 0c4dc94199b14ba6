"""Verification passes what is right and, more to the point, catches errors planted on purpose."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxce
from jaxce.verification import samples
from jaxce.verification.exact import Example, error, truth
from jaxce.verification.suite import verify_setting

INTEGER = jaxce.LOSSES["softmax_cross_entropy_with_integer_labels"]
SOFT = jaxce.LOSSES["softmax_cross_entropy"]
BINARY = jaxce.LOSSES["sigmoid_binary_cross_entropy"]


def failing(loss, dtype="float32"):
    return {each.witness for each in verify_setting(loss, {}, dtype, thorough=False) if not each.ok}


def planted(loss, value=None, grad=None):
    """The loss with another value or gradient under the same name."""
    changes = {"value": value, "grad": grad}
    return dataclasses.replace(
        loss, **{k: functools.wraps(getattr(loss, k))(f) for k, f in changes.items() if f is not None}
    )


# What is right passes.


@pytest.mark.parametrize("name", jaxce.LOSSES)
def test_every_loss_is_exact_in_float32(name):
    loss = jaxce.LOSSES[name]
    for case in ({}, *loss.cases[-1:]):
        short = [each for each in verify_setting(loss, case, "float32", thorough=False) if not each.ok]
        assert not short, short


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("loss", [INTEGER, BINARY], ids=lambda loss: loss.name)
def test_the_basic_losses_are_exact_in_every_dtype(loss, dtype):
    found = verify_setting(loss, {}, dtype, thorough=False)
    assert all(each.ok for each in found), found
    assert len(found) > 5


def test_a_wrong_claim_of_convexity_is_caught_both_ways():
    assert failing(dataclasses.replace(BINARY, convex=False), "float64") == {"convexity"}
    focal = jaxce.LOSSES["sigmoid_focal_loss"]
    assert failing(dataclasses.replace(focal, convex=True), "float64") == {"convexity"}


# Planted errors, each in a loss that is otherwise right.


def test_a_doubled_gradient_is_caught():
    loss = planted(BINARY, grad=lambda z, y, **o: 2 * BINARY.grad(z, y, **o))
    assert {"gradient", "autodiff", "central"} <= failing(loss, "float64")


def test_a_flipped_sign_is_caught():
    loss = planted(BINARY, grad=lambda z, y, **o: -BINARY.grad(z, y, **o))
    assert {"gradient", "autodiff"} <= failing(loss)


def test_a_gradient_over_the_wrong_axis_is_caught():
    loss = planted(INTEGER, grad=lambda z, y, **o: jax.nn.softmax(z, 0) - jax.nn.one_hot(y, z.shape[-1]))
    assert {"gradient", "row sums", "extremes"} <= failing(loss)


def test_a_value_without_the_shift_by_the_maximum_is_caught():
    def overflows(z, y):
        return jnp.log(jnp.exp(z).sum(-1)) - jnp.take_along_axis(z, y[:, None], -1)[:, 0]

    assert {"value", "reverse", "forward", "extremes"} <= failing(planted(INTEGER, value=overflows))


def test_the_cancellation_of_lse_and_logit_is_caught():
    def cancels(z, y):
        return jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], -1)[:, 0]

    assert {"value", "reverse", "extremes"} <= failing(planted(INTEGER, value=cancels))


def test_masked_classes_that_cost_nan_are_caught():
    def zero_times_infinity(z, q):
        return -(q * jax.nn.log_softmax(z)).sum(-1)

    assert "extremes" in failing(planted(SOFT, value=zero_times_infinity))


def test_the_logarithm_of_a_clamp_is_caught():
    def clamped(z, y):
        p = jnp.clip(jax.nn.sigmoid(z), 1e-8, 1 - 1e-8)
        return -y * jnp.log(p) - (1 - y) * jnp.log1p(-p)

    assert {"value", "reverse"} <= failing(planted(BINARY, value=clamped))


def test_a_custom_vjp_that_ends_forward_mode_is_caught():
    backwards = jax.custom_vjp(lambda z, y: BINARY.value(z, y))
    backwards.defvjp(lambda z, y: (BINARY.value(z, y), (z, y)), lambda r, g: (g * BINARY.grad(*r), None))
    assert "runs" in failing(planted(BINARY, value=lambda z, y: backwards(z, y)))


def test_a_wrong_second_derivative_is_caught():
    @jax.custom_jvp
    def frozen(z, y):
        return BINARY.value(z, y)

    @frozen.defjvp
    def jvp(primals, tangents):
        return frozen(*primals), jax.lax.stop_gradient(BINARY.grad(*primals)) * tangents[0]

    assert "hessian" in failing(planted(BINARY, value=lambda z, y: frozen(z, y)), "float64")


def test_half_precision_inside_is_caught():
    def in_bfloat16(z, y):
        terms = jax.nn.log_sigmoid(z) * y + jax.nn.log_sigmoid(-z) * (1 - y)
        return -terms.astype(jnp.float32)

    assert "value" in failing(planted(BINARY, value=in_bfloat16), "bfloat16")


def test_zero_gradients_of_an_inverted_label_are_caught():
    loss = planted(INTEGER, grad=lambda z, y, **o: INTEGER.grad(z, (y + 1) % z.shape[-1], **o))
    assert "gradient" in failing(loss)


def test_a_definition_that_never_works_is_no_witness():
    def broken(m, z, y):
        raise TypeError

    assert failing(dataclasses.replace(BINARY, definition=broken)) == {"value", "gradient"}


# The truth.


@pytest.mark.parametrize(
    ("logits", "loss"),
    [([0, -20], 2.0611536203e-9), ([1e4, 1e4 - 5], 0.00671534849), ([0, -80], 1.80485139e-35)],
)
def test_the_truth_knows_the_tiny_losses_of_the_specification(logits, loss):
    found = truth(Example(INTEGER.definition, np.float32(logits), (0,), {}), 1e-38)
    assert float(found.values[0]) == pytest.approx(loss, rel=1e-8)
    assert [float(entry) for entry in found.jacobian[0]] == pytest.approx([-loss, loss], rel=1e-2)


def test_the_truth_of_log_one_minus_p_has_all_its_digits_far_out():
    asymmetric = jaxce.LOSSES["asymmetric_loss"].definition
    found = truth(Example(asymmetric, np.float32(9000), (np.float32(0),), {"clip": 0}), 1e-38)
    assert float(found.values[0]) == pytest.approx(9000, rel=1e-12)


def test_there_is_no_derivative_at_a_kink_and_zero_at_a_minimum():
    found = truth(Example(lambda m, x, y: abs(x - y), np.float32(1), (np.float32(1),), {}), 1e-38)
    assert np.isnan(float(found.jacobian[0][0]))
    found = truth(Example(lambda m, x, y: (x - y) ** 2, np.float32(1), (np.float32(1),), {}), 1e-38)
    assert found.jacobian[0][0] == 0


def test_an_error_is_relative_to_the_truth_unless_parts_cancel():
    assert error(1.1, mpmath.mpf(1), lambda: 0, 1e-5, 1e-38) == pytest.approx(0.1)
    assert error(1e-9, mpmath.mpf(0), lambda: mpmath.mpf(1), 1e-5, 1e-38) == pytest.approx(1e-9)
    assert error(float("nan"), mpmath.mpf(0), lambda: mpmath.mpf(1), 1e-5, 1e-38) == float("inf")
    assert error(0.0, mpmath.mpf("1e-39"), lambda: 0, 1e-5, 1e-38) == 0


def test_the_parts_of_a_met_target_are_as_large_as_it_and_of_a_hard_label_as_small_as_the_truth():
    definition = SOFT.definition
    met = truth(Example(definition, np.zeros(2, "f"), (np.float32([0.5, 0.5]),), {}), 1e-38)
    assert met.jacobian[0][0] == 0
    assert float(met.parts_of_entry(0, 0)) == pytest.approx(0.5)
    hard = truth(Example(definition, np.float32([0, -20]), (np.float32([1, 0]),), {}), 1e-38)
    assert float(hard.parts_of_entry(0, 0)) == pytest.approx(
        2 * 2.0611536e-9
    )  # itself, and 20 times a twentieth


def test_points_cover_every_kind_of_input_and_label(rng):
    for loss in jaxce.LOSSES.values():
        rows = np.concatenate([samples.tame(loss.inputs, rng, 4, 4), samples.hostile(loss.inputs, rng, 2, 4)])
        x, y = samples.with_labels(loss, rows, rng, np.float32)
        assert len(x) == len(y)
        assert np.isfinite(x).all()


# What verification found, and what was mended.


@pytest.mark.parametrize("logits", [[2.0, -1.0, 0.5], [1.0, 1.0, -3.0], [-1.0, 2.0, 2.0]])
def test_hessians_are_true_where_the_label_is_the_largest_or_tied(logits):
    def focal(z):
        return -((1 - jax.nn.softmax(z)[0]) ** 2) * jax.nn.log_softmax(z)[0]

    def with_z_loss(z):
        return 0.1 * jax.nn.logsumexp(z) ** 2 - jax.nn.log_softmax(z)[0]

    label = jnp.array(0)
    with jax.enable_x64(True):
        z = jnp.array(logits, float)
        found = jax.hessian(jaxce.softmax_focal_loss)(z, label)
        np.testing.assert_allclose(found, jax.hessian(focal)(z), atol=1e-12)
        found = jax.hessian(lambda z: INTEGER.value(z, label, z_loss=0.1))(z)
        np.testing.assert_allclose(found, jax.hessian(with_z_loss)(z), atol=1e-12)


# jaxce.verify, for a loss of one's own.


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
def test_losses_of_jaxce_are_found_right_by_their_definitions_too(dtype):
    z = np.array([[0, -20, -3], [1e4, 1e4 - 5, 0], [2, 2, 2], [-50, 30, 1]]).astype(dtype)
    y = np.array([0, 1, 2, 0])
    assert jaxce.verify(INTEGER.value, z, y, grad=INTEGER.grad, definition=INTEGER.definition)
    soft = np.array([[1, 0, 0.25], [0.5, 1, 0], [1, 1, 0.5], [0, 0, 1]]).astype(dtype)
    assert jaxce.verify(BINARY.value, z, soft, grad=BINARY.grad, definition=BINARY.definition)


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
    assert wrong(found) == {"closed form, masked"}


def test_reduced_losses_are_right_as_a_mean_and_as_a_sum(batch):
    assert jaxce.verify(lambda z, y: good(z, y).mean(), *batch)
    assert jaxce.verify(lambda z, y: good(z, y).sum(), *batch)
    assert jaxce.verify(good, batch[0][0], batch[1][0])


def test_a_doubled_gradient_of_ones_own_is_caught(batch):
    assert wrong(jaxce.verify(good, *batch, grad=lambda z, y: 2 * good_grad(z, y))) == {"closed form"}


def test_a_custom_derivative_that_is_wrong_is_caught(batch):
    flipped = jax.custom_jvp(good)
    flipped.defjvp(lambda p, t: (flipped(*p), -(good_grad(*p) * t[0]).sum(-1)))
    assert wrong(jaxce.verify(flipped, *batch)) >= {"reverse", "forward"}


def test_a_custom_vjp_is_caught_unless_it_is_meant(batch):
    backwards = jax.custom_vjp(good)
    backwards.defvjp(lambda z, y: (good(z, y), (z, y)), lambda r, g: (g[:, None] * good_grad(*r), None))
    found = jaxce.verify(backwards, *batch)
    assert wrong(found) == {"forward"}
    assert "forward-mode" in str(found)
    assert jaxce.verify(backwards, *batch, modes=("reverse",))


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

    assert wrong(jaxce.verify(contrastive, *batch)) == {"batch"}
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
    assert wrong(jaxce.verify(half, *batch, definition=SOFT.definition)) >= {"value", "reverse", "forward"}


def test_a_gradient_of_the_wrong_shape_is_caught(batch):
    assert wrong(jaxce.verify(good, *batch, grad=lambda z, y: good_grad(z, y).sum(0))) == {"closed form"}


def test_kinks_give_no_false_alarm():
    z = np.float32([[0.0, 1.0], [-2.0, 0.5]])
    assert jaxce.verify(lambda z, y: jax.nn.relu(z - y).sum(-1), z, np.ones((2, 2), "f") * 0.3)


def test_a_large_batch_is_checked_in_part(rng):
    z = rng.normal(size=(64, 50)).astype("f")
    assert jaxce.verify(INTEGER.value, z, rng.integers(0, 50, 64), grad=INTEGER.grad)


def test_misuse_of_verify_is_explained(batch):
    with pytest.raises(TypeError, match="must be floating-point"):
        jaxce.verify(good, np.arange(4), np.arange(4))
    with pytest.raises(ValueError, match="modes holds"):
        jaxce.verify(good, *batch, modes=("backward",))
    with pytest.raises(ValueError, match="give the loss unreduced"):
        jaxce.verify(lambda z, y: good(z, y).mean(), *batch, definition=SOFT.definition)


def test_a_verdict_prints_what_is_wrong_and_where(batch):
    found = jaxce.verify(good, *batch, grad=lambda z, y: good_grad(z, y).at[2, 1].add(1.0))
    assert "WRONG closed form" in repr(found)
    assert "[2, 1]" in repr(found)
    assert not found.ok
