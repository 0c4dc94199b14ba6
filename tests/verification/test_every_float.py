"""docs/every_float.py: its truths are true, its ulp are ulp, and every half-precision logit comes out right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxce
from docs import every_float


@pytest.mark.parametrize("name", every_float.TRUTHS)
@pytest.mark.parametrize("label", [0, 1])
def test_the_truths_are_the_definitions(name, label):
    loss = jaxce.LOSSES[name]

    def of_logit(x):
        if loss.labels == "binary":
            clip = {"clip": float(np.float32(0.05))} if "clip" in loss.options else {}
            return loss.definition(x, jnp.asarray(1.0 * label), **clip)
        row = jnp.stack([x, jnp.zeros_like(x)])
        return loss.definition(
            row, jnp.asarray(1 - label) if loss.labels == "integer" else jnp.eye(2)[1 - label]
        )

    with jax.enable_x64(True):
        x = np.array([-300.0, -88.0, -15.5, -1.0, -1e-9, 0.0, 0.3, 20.0, 300.0])
        sign = 1 if label else -1
        value, slope = every_float.TRUTHS[name][label](every_float.sigmoid(jnp.asarray(sign * x)))
        true = jaxce.exact(lambda x: (jax.vmap(of_logit)(x), jax.vmap(jax.grad(of_logit))(x)))(x)
        # of 2⁻²⁹ ulp of float32 this is nothing
        jaxce.assert_close_in_ulp((value, sign * slope), true, 32)


def test_an_ulp_is_an_ulp_and_nan_is_wrong():
    with jax.enable_x64(True):
        true = jnp.array([1.5, 0.75, 2.0, 1.0])
        found = jnp.array(
            [np.nextafter(np.float32(1.5), np.float32(2)), 0.75 - 2**-23, 2.0, np.nan], jnp.float32
        )
        assert every_float.errors_in_ulp(found, true).tolist() == [1, 2, 0, np.inf]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_logit_of_half_precision(dtype):
    names = ("softmax_cross_entropy_with_integer_labels", "sigmoid_focal_loss")
    worst = every_float.worst_of(dtype, names)
    limits = {
        (names[0], "value"): 4,
        (names[1], "value"): 8,
    }  # of float32; each is twice what was seen, or less
    assert {key: found for key, found in worst.items() if found.error > limits.get(key[::2], 1)} == {}


def test_a_loss_that_cancels_is_found(monkeypatch):
    name = "sigmoid_binary_cross_entropy"

    def cancelling(name, x, label):
        _, grad = run(name, x, label)
        return -jnp.log(jax.nn.sigmoid((2 * label - 1) * x.astype(jnp.float32))), grad

    run = every_float.run_loss
    monkeypatch.setattr(every_float, "run_loss", cancelling)
    worst = every_float.worst_of("bfloat16", (name,))
    assert worst[name, 1, "value"].error > 1e5
    assert worst[name, 1, "gradient"].error < 1
