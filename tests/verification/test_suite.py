"""Every loss of LOSSES passes, and errors planted on purpose are caught."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxce
from jaxce.verification.suite import verify_setting

INTEGER = jaxce.LOSSES["softmax_cross_entropy_with_integer_labels"]
SOFT = jaxce.LOSSES["softmax_cross_entropy"]
BINARY = jaxce.LOSSES["sigmoid_binary_cross_entropy"]


def failing(loss, dtype="float32"):
    return {each.check.name for each in verify_setting(loss, {}, dtype, thorough=False) if not each.check.ok}


def planted(loss, value=None, grad=None):
    """The loss with another value or gradient under the same name."""
    changes = {"value": value, "grad": grad}
    return dataclasses.replace(
        loss, **{k: functools.wraps(getattr(loss, k))(f) for k, f in changes.items() if f is not None}
    )


# What is right passes.


@pytest.mark.parametrize("name", jaxce.LOSSES)
@pytest.mark.slow
def test_every_loss_is_exact_in_float32(name):
    loss = jaxce.LOSSES[name]
    for case in ({}, *loss.cases[-1:]):
        short = [each for each in verify_setting(loss, case, "float32", thorough=False) if not each.check.ok]
        assert not short, short


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("loss", [INTEGER, BINARY], ids=lambda loss: loss.name)
def test_the_basic_losses_are_exact_in_every_dtype(loss, dtype):
    found = verify_setting(loss, {}, dtype, thorough=False)
    assert all(each.check.ok for each in found), found
    assert len(found) > 3


def test_a_wrong_claim_of_convexity_is_caught_both_ways():
    assert failing(dataclasses.replace(BINARY, convex=False), "float64") == {"convexity"}
    focal = jaxce.LOSSES["sigmoid_focal_loss"]
    assert failing(dataclasses.replace(focal, convex=True), "float64") == {"convexity"}


# Planted errors, each in a loss that is otherwise right.


def test_a_doubled_gradient_is_caught():
    loss = planted(BINARY, grad=lambda z, y, **o: 2 * BINARY.grad(z, y, **o))
    assert failing(loss, "float64") == {"closed form", "infinite"}


def test_a_flipped_sign_is_caught():
    loss = planted(BINARY, grad=lambda z, y, **o: -BINARY.grad(z, y, **o))
    assert failing(loss) == {"closed form", "infinite"}


def test_a_gradient_over_the_wrong_axis_is_caught():
    loss = planted(INTEGER, grad=lambda z, y, **o: jax.nn.softmax(z, 0) - jax.nn.one_hot(y, z.shape[-1]))
    assert failing(loss) >= {"closed form"}


def test_a_value_without_the_shift_by_the_maximum_is_caught():
    def overflows(z, y):
        return jnp.log(jnp.exp(z).sum(-1)) - jnp.take_along_axis(z, y[:, None], -1)[:, 0]

    assert {"value", "reverse", "forward"} <= failing(planted(INTEGER, value=overflows))


def test_the_cancellation_of_lse_and_logit_is_caught():
    def cancels(z, y):
        return jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], -1)[:, 0]

    assert {"value", "reverse"} <= failing(planted(INTEGER, value=cancels))


def test_masked_classes_that_cost_nan_are_caught():
    def zero_times_infinity(z, q):
        return -(q * jax.nn.log_softmax(z)).sum(-1)

    assert {"value", "reverse", "all masked"} <= failing(planted(SOFT, value=zero_times_infinity))


def test_a_gradient_at_a_masked_class_is_caught():
    def pulled(z, q, **options):
        return SOFT.grad(z, q, **options) + jnp.where(z == -jnp.inf, 1e-30, 0).astype(z.dtype)

    assert "closed form, masked" in failing(planted(SOFT, grad=pulled))


def test_the_logarithm_of_a_clamp_is_caught():
    def clamped(z, y):
        p = jnp.clip(jax.nn.sigmoid(z), 1e-8, 1 - 1e-8)
        return -y * jnp.log(p) - (1 - y) * jnp.log1p(-p)

    assert {"value", "reverse"} <= failing(planted(BINARY, value=clamped))


def test_a_custom_vjp_that_ends_forward_mode_is_caught():
    backwards = jax.custom_vjp(lambda z, y: BINARY.value(z, y))
    backwards.defvjp(lambda z, y: (BINARY.value(z, y), (z, y)), lambda r, g: (g * BINARY.grad(*r), None))
    assert failing(planted(BINARY, value=lambda z, y: backwards(z, y))) == {"forward"}


def test_a_wrong_second_derivative_is_caught():
    @jax.custom_jvp
    def frozen(z, y):
        return BINARY.value(z, y)

    @frozen.defjvp
    def jvp(primals, tangents):
        return frozen(*primals), jax.lax.stop_gradient(BINARY.grad(*primals)) * tangents[0]

    assert "second derivative" in failing(planted(BINARY, value=lambda z, y: frozen(z, y)), "float64")


def test_half_precision_inside_is_caught():
    def in_bfloat16(z, y):
        terms = jax.nn.log_sigmoid(z) * y + jax.nn.log_sigmoid(-z) * (1 - y)
        return -terms.astype(jnp.float32)

    assert "value" in failing(planted(BINARY, value=in_bfloat16), "bfloat16")


def test_zero_gradients_of_an_inverted_label_are_caught():
    loss = planted(INTEGER, grad=lambda z, y, **o: INTEGER.grad(z, (y + 1) % z.shape[-1], **o))
    assert failing(loss) == {"closed form", "closed form, masked"}


def test_a_definition_that_gives_no_number_is_no_comparison():
    broken = dataclasses.replace(BINARY, definition=lambda z, y, **options: jnp.log(-1 - z**2))
    assert "value" in failing(broken)


# What verification found.


@pytest.mark.parametrize(
    "logits",
    [
        [1.0, 1.0, -3.0],
        *(pytest.param(z, marks=pytest.mark.slow) for z in ([2.0, -1.0, 0.5], [-1.0, 2.0, 2.0])),
    ],
)
def test_hessians_are_true_where_the_label_is_largest_or_tied(logits):
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
