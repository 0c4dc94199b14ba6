"""The categorical losses: witnesses for values and gradients, masks, extremes, and every misuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import jaxce
from jaxce import (
    poly_loss_cross_entropy,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    softmax_focal_loss,
)

# The losses on logits that have a slope; the error rate is tested in test_regression.
SMOOTH = [
    loss
    for loss in jaxce.LOSSES.values()
    if loss.inputs == "logits" and loss.returns == "losses" and loss.name != "classification_error"
]
INTEGER_LOSSES = [loss.name for loss in SMOOTH if loss.labels == "integer"]
DISTRIBUTION_LOSSES = [loss.name for loss in SMOOTH if loss.labels == "distribution"]
CASES = [
    pytest.param(name, options, id=f"{name}-{options}")
    for name in INTEGER_LOSSES + DISTRIBUTION_LOSSES
    for options in ({}, *jaxce.LOSSES[name].cases)
]


def arguments(name, options, rng, batch=(3,), scale=3.0):
    """Logits, labels and options as arrays, of four classes as the cases have."""
    logits = rng.normal(scale=scale, size=(*batch, 4))
    if jaxce.LOSSES[name].labels == "integer":
        labels = rng.integers(0, 4, batch)
    else:
        labels = rng.dirichlet(np.ones(4), batch)
    return logits, labels, {k: np.array(v) if isinstance(v, tuple) else v for k, v in options.items()}


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradient_agrees_with_autodiff_in_both_modes_and_with_central_differences(name, options, rng):
    loss = jaxce.LOSSES[name]
    with jax.enable_x64(True):
        logits, labels, options = arguments(name, options, rng, batch=())
        closed = loss.grad(logits, labels, **options)
        for mode in (jax.grad, jax.jacfwd):
            assert_allclose(jax.jit(mode(loss.value))(logits, labels, **options), closed, rtol=1e-12)
        h = 1e-5
        for j, e in enumerate(np.eye(4) * h):
            up, down = (loss.value(logits + sign * e, labels, **options) for sign in (1, -1))
            assert_allclose((up - down) / (2 * h), closed[j], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_hessian_is_the_derivative_of_the_closed_form(name, options, rng):
    loss = jaxce.LOSSES[name]
    with jax.enable_x64(True):
        logits, labels, options = arguments(name, options, rng, batch=())
        hessian = jax.jit(jax.hessian(loss.value))(logits, labels, **options)
        twice = jax.jit(jax.jacrev(jax.jacrev(loss.value)))(logits, labels, **options)
        assert_allclose(twice, hessian, rtol=1e-10, atol=1e-15)
        h = 1e-5
        columns = [
            (loss.grad(logits + e, labels, **options) - loss.grad(logits - e, labels, **options)) / (2 * h)
            for e in np.eye(4) * h
        ]
        assert_allclose(hessian, np.stack(columns, -1), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_batch_is_its_examples(name, options, rng):
    loss = jaxce.LOSSES[name]
    logits, labels, options = arguments(name, options, rng, batch=(2, 3))
    batch, grads = loss.value(logits, labels, **options), loss.grad(logits, labels, **options)
    assert batch.shape == (2, 3)
    assert grads.shape == logits.shape
    mapped = jax.vmap(jax.vmap(lambda z, y: loss.value(z, y, **options)))(logits, labels)
    assert_allclose(batch, mapped, rtol=1e-6)
    for i in ((0, 0), (1, 2)):
        assert_allclose(batch[i], loss.value(logits[i], labels[i], **options), rtol=1e-6)
        assert_allclose(grads[i], loss.grad(logits[i], labels[i], **options), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(name, options, dtype, rng):
    loss = jaxce.LOSSES[name]
    logits, labels, options = arguments(name, options, rng)
    half = jnp.asarray(logits, dtype)
    value = loss.value(half, labels, **options)
    assert value.dtype == jnp.float32
    assert_array_equal(value, loss.value(half.astype(jnp.float32), labels, **options))
    for grad in (
        loss.grad(half, labels, **options),
        jax.grad(lambda z: loss.value(z, labels, **options).sum())(half),
    ):
        assert grad.dtype == dtype
        assert_array_equal(grad, loss.grad(half.astype(jnp.float32), labels, **options).astype(dtype))


def test_float64_stays_float64(rng):
    with jax.enable_x64(True):
        logits = jnp.asarray(rng.normal(size=(2, 3)))
        labels = jnp.array([0, 2])
        assert softmax_cross_entropy_with_integer_labels(logits, labels).dtype == jnp.float64
        assert softmax_cross_entropy_with_integer_labels.grad(logits, labels).dtype == jnp.float64


# Exactness: tiny losses, and large logits.

HARD = [
    ([0.0, -20.0], 2.0611536e-9, 2.0611536e-9),
    ([1e4, 1e4 - 5], 0.0067153485, 0.0066928509),
    ([0.0, -80.0], 1.8048513e-35, 1.8048513e-35),
]


@pytest.mark.parametrize(("logits", "value", "slope"), HARD)
@pytest.mark.parametrize("form", ["integer", "one-hot"])
def test_a_tiny_loss_keeps_its_digits_and_so_does_its_gradient(logits, value, slope, form):
    logits = jnp.array(logits)
    if form == "integer":
        loss, closed, labels = (*INTEGER_PAIR, jnp.array(0))
    else:
        loss, closed, labels = softmax_cross_entropy, softmax_cross_entropy.grad, jnp.array([1.0, 0.0])
    assert_allclose(loss(logits, labels), value, rtol=2e-7)
    assert_allclose(closed(logits, labels), [-slope, slope], rtol=1e-6)
    assert_allclose(jax.grad(loss)(logits, labels), [-slope, slope], rtol=1e-6)
    assert_allclose(jax.jacfwd(loss)(logits, labels), [-slope, slope], rtol=1e-6)


INTEGER_PAIR = (softmax_cross_entropy_with_integer_labels, softmax_cross_entropy_with_integer_labels.grad)


def test_large_logits_neither_overflow_nor_cancel(rng):
    logits = rng.uniform(-1e4, 1e4, (50, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 50)
    exact = np.longdouble(logits)
    lse = exact.max(-1) + np.log(np.exp(exact - exact.max(-1, keepdims=True)).sum(-1))
    assert_allclose(
        softmax_cross_entropy_with_integer_labels(logits, labels),
        lse - exact[np.arange(50), labels],
        rtol=1e-6,
        atol=1e-30,
    )


def test_tied_largest_logits_share_the_probability_exactly():
    grad = softmax_cross_entropy.grad(jnp.array([5.0, 5.0, -90.0]), jnp.array([1.0, 0.0, 0.0]))
    assert_allclose(grad[:2], [-0.5, 0.5])
    assert_allclose(softmax_cross_entropy(jnp.full(4, 1e4), jnp.eye(4)[1]), np.log(4), rtol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    logits=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=6),
    label=st.integers(0, 5),
    shift=st.sampled_from([-64.0, 32.0, 128.0]),
)
def test_any_row_has_a_nonnegative_loss_a_gradient_of_sum_zero_and_does_not_feel_a_shift(logits, label, shift):
    z = np.pad(np.array(logits, np.float32), (0, 6 - len(logits)), constant_values=-np.inf)
    label = label % len(logits)
    value = softmax_cross_entropy_with_integer_labels(z, label)
    grad = softmax_cross_entropy_with_integer_labels.grad(z, label)
    assert value >= 0
    assert np.isfinite(grad).all()
    assert abs(grad.sum()) < 1e-6
    assert_array_equal(grad[len(logits) :], 0)
    moved = softmax_cross_entropy_with_integer_labels(z + np.float32(shift), label)
    assert_allclose(moved, value, rtol=1e-4, atol=1e-4)
    one_hot = softmax_cross_entropy(z, np.eye(6, dtype=np.float32)[label])
    assert_allclose(one_hot, value, rtol=1e-6, atol=1e-37)


# Options.


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"z_loss": 0.01}, {"label_smoothing": 0.3}])
@pytest.mark.parametrize("weighted", [False, True])
def test_integer_labels_equal_their_one_hot_targets(options, weighted, rng):
    logits, labels = rng.normal(size=(6, 5)).astype(np.float32), rng.integers(0, 5, 6)
    logits[:, 4] = -np.inf
    labels %= 4
    if weighted:
        options = {**options, "class_weights": rng.uniform(0.1, 2, 5)}
    one_hot = np.eye(5)[labels]
    assert_allclose(
        softmax_cross_entropy_with_integer_labels(logits, labels, **options),
        softmax_cross_entropy(logits, one_hot, **options),
        rtol=1e-6,
    )
    assert_allclose(
        softmax_cross_entropy_with_integer_labels.grad(logits, labels, **options),
        softmax_cross_entropy.grad(logits, one_hot, **options),
        rtol=1e-5,
        atol=1e-7,
    )


def test_values_agree_with_optax_where_optax_is_right(rng):
    logits, labels = rng.normal(size=(6, 5)).astype(np.float32), rng.integers(0, 5, 6)
    targets = rng.dirichlet(np.ones(5), 6).astype(np.float32)
    mask = rng.random((6, 5)) < 0.7
    mask[np.arange(6), labels] = True
    assert_allclose(
        softmax_cross_entropy_with_integer_labels(logits, labels),
        optax.softmax_cross_entropy_with_integer_labels(logits, labels),
        rtol=1e-5,
    )
    assert_allclose(
        softmax_cross_entropy(logits, targets), optax.softmax_cross_entropy(logits, targets), rtol=1e-5
    )
    assert_allclose(
        softmax_cross_entropy_with_integer_labels(logits, labels, where=mask),
        optax.softmax_cross_entropy_with_integer_labels(logits, labels, where=mask),
        rtol=1e-5,
    )
    poly = optax.losses.poly_loss_cross_entropy(logits, targets, epsilon=1.5)
    assert_allclose(poly_loss_cross_entropy(logits, targets, epsilon=1.5), poly, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, -2, (1, 2), (2, 0)])
def test_axis_moves_the_classes(axis, rng):
    logits = rng.normal(size=(2, 3, 4)).astype(np.float32)
    axes = [a % 3 for a in ((axis,) if isinstance(axis, int) else axis)]
    batch = [a for a in range(3) if a not in axes]
    rows = logits.transpose(*batch, *axes).reshape(*(logits.shape[a] for a in batch), -1)
    labels = rng.integers(0, rows.shape[-1], rows.shape[:-1])
    expected = softmax_cross_entropy_with_integer_labels(rows, labels)
    assert_allclose(softmax_cross_entropy_with_integer_labels(logits, labels, axis), expected, rtol=1e-6)

    def total(z):
        return softmax_cross_entropy_with_integer_labels(z, labels, axis).sum()

    closed = softmax_cross_entropy_with_integer_labels.grad(logits, labels, axis)
    assert closed.shape == logits.shape
    assert_allclose(jax.grad(total)(logits), closed, rtol=1e-6)
    targets = rng.dirichlet(np.ones(24), ()).reshape(2, 3, 4).astype(np.float32)
    assert_allclose(
        softmax_cross_entropy(logits, targets, axis),
        optax.softmax_cross_entropy(logits, targets, axis),
        rtol=1e-5,
    )


def test_targets_that_do_not_sum_to_one_are_used_as_they_stand(rng):
    logits, targets = rng.normal(size=4).astype(np.float32), np.array([0.5, 0.0, 2.0, 0.25], np.float32)
    lse = np.log(np.exp(logits).sum())
    assert_allclose(softmax_cross_entropy(logits, targets), targets.sum() * lse - targets @ logits, rtol=1e-5)
    grad = targets.sum() * jax.nn.softmax(logits) - targets
    assert_allclose(softmax_cross_entropy.grad(logits, targets), grad, rtol=1e-5)


# Masks.


def test_a_masked_class_leaves_the_denominator(rng):
    logits, labels = rng.normal(size=(4, 5)).astype(np.float32), np.array([0, 1, 2, 0])
    classes = np.array([[True, True, True, False, False]])
    for options in ({}, {"label_smoothing": 0.1}, {"z_loss": 0.1}):
        masked = softmax_cross_entropy_with_integer_labels(logits, labels, where=classes, **options)
        assert_allclose(
            masked, softmax_cross_entropy_with_integer_labels(logits[:, :3], labels, **options), rtol=1e-6
        )
        grad = softmax_cross_entropy_with_integer_labels.grad(logits, labels, where=classes, **options)
        short = softmax_cross_entropy_with_integer_labels.grad(logits[:, :3], labels, **options)
        assert_allclose(grad[:, :3], short, rtol=1e-5, atol=1e-7)
        assert_array_equal(grad[:, 3:], 0)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_masked_example_costs_nothing_and_gets_no_gradient_even_if_it_is_nan(shape, rng):
    logits, labels = rng.normal(size=(3, 4)).astype(np.float32), np.array([0, 3, 1])
    logits[1] = np.nan
    keep = np.array([True, False, True]).reshape(shape)
    targets = np.eye(4)[labels]
    for loss, y in ((softmax_cross_entropy_with_integer_labels, labels), (softmax_cross_entropy, targets)):
        assert_array_equal(np.isfinite(loss(logits, y)), [True, False, True])
        value = loss(logits, y, where=keep, label_smoothing=0.1, z_loss=0.1)
        grad = jax.grad(
            lambda z, loss=loss, y=y: loss(z, y, where=keep, label_smoothing=0.1, z_loss=0.1).sum()
        )(logits)
        assert value[1] == 0
        assert_array_equal(grad[1], 0)
        alone = loss(logits[::2], y[::2], label_smoothing=0.1, z_loss=0.1)
        assert_allclose(value[::2], alone, rtol=1e-6)


def test_an_ignored_label_costs_nothing_and_gets_no_gradient(rng):
    logits, labels = rng.normal(size=(4, 3)).astype(np.float32), np.array([0, -100, 2, -100])
    options = {"label_smoothing": 0.1, "z_loss": 0.1, "class_weights": np.ones(3)}
    for run in (lambda f: f, jax.jit):
        value = run(lambda z, y: softmax_cross_entropy_with_integer_labels(z, y, ignore_index=-100, **options))
        grad = run(
            lambda z, y: softmax_cross_entropy_with_integer_labels.grad(z, y, ignore_index=-100, **options)
        )
        assert_array_equal(value(logits, labels)[1::2], 0)
        assert_array_equal(grad(logits, labels)[1::2], 0)
        seen = softmax_cross_entropy_with_integer_labels(logits[::2], labels[::2], **options)
        assert_allclose(value(logits, labels)[::2], seen, rtol=1e-6)


def test_a_mask_and_an_ignored_label_both_count(rng):
    logits, where = rng.normal(size=(3, 4)).astype(np.float32), np.array([True, False, True])
    value = softmax_cross_entropy_with_integer_labels(
        logits, np.array([1, 2, -100]), where=where, ignore_index=-100
    )
    assert_array_equal(value[1:], [0, 0])
    assert value[0] == softmax_cross_entropy_with_integer_labels(logits[0], 1)


def test_ignore_index_may_name_a_class(rng):
    logits = rng.normal(size=(2, 3)).astype(np.float32)
    value = softmax_cross_entropy_with_integer_labels(logits, np.array([1, 0]), ignore_index=1)
    assert value[0] == 0
    assert value[1] > 0


def test_minus_infinity_masks_a_class_in_every_mode():
    z = jnp.array([0.3, -jnp.inf, 1.0])
    for loss, y in ((softmax_cross_entropy, jnp.array([1.0, 0, 0])), (INTEGER_PAIR[0], jnp.array(0))):
        for options in ({}, {"label_smoothing": 0.1}, {"z_loss": 0.1}):
            smoothed = INTEGER_PAIR[0](z[jnp.array([0, 2])], jnp.array(0), **options)

            def f(z, loss=loss, y=y, options=options):
                return loss(z, y, **options)

            assert_allclose(f(z), smoothed, rtol=1e-6)
            for mode in (jax.grad, jax.jacfwd):
                grad = jax.jit(mode(f))(z)
                assert np.isfinite(grad).all()
                assert grad[1] == 0
            assert np.isfinite(jax.jit(jax.hessian(f))(z)).all()


def test_a_label_whose_class_is_masked_costs_infinity_and_never_less():
    z = jnp.array([[0.3, -jnp.inf, 1.0]])
    assert softmax_cross_entropy_with_integer_labels(z, jnp.array([1])) == jnp.inf
    assert softmax_cross_entropy(z, jnp.array([[0.0, 1.0, 0.0]])) == jnp.inf
    mask = jnp.array([[True, False, True]])
    assert softmax_cross_entropy_with_integer_labels(jnp.zeros((1, 3)), jnp.array([1]), where=mask) == jnp.inf
    grad = softmax_cross_entropy_with_integer_labels.grad(jnp.zeros((1, 3)), jnp.array([1]), where=mask)
    assert_allclose(grad, [[0.5, 0, 0.5]])


# Derivatives with respect to all else.


def test_targets_and_options_are_differentiated_too(rng):
    z, q = rng.normal(size=3).astype(np.float32), np.array([0.2, 0.3, 0.5], np.float32)
    log_p = jax.nn.log_softmax(z)
    assert_allclose(jax.grad(softmax_cross_entropy, 1)(z, q), -log_p, rtol=1e-5)
    by_smoothing = jax.grad(lambda e: softmax_cross_entropy(z, q, label_smoothing=e))(0.1)
    assert_allclose(by_smoothing, q @ log_p - log_p.mean(), rtol=1e-5)
    by_weights = jax.grad(lambda w: softmax_cross_entropy(z, q, class_weights=w))(np.ones(3, np.float32))
    assert_allclose(by_weights, -q * log_p, rtol=1e-5)
    lse = jax.nn.logsumexp(z)
    assert_allclose(jax.grad(lambda c: softmax_cross_entropy(z, q, z_loss=c))(0.1), lse**2, rtol=1e-5)
    p = jnp.exp(log_p[1])
    by_gamma = jax.grad(lambda g: softmax_focal_loss(z, jnp.array(1), gamma=g))(2.0)
    assert_allclose(by_gamma, -((1 - p) ** 2) * jnp.log(1 - p) * log_p[1], rtol=1e-5)
    mixed = jax.jacfwd(jax.grad(softmax_cross_entropy), 1)(z, q)  # d²loss / dz dq = p 1ᵀ − I
    assert_allclose(mixed, jnp.outer(jnp.exp(log_p), jnp.ones(3)) - jnp.eye(3), rtol=1e-5, atol=1e-6)


# Misuse.


@pytest.mark.parametrize("label", [-1, 3, 2**31 - 1])
def test_a_label_that_names_no_class_is_an_error_and_under_jit_nan_in_loss_and_gradient(label):
    z, y = np.zeros((2, 3), np.float32), np.array([1, label])
    with pytest.raises(ValueError, match=rf"labels holds {label}, but there are 3 classes"):
        softmax_cross_entropy_with_integer_labels(z, y)
    with pytest.raises(ValueError, match=rf"labels holds {label}"):
        softmax_cross_entropy_with_integer_labels(z, y, ignore_index=-7)
    for options in ({}, {"label_smoothing": 0.1}, {"class_weights": np.ones(3)}):
        value, grad = (jax.jit(lambda z, y, f=f, o=options: f(z, y, **o))(z, y) for f in INTEGER_PAIR)
        assert_array_equal(np.isnan(value), [False, True])
        assert_array_equal(np.isnan(grad), [[False] * 3, [True] * 3])
    reverse = jax.jit(jax.grad(lambda z, y: INTEGER_PAIR[0](z, y).sum()))(z, y)
    assert_array_equal(np.isnan(reverse), [[False] * 3, [True] * 3])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ((4, 3), (4, 1), r"labels has shape \(4, 1\) but logits \(4, 3\).*labels.reshape\(4,\)"),
        ((4, 3), (1,), r"if you mean to repeat it, use jnp.broadcast_to\(labels, \(4,\)\)"),
        ((4, 3), (4, 3), r"use labels.argmax\(-1\), or the loss that takes distributions"),
        ((4, 3), (5,), r"labels must have shape \(4,\)"),
    ],
)
def test_integer_labels_of_another_shape_are_an_error(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        softmax_cross_entropy_with_integer_labels(np.zeros(logits), np.zeros(labels, int))


@pytest.mark.parametrize("labels", [(4,), (4, 1), (1, 3), (3, 4)])
def test_targets_of_another_shape_are_an_error(labels):
    with pytest.raises(ValueError, match=r"labels has shape .* but logits \(4, 3\)"):
        softmax_cross_entropy(np.zeros((4, 3)), np.zeros(labels))
    with pytest.raises(ValueError, match=r"labels has shape .* but logits \(4, 3\)"):
        poly_loss_cross_entropy(np.zeros((4, 3)), np.zeros(labels))


def test_a_mask_of_another_shape_or_dtype_is_an_error():
    z, y = np.zeros((4, 3)), np.zeros(4, int)
    for where in (np.ones(3, bool), np.ones((3, 4), bool), np.ones((1, 4, 3), bool)):
        with pytest.raises(ValueError, match=r"give \(4,\) to mask examples or \(4, 3\) to mask classes"):
            softmax_cross_entropy_with_integer_labels(z, y, where=where)
    with pytest.raises(TypeError, match="where must be boolean"):
        softmax_cross_entropy_with_integer_labels(z, y, where=np.ones(4))


def test_wrong_dtypes_are_errors():
    z, y = np.zeros((4, 3)), np.zeros(4, int)
    with pytest.raises(TypeError, match="logits must be floating-point, but has dtype int"):
        softmax_cross_entropy_with_integer_labels(np.zeros((4, 3), int), y)
    with pytest.raises(TypeError, match="labels must be integers, but has dtype float"):
        softmax_cross_entropy_with_integer_labels(z, np.zeros(4))
    with pytest.raises(TypeError, match="labels must be integers, but has dtype bool"):
        softmax_cross_entropy_with_integer_labels(z, y > 0)
    with pytest.raises(TypeError, match="labels must be real"):
        softmax_cross_entropy(z, np.zeros((4, 3), complex))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.5}, r"label_smoothing is 1.5, but must lie in \[0, 1\]"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"label_smoothing": np.nan}, "label_smoothing is nan"),
        ({"label_smoothing": np.zeros(4)}, r"label_smoothing must be one number, but has shape \(4,\)"),
        ({"z_loss": -1.0}, "z_loss is -1.0, but must lie at or above 0"),
        ({"class_weights": np.ones(4)}, r"class_weights has shape \(4,\), but must have \(3,\)"),
        ({"class_weights": np.array([1.0, -1, 1])}, "class_weights must be finite and not negative"),
        ({"axis": 2}, r"axis is 2, but logits has 2 axes"),
        ({"axis": (1, -1)}, r"axis is \(1, -1\)"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        softmax_cross_entropy_with_integer_labels(np.zeros((4, 3)), np.zeros(4, int), **options)


def test_focal_and_poly_parameters_out_of_range_are_errors():
    z, y = np.zeros((4, 3)), np.zeros(4, int)
    with pytest.raises(ValueError, match="gamma is -1"):
        softmax_focal_loss(z, y, gamma=-1.0)
    with pytest.raises(ValueError, match="alpha must be finite and not negative"):
        softmax_focal_loss(z, y, alpha=-1.0)
    with pytest.raises(ValueError, match=r"alpha has shape \(2,\)"):
        softmax_focal_loss(z, y, alpha=np.ones(2))
    with pytest.raises(ValueError, match="epsilon is -2"):
        poly_loss_cross_entropy(z, np.zeros((4, 3)), epsilon=-2.0)
