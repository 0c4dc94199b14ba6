"""What holds of every loss, as LOSSES says of it: misuse is refused, masks and devices make no difference."""

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxce

ROOT = Path(__file__).parents[2]
LOSSES = jaxce.LOSSES
LABELLED = [name for name, loss in LOSSES.items() if loss.labels != "none"]
INTEGER = [name for name, loss in LOSSES.items() if loss.labels == "integer"]
OF_LOGITS = [name for name, loss in LOSSES.items() if loss.inputs == "logits" and loss.returns == "losses"]
ROWS_OF_LOGITS = [name for name in OF_LOGITS if LOSSES[name].labels in ("integer", "distribution")]
ON_LABELS = {"integer": "integers", "log_distribution": "floating-point"}


def arguments(loss, rng, batch=(4,), num_classes=3):
    """Inputs of its kind, a kernel where it takes one, and labels."""
    rows, targets = rng.dirichlet(np.ones(num_classes), (2, *batch)).astype(np.float32)
    of_kind = {"probs": rows, "log_probs": np.log(rows), "cosines": 2 * rows - 1}
    inputs = of_kind.get(loss.inputs, rng.normal(size=rows.shape).astype(np.float32))
    kernel = (
        [rng.normal(size=(num_classes, num_classes)).astype(np.float32)] if loss.inputs == "features" else []
    )
    labels = {
        "integer": rng.integers(0, num_classes, batch),
        "distribution": targets,
        "log_distribution": np.log(targets),
        "binary": targets,
        "real": targets,
    }
    return [inputs, *kernel, *([] if loss.labels == "none" else [labels[loss.labels]])]


def in_every_mode(loss, inputs, *rest):
    """The closed form, reverse mode and forward mode of a loss, each the gradient of the sum."""

    def total(inputs):
        return loss.value(inputs, *rest).sum()

    return loss.grad(inputs, *rest), jax.jit(jax.grad(total))(inputs), jax.jit(jax.jacfwd(total))(inputs)


# What LOSSES declares.


@pytest.mark.parametrize("name", LOSSES)
def test_the_declared_inputs_are_what_the_loss_calls_its_first_argument(name):
    first = next(iter(inspect.signature(LOSSES[name].value).parameters))
    assert first == {"log_probs": "log_predictions"}.get(LOSSES[name].inputs, LOSSES[name].inputs)


# What stands for "no weights" is None in a loss and 1 in its formula.
NEUTRAL = {"class_weights": 1.0, "pos_weight": 1.0}


@pytest.mark.parametrize("name", LOSSES)
def test_definitions_have_the_options_of_their_losses(name):
    of_definition = {
        p.name: p.default
        for p in inspect.signature(LOSSES[name].definition).parameters.values()
        if p.default is not p.empty
    }
    of_loss = {o: v for o, v in LOSSES[name].options.items() if o not in ("axis", "where", "ignore_index")}
    if name == "softmax_focal_loss":
        of_loss["alpha"] = 1.0
    assert of_definition == of_loss | {o: v for o, v in NEUTRAL.items() if o in of_loss}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_declare_whether_they_are_convex_and_heads_do_not(name):
    assert (LOSSES[name].convex is None) == (LOSSES[name].returns == "logits")


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_take_the_same_arguments_with_the_same_defaults(name):
    of_value, of_grad = (
        [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
        for function in (LOSSES[name].value, LOSSES[name].grad)
    )
    assert of_value == of_grad


def test_a_record_is_a_key_and_cannot_be_changed():
    for loss in LOSSES.values():
        assert {loss: loss.name}[loss] == loss.value.__name__
        with pytest.raises(dataclasses.FrozenInstanceError):
            loss.convex = True


def test_options_are_what_goes_by_keyword_only():
    assert LOSSES["softmax_focal_loss"].options == {"alpha": None, "gamma": 2.0}
    assert LOSSES["kl_divergence"].options == {}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loss_has_the_dtype_of_its_inputs_where_float64_is_on(name, dtype, rng):
    loss = LOSSES[name]
    with jax.enable_x64(True):
        rest = [r.astype(dtype) if r.dtype == np.float32 else r for r in arguments(loss, rng)]
        assert loss.value(*rest).dtype == loss.grad(*rest).dtype == dtype


# Misuse.


@pytest.mark.parametrize("name", LABELLED)
def test_labels_of_another_shape_raise_and_never_broadcast(name, rng):
    *before, labels = arguments(LOSSES[name], rng)
    wrong = [
        labels[..., None],
        labels[:1],
        labels[:3],
        labels[None],
        np.broadcast_to(labels, (4, *labels.shape)),
    ]
    if labels.ndim > 1:
        wrong += [labels[:, 0], labels[:, :1], labels.T]
    for other in wrong:
        for function in (LOSSES[name].value, LOSSES[name].grad):
            with pytest.raises(ValueError, match=r"(labels|targets) has shape \(.*\) but \w.* \(.*\).*: "):
                function(*before, other)


@pytest.mark.parametrize("name", INTEGER)
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_names_no_class_raises_and_under_jit_is_nan_in_value_and_gradients(name, label, rng):
    loss = LOSSES[name]
    inputs, *rest = arguments(loss, rng)
    rest[-1] = np.array([1, label, 0, 2])
    for function in (loss.value, loss.grad):
        with pytest.raises(ValueError, match=rf"labels holds {label}, but there are 3 classes.*\[0, 3\)"):
            function(inputs, *rest)

    def reverse(inputs, *rest):
        return jax.grad(lambda x: loss.value(x, *rest).sum())(inputs)

    def forward(inputs, *rest):
        return jax.jvp(lambda x: loss.value(x, *rest), (inputs,), (jnp.ones_like(inputs),))[1]

    for function in (loss.value, loss.grad, reverse, forward):
        is_nan = np.isnan(jax.jit(function)(inputs, *rest)).reshape(4, -1)
        assert_array_equal(is_nan.any(-1), [False, True, False, False])
        assert is_nan[1].all()


@pytest.mark.parametrize("name", LOSSES)
def test_inputs_that_are_not_floating_point_raise(name, rng):
    inputs, *rest = arguments(LOSSES[name], rng)
    for function in (LOSSES[name].value, LOSSES[name].grad):
        for dtype in (int, bool, complex):
            with pytest.raises(
                TypeError, match=r"^\w+ must be floating-point, but has dtype .*: use \w+.astype"
            ):
                function(np.zeros_like(inputs, dtype), *rest)


@pytest.mark.parametrize("name", LABELLED)
def test_labels_of_another_kind_raise(name, rng):
    *before, labels = arguments(LOSSES[name], rng)
    kind = ON_LABELS.get(LOSSES[name].labels, "real")
    for dtype in {"integers": (float, bool, complex), "floating-point": (int,), "real": (complex,)}[kind]:
        with pytest.raises(TypeError, match=rf"^(labels|targets|log_targets) must be {kind}, but has dtype"):
            LOSSES[name].value(*before, np.zeros_like(labels, dtype))


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, o)
        for name, loss in LOSSES.items()
        for o in loss.options
        if o not in ("axis", "where", "ignore_index")
    ],
)
def test_options_out_of_range_raise_where_they_can_be_seen(name, option, rng):
    inputs = arguments(LOSSES[name], rng)
    per_class = option in ("class_weights", "pos_weight")
    for bad in (-5.0, np.nan):
        value = np.array([1, bad, 1]) if per_class else bad
        if isinstance(LOSSES[name].options[option], int):
            value = -5
        with pytest.raises(ValueError, match=option):
            LOSSES[name].value(*inputs, **{option: value})
    with pytest.raises((ValueError, TypeError), match=option):
        LOSSES[name].value(*inputs, **{option: np.ones((2, 2))})


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, o) for name, loss in LOSSES.items() for o, v in loss.options.items() if isinstance(v, float)],
)
def test_an_option_is_the_same_number_seen_and_traced(name, option, rng):
    loss, inputs = LOSSES[name], arguments(LOSSES[name], rng)
    traced = jax.jit(lambda v: (loss.value(*inputs, **{option: v}), loss.grad(*inputs, **{option: v})))
    for number in (0.0, 0.5, 1.0, 2.0):
        try:
            value, grad = loss.value(*inputs, **{option: number}), loss.grad(*inputs, **{option: number})
        except ValueError:  # out of range where it is seen
            continue
        assert_allclose(value, traced(number)[0], rtol=1e-5, atol=1e-6)
        assert_allclose(grad, traced(number)[1], rtol=1e-5, atol=1e-6)


# Masks and infinities.


@pytest.mark.parametrize("name", ROWS_OF_LOGITS)
def test_a_class_at_minus_infinity_without_target_changes_nothing(name, rng):
    loss = LOSSES[name]
    logits, labels = arguments(loss, rng)
    far = np.concatenate([logits, np.full((4, 1), -np.inf, np.float32)], -1)
    longer = labels if loss.labels == "integer" else np.concatenate([labels, np.zeros((4, 1), np.float32)], -1)
    assert_allclose(loss.value(far, longer), loss.value(logits, labels), rtol=1e-6)
    closed = loss.grad(logits, labels)
    for found in in_every_mode(loss, far, longer):
        assert_allclose(found[:, :3], closed, rtol=1e-6, atol=1e-8)
        assert_array_equal(found[:, 3], 0)


@pytest.mark.parametrize("name", ROWS_OF_LOGITS)
def test_a_row_with_every_class_masked_costs_zero_and_has_zero_gradient(name, rng):
    loss = LOSSES[name]
    logits, labels = arguments(loss, rng)
    logits[1] = -np.inf
    assert loss.value(logits, labels)[1] == 0
    for found in in_every_mode(loss, logits, labels):
        assert_array_equal(found[1], 0)
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", [name for name in OF_LOGITS if name not in ROWS_OF_LOGITS])
def test_infinite_logits_cost_what_the_limit_says_and_are_nowhere_nan(name):
    loss = LOSSES[name]
    z, y = jnp.array([jnp.inf, -jnp.inf, -jnp.inf]), jnp.array([1.0, 0.0, 1.0])
    assert_array_equal(loss.value(z, y), [0, 0, np.inf])
    for found in in_every_mode(loss, z, y):
        assert_array_equal(found, [0, 0, -1])


# What torch and keras get wrong of batches and dtypes.


def test_the_mean_of_a_batch_in_which_every_label_is_ignored_is_zero_with_zero_gradient():  # torch, CCE: NaN
    logits, labels = jnp.ones((3, 4)), jnp.full(3, -100)

    def mean(logits):
        losses = jaxce.softmax_cross_entropy_with_integer_labels(logits, labels, ignore_index=-100)
        return jaxce.weighted_mean(losses, labels != -100)

    assert mean(logits) == 0
    assert_array_equal(jax.grad(mean)(logits), jnp.zeros((3, 4)))


def test_class_weights_count_alike_for_hard_and_soft_targets(rng):  # torch divides soft ones by N
    logits, labels = arguments(LOSSES["softmax_cross_entropy_with_integer_labels"], rng)
    weights, targets = np.array([0.2, 1.0, 5.0], np.float32), np.eye(3, dtype=np.float32)[labels]
    hard = jaxce.weighted_mean(jaxce.softmax_cross_entropy_with_integer_labels(logits, labels), weights[labels])
    of_targets = targets @ weights
    soft = jaxce.softmax_cross_entropy(logits, targets, class_weights=weights)
    assert_allclose(jaxce.weighted_mean(soft / of_targets, of_targets), hard, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_classes_above_256_keep_their_number_beside_half_precision_logits(dtype):  # keras: 257 becomes 256
    logits = jnp.zeros((2, 5000), dtype).at[0, 257].set(9).at[1, 4097].set(9)
    for name in INTEGER:
        if LOSSES[name].inputs == "logits" and LOSSES[name].returns == "losses":
            right, wrong = (LOSSES[name].value(logits, jnp.array(y)) for y in ([257, 4097], [256, 4096]))
            assert (right < wrong).all()


def test_a_loss_of_bfloat16_logits_has_the_digits_of_float32():  # optax gives 8.875
    logits = jnp.zeros((1, 6925), jnp.bfloat16)
    assert_allclose(jaxce.softmax_cross_entropy_with_integer_labels(logits, jnp.array([0])), 8.8429, atol=1e-4)


def test_classes_above_two_to_the_24_are_told_apart():  # float32 counts no further
    label = 2**24 + 1
    logits = jnp.zeros((1, 2**24 + 3)).at[0, label].set(40).at[0, label - 1].set(41)
    function = jaxce.softmax_cross_entropy_with_integer_labels
    assert_allclose(function(logits, jnp.array([label])), np.log1p(np.e), rtol=1e-5)
    assert_allclose(function(logits, jnp.array([label - 1])), np.log1p(1 / np.e), rtol=1e-5)


# Devices.

SHARDED = """
import json
import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec as P
import jaxce
from tests.losses.test_losses import LOSSES, arguments

rng = np.random.default_rng(0)
inputs = {name: arguments(loss, rng, batch=(16,)) for name, loss in LOSSES.items()}
# a kernel goes whole to every device, all else by example
specs = {name: [P("batch"), P(), P("batch")][:: 2 - (LOSSES[name].inputs == "features")][: len(a)]
         for name, a in inputs.items()}

def values(inputs):
    return {name: LOSSES[name].value(*a) for name, a in inputs.items()}

def closed(inputs):
    return {name: LOSSES[name].grad(*a) for name, a in inputs.items()}

def both(values, closed):
    def total(first):
        again = {name: [x, *inputs[name][1:]] for name, x in first.items()}
        return sum(v.sum() for v in values(again).values())
    first = {name: a[0] for name, a in inputs.items()}
    return jax.jit(lambda a, first: (values(a), closed(a), jax.grad(total)(first)))(inputs, first)

mesh = Mesh(jax.devices(), "batch")
spread = [jax.shard_map(f, mesh=mesh, in_specs=(specs,), out_specs=P("batch")) for f in (values, closed)]
on_eight, on_one = both(*spread), both(values, closed)
for found, expected in zip(on_eight, on_one, strict=True):
    for name in LOSSES:
        rounding = 1e-6 * abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-6, atol=rounding, err_msg=name)
assert all(len(v.sharding.device_set) == 8 for v in on_eight[0].values())
print(json.dumps(sorted(on_eight[0])))
"""


def test_every_loss_over_eight_devices_is_the_loss_on_one_in_value_and_gradients():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == sorted(LOSSES)
