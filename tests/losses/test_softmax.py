"""The categorical losses: hand-worked numbers, digits of tiny losses, masks, options, mathematics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mpmath import mp, mpf
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss

import jaxce
from jaxce import brier_score, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels

of_integers = softmax_cross_entropy_with_integer_labels
ANIMALS = jnp.array([2, 1, 0])  # the true classes
MODEL_1 = np.array([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])
MODEL_2 = np.array([[0.1, 0.2, 0.7], [0.1, 0.7, 0.2], [0.3, 0.4, 0.3]])


# Hand-worked numbers. The logarithms of probabilities are logits.


def test_worked_softmax_values():
    assert_allclose(jnp.exp(-of_integers(jnp.array([3.0, 1.0, -3.0]), jnp.array(0))), 0.8788, atol=1e-4)
    p = jnp.exp(-of_integers(jnp.array([[1.0, 2.0, 3.0]] * 3), jnp.arange(3)))
    assert_allclose(p, [0.0900, 0.2447, 0.6652], atol=5e-5)


@pytest.mark.parametrize(
    ("model", "losses", "mean", "squares"),
    [
        (MODEL_1, [0.9163, 0.9163, 2.3026], 1.3784, [0.54, 0.54, 1.34]),
        (MODEL_2, [0.3567, 0.3567, 1.2040], 0.6391, [0.14, 0.14, 0.74]),
    ],
)
def test_worked_losses_of_the_three_animals(model, losses, mean, squares):
    ours = of_integers(jnp.log(model), ANIMALS)
    assert_allclose(ours, losses, atol=5e-5)
    assert_allclose(ours.mean(), mean, atol=1e-4)
    assert_allclose(log_loss(ANIMALS, model), ours.mean(), rtol=1e-6)
    assert_allclose(brier_score(jnp.log(model), ANIMALS), squares, rtol=1e-5)


@pytest.mark.parametrize(
    ("probs", "loss"),
    [
        ((0.6, 0.1, 0.1, 0.1, 0.1), 0.5108),
        ((0.1, 0.225, 0.225, 0.225, 0.225), 2.3026),
        ((0.3, 0.175, 0.175, 0.175, 0.175), 1.2040),
        ((0.5, 0.2, 0.3), 0.6931),
        ((0.7, 0.1, 0.2), 0.3567),
    ],
)
def test_worked_losses_of_one_row(probs, loss):
    assert_allclose(of_integers(jnp.log(jnp.array(probs)), jnp.array(0)), loss, atol=5e-5)


# Digits.


@pytest.mark.parametrize(
    ("logits", "value", "slope"),
    [
        ([0.0, -20.0], 2.0611536e-9, 2.0611536e-9),
        ([1e4, 1e4 - 5], 0.0067153485, 0.0066928509),
        ([0.0, -80.0], 1.8048513e-35, 1.8048513e-35),
    ],
)
@pytest.mark.parametrize(("loss", "label"), [(of_integers, 0), (softmax_cross_entropy, [1.0, 0.0])])
def test_a_tiny_loss_keeps_its_digits_and_its_gradient(loss, label, logits, value, slope):
    logits, label = jnp.array(logits), jnp.array(label)
    assert_allclose(loss(logits, label), value, rtol=2e-7)
    for grad in (loss.grad, jax.grad(loss), jax.jacfwd(loss)):
        assert_allclose(grad(logits, label), [-slope, slope], rtol=1e-6)


def test_tied_largest_logits_share_the_probability_exactly():
    grad = softmax_cross_entropy.grad(jnp.array([5.0, 5.0, -90.0]), jnp.array([1.0, 0.0, 0.0]))
    assert_allclose(grad[:2], [-0.5, 0.5])
    assert_allclose(softmax_cross_entropy(jnp.full(4, 1e4), jnp.eye(4)[1]), np.log(4), rtol=1e-6)


BRIER_POINTS = [
    ([0, -18, -200, -200], 0),
    ([0, -18, -200, -200], 1),
    ([0, 0, -20, -200], 2),
    ([0, 0, 0, -20], 3),
    ([30, 30.001, 0, 29.9999], 2),
    ([1e4, 1e4 - 5, 1e4 - 5.01, 0], 1),
    ([5, -3, 2, 1.9999], 0),
    ([2, 1, 0, -1], 3),
    ([1e4, -1e4, 0, -1e4], 0),
    ([1e4, -1e4, 0, -1e4], 1),
]


def test_brier_score_and_its_gradient_are_exact_in_float32():
    z, y = np.float32([z for z, _ in BRIER_POINTS]), np.array([y for _, y in BRIER_POINTS])
    value, grad = brier_score.value_and_grad(z, y)
    with mp.workdps(200):
        for row, label, found, slopes in zip(z, y, value, grad, strict=True):
            exps = [mp.exp(float(v - row.max())) for v in row]
            p = [each / mp.fsum(exps) for each in exps]
            r = [p_j - (j == label) for j, p_j in enumerate(p)]
            truth = [2 * a * (b - mp.fdot(r, p)) for a, b in zip(p, r, strict=True)]
            assert_allclose(found, float(mp.fdot(r, r)), rtol=1e-5)
            # to 1e-5 of each entry, the label's too; 1e-37 is where float32 ends
            assert_allclose(slopes, np.array(truth, float), rtol=1e-5, atol=1e-37)


# One compilation a setting; hypothesis varies only the numbers. 350 digits tell 1 from 1 + exp(−700).
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25])
LAYOUTS = [  # shape, axis of the classes, mask, dtype, options
    ((4,), -1, None, "float32", {}),
    ((3, 4), -1, "examples", "float64", {}),
    ((3, 4), 1, "classes", "float32", {"label_smoothing": 0.1}),
    ((4, 3), 0, "repeated", "bfloat16", {"class_weights": WEIGHTS}),
    ((2, 4, 3), -2, None, "float32", {"class_weights": WEIGHTS, "label_smoothing": 0.25}),
    ((2, 2, 2), (0, 2), "examples", "float16", {}),
    ((2, 3, 2), (-1, 0), "classes", "float64", {"z_loss": 0.01, "class_weights": WEIGHTS}),
    ((3, 1), -1, "classes", "float32", {"z_loss": 0.01, "label_smoothing": 0.1}),
]
LOGITS = st.one_of(
    st.sampled_from([-np.inf, 0.0, 1.0, 5.0, -20.0, -80.0, 88.0, 1e4, 9995.0, -1e4]),
    st.floats(-100, 100, width=16),
)
TARGETS = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(1 / 64, 1, width=16))


def row_truth(z, q, kept, weights, label_smoothing=0.0, z_loss=0.0):
    """Value, gradient, and the parts that cancel in it, of one row; `kept`: the classes not masked."""
    nothing = [mpf(0)] * len(z)
    seen = [j for j, ok in enumerate(kept) if ok and z[j] > -mp.inf]
    if not seen:
        return mpf(0), nothing, nothing
    largest = max(z[j] for j in seen)
    lse = largest + mp.log(mp.fsum(mp.exp(z[j] - largest) for j in seen))
    p = [mp.exp(v - lse) if j in seen else mpf(0) for j, v in enumerate(z)]
    share = [mpf(label_smoothing) / len(seen) if j in seen else 0 for j in range(len(z))]
    q = [w * ((1 - mpf(label_smoothing)) * v + s) for w, v, s in zip(weights, q, share, strict=True)]
    value = sum((v * (lse - z[j]) if j in seen else mp.inf for j, v in enumerate(q) if v), mpf(0))
    of_z_loss, total = 2 * mpf(z_loss) * lse, mp.fsum(q)
    grad = [(total * a - b + of_z_loss * a) * bool(ok) for a, b, ok in zip(p, q, kept, strict=True)]
    parts = [total * a + b + abs(of_z_loss) * a for a, b in zip(p, q, strict=True)]
    one_hot = sum(v > 0 for v in q) == 1 and not z_loss
    return value + mpf(z_loss) * lse**2, grad, nothing if one_hot else parts


def assert_near(found, truth, parts, dtype):
    """Relative error 1e-5, or what the dtype holds; of what is left of parts that cancel, relative to these."""
    found, truth, parts = (np.asarray(x, np.float64) for x in (found, truth, parts))
    limit, tiny = max(1e-5, float(jnp.finfo(dtype).eps)), 32 * float(jnp.finfo(dtype).tiny)
    with np.errstate(invalid="ignore"):
        near = np.abs(found - truth) <= limit * np.maximum(np.abs(truth), parts) + tiny
    assert (near | (found == truth)).all(), f"{found}, not {truth}"


@pytest.mark.parametrize(("shape", "axis", "mask", "dtype", "options"), LAYOUTS)
@pytest.mark.parametrize("loss", [of_integers, softmax_cross_entropy], ids=lambda loss: loss.__name__)
def test_softmax_losses_are_exact_at_any_numbers(loss, shape, axis, mask, dtype, options):
    axes = [a % len(shape) for a in ((axis,) if isinstance(axis, int) else axis)]
    batch = [a for a in range(len(shape)) if a not in axes]
    num_classes = int(np.prod([shape[a] for a in axes]))
    of_batch = tuple(shape[a] for a in batch)
    repeated = tuple(1 if a in batch else n for a, n in enumerate(shape))
    mask_shape = {None: (), "examples": of_batch, "classes": shape, "repeated": repeated}[mask]
    numbers = options | {"weights": [mpf(float(w)) for w in options.get("class_weights", np.ones(num_classes))]}
    numbers.pop("class_weights", None)

    def as_rows(array):
        return np.asarray(array).transpose(*batch, *axes).reshape(-1, num_classes)

    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(
        logits=arrays.arrays(np.float64, shape, elements=LOGITS),
        where=arrays.arrays(bool, mask_shape),
        classes=arrays.arrays(np.int32, of_batch, elements=st.integers(0, num_classes - 1)),
        soft=arrays.arrays(np.float32, shape, elements=TARGETS),
    )
    def is_exact(logits, where, classes, soft):
        with jax.enable_x64(dtype == "float64"), mp.workdps(350):
            z = jnp.asarray(logits, dtype)
            wide = jnp.promote_types(z.dtype, jnp.float32)
            kept = as_rows(np.broadcast_to(where if mask in ("classes", "repeated") else True, shape))
            if loss is of_integers:
                labels, targets = classes, np.eye(num_classes)[classes.ravel()]
            else:  # a target on a masked class does not count
                labels, targets = soft, as_rows(soft) * kept
            counts = where.ravel() if mask == "examples" else np.ones(len(kept), bool)
            rows = [
                row_truth(*([mpf(float(v)) for v in x] for x in (z_row, q)), ok, **numbers)
                if counted
                else (0, [0] * num_classes, [0] * num_classes)
                for z_row, q, ok, counted in zip(as_rows(z.astype(wide)), targets, kept, counts, strict=True)
            ]
            truth, slopes, parts = (np.array(x, float) for x in zip(*rows, strict=True))
            value, grad = loss.value_and_grad(z, labels, axis, None if mask is None else where, **options)
            assert (value.shape, grad.shape, grad.dtype) == (of_batch, shape, z.dtype)
            assert_near(value.ravel(), truth, 1e-5 * (options.get("z_loss", 0) > 0), value.dtype)
            assert_near(as_rows(grad.astype(wide)), slopes, parts, dtype)

    is_exact()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_logits_tell_all_classes_apart(dtype):  # keras: class 257 becomes 256
    logits = jnp.zeros((2, 5000), dtype).at[0, 257].set(9).at[1, 4097].set(9)
    for loss in (of_integers, jaxce.softmax_focal_loss, brier_score, jaxce.classification_error):
        right, wrong = (loss(logits, jnp.array(y)) for y in ([257, 4097], [256, 4096]))
        assert (right < wrong).all()


def test_bfloat16_logits_give_the_digits_of_float32():  # optax gives 8.875
    assert_allclose(of_integers(jnp.zeros((1, 6925), jnp.bfloat16), jnp.array([0])), 8.8429, atol=1e-4)


def test_classes_above_two_to_the_24_are_told_apart():  # float32 counts no further
    label = 2**24 + 1
    logits = jnp.zeros((1, 2**24 + 3)).at[0, label].set(40).at[0, label - 1].set(41)
    assert_allclose(of_integers(logits, jnp.array([label])), np.log1p(np.e), rtol=1e-5)
    assert_allclose(of_integers(logits, jnp.array([label - 1])), np.log1p(1 / np.e), rtol=1e-5)


# Options and masks.


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.3, "z_loss": 0.01, "class_weights": np.array([0.3, 1, 2, 0.5, 1.5])}]
)
def test_integer_labels_equal_their_one_hot_targets(options, rng):
    logits, labels = rng.normal(size=(6, 5)).astype(np.float32), rng.integers(0, 4, 6)
    logits[:, 4] = -np.inf
    found = of_integers.value_and_grad(logits, labels, **options)
    expected = softmax_cross_entropy.value_and_grad(logits, np.eye(5)[labels], **options)
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_values_agree_with_optax_where_optax_is_right(rng):
    logits, labels = rng.normal(size=(2, 6, 5)).astype(np.float32), rng.integers(0, 5, (2, 6))
    targets = rng.dirichlet(np.ones(5), (2, 6)).astype(np.float32)
    mask = (rng.random((2, 6, 5)) < 0.7) | (labels[..., None] == np.arange(5))
    for options in ({}, {"where": mask}):
        pairs = [("softmax_cross_entropy_with_integer_labels", labels), ("softmax_cross_entropy", targets)]
        for name, y in pairs:
            theirs = getattr(optax, name)(logits, y, **options)
            assert_allclose(getattr(jaxce, name)(logits, y, **options), theirs, rtol=1e-5)
    for axis in (0, (2, 1)):
        theirs = optax.softmax_cross_entropy(logits, targets, axis)
        assert_allclose(softmax_cross_entropy(logits, targets, axis), theirs, rtol=1e-5)
    poly = optax.losses.poly_loss_cross_entropy(logits, targets, epsilon=1.5)
    assert_allclose(jaxce.poly_loss_cross_entropy(logits, targets, epsilon=1.5), poly, rtol=1e-5)


def test_targets_on_masked_classes_do_not_count(rng):  # as optax reads `where`
    z, q = rng.normal(size=4).astype(np.float32), np.array([0.4, 0.3, 0.2, 0.1], np.float32)
    mask = np.array([True, False, True, True])
    assert_allclose(softmax_cross_entropy(z, q, where=mask), softmax_cross_entropy(z[mask], q[mask]), rtol=1e-6)
    theirs = optax.softmax_cross_entropy(z, q, where=mask)
    assert_allclose(softmax_cross_entropy(z, q, where=mask), theirs, rtol=1e-5)
    assert softmax_cross_entropy(np.where(mask, z, -np.inf).astype(np.float32), q) == np.inf  # without `where`


def test_an_integer_label_on_a_masked_class_costs_infinity():
    for z, where in (([0.0, -jnp.inf, 0.0], None), ([0.0, 0.0, 0.0], jnp.array([[True, False, True]]))):
        value, grad = of_integers.value_and_grad(jnp.array([z]), jnp.array([1]), where=where)
        assert value == jnp.inf
        assert_allclose(grad, [[0.5, 0 if where is not None else -1, 0.5]])


def test_targets_that_do_not_sum_to_one_are_used_as_they_stand(rng):
    logits, targets = rng.normal(size=4).astype(np.float32), np.array([0.5, 0.0, 2.0, 0.25], np.float32)
    value, grad = softmax_cross_entropy.value_and_grad(logits, targets)
    lse = np.log(np.exp(logits).sum())
    assert_allclose(value, targets.sum() * lse - targets @ logits, rtol=1e-5)
    assert_allclose(grad, targets.sum() * jax.nn.softmax(logits) - targets, rtol=1e-5)


@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_an_ignored_label_costs_nothing(run, rng):
    logits, labels = rng.normal(size=(4, 3)).astype(np.float32), np.array([0, -100, 2, -100])
    options = {"label_smoothing": 0.1, "z_loss": 0.1, "class_weights": np.ones(3)}
    value, grad = run(lambda z, y: of_integers.value_and_grad(z, y, ignore_index=-100, **options))(
        logits, labels
    )
    assert_array_equal(value[1::2], 0)
    assert_array_equal(grad[1::2], 0)
    assert_allclose(value[::2], of_integers(logits[::2], labels[::2], **options), rtol=1e-6)


def test_an_ignored_label_may_be_a_class_and_masks_count_too(rng):
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    value = of_integers(logits, np.array([1, 0, 2, 0]), where=np.array([True] * 3 + [False]), ignore_index=2)
    assert_array_equal(value[2:], 0)
    assert_array_equal(value[:2], of_integers(logits[:2], np.array([1, 0])))


def test_a_mean_over_ignored_labels_alone_is_zero():  # torch, CCE: NaN
    logits, labels = jnp.ones((3, 4)), jnp.full(3, -100)

    def mean(logits):
        return jaxce.weighted_mean(of_integers(logits, labels, ignore_index=-100), labels != -100)

    assert mean(logits) == 0
    assert_array_equal(jax.grad(mean)(logits), jnp.zeros((3, 4)))


def test_a_traced_ignore_index_is_compared_when_the_program_runs():
    logits, labels = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 7])
    losses = jax.jit(lambda ignored: of_integers(logits, labels, ignore_index=ignored))
    assert_array_equal(np.isnan(losses(7)), False)
    assert losses(7)[3] == 0
    assert_array_equal(np.isnan(losses(-1)), [False, False, False, True])


def test_class_weights_count_alike_for_hard_and_soft_targets(rng):  # torch divides soft ones by N
    logits, labels = rng.normal(size=(4, 3)).astype(np.float32), rng.integers(0, 3, 4)
    weights, targets = np.array([0.2, 1.0, 5.0], np.float32), np.eye(3, dtype=np.float32)[labels]
    hard = jaxce.weighted_mean(of_integers(logits, labels), weights[labels])
    soft = softmax_cross_entropy(logits, targets, class_weights=weights)
    assert_allclose(jaxce.weighted_mean(soft / (targets @ weights), targets @ weights), hard, rtol=1e-6)


@pytest.mark.parametrize(("labels", "alpha"), [([0, 2], [2.0, 1.0, 0.5]), ([1, 1], 0.25)])
def test_focal_alpha_is_one_number_or_one_per_class(labels, alpha, rng):
    logits = rng.normal(size=(2, 3)).astype(np.float32)
    weight = np.asarray(alpha)[labels] if isinstance(alpha, list) else alpha
    found = jaxce.softmax_focal_loss.value_and_grad(logits, labels, alpha=alpha)
    value, grad = jaxce.softmax_focal_loss.value_and_grad(logits, labels)
    assert_allclose(found[0], weight * value, rtol=1e-6)
    assert_allclose(found[1], np.reshape(weight, (-1, 1)) * grad, rtol=1e-6)


@pytest.mark.parametrize("lead", [1.0, 8.0, 20.0, 80.0])
def test_poly_loss_keeps_its_digits_where_its_parts_cancel(lead):
    logits, targets = jnp.array([lead, 0.0]), jnp.array([1.0, 0.0])
    other = 1 / (1 + mp.exp(mpf(lead)))
    value, grad = jaxce.poly_loss_cross_entropy.value_and_grad(logits, targets, epsilon=-1.0)
    assert_allclose(value, float(-mp.log1p(-other) - other), rtol=1e-6, atol=1e-37)
    assert_allclose(grad, [float(-(other**2)), float(other**2)], rtol=1e-6, atol=1e-37)


def test_without_focus_and_polynomial_each_is_cross_entropy(rng):
    logits, labels = rng.normal(size=(4, 3)).astype(np.float32), rng.integers(0, 3, 4)
    targets = rng.dirichlet(np.ones(3), 4)
    for found, expected in (
        (
            jaxce.softmax_focal_loss.value_and_grad(logits, labels, gamma=0.0),
            of_integers.value_and_grad(logits, labels),
        ),
        (
            jaxce.poly_loss_cross_entropy.value_and_grad(logits, targets, epsilon=0.0),
            softmax_cross_entropy.value_and_grad(logits, targets),
        ),
    ):
        assert_allclose(found[0], expected[0], rtol=1e-6)
        assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-7)


# Mathematics. M numbers are those of the specification.


def test_minimising_cross_entropy_minimises_the_divergence(rng):  # M1
    q, logits = rng.dirichlet(np.ones(5)).astype(np.float32), jnp.zeros(5)
    for _ in range(300):
        logits -= softmax_cross_entropy.grad(logits, q)
    assert_allclose(jax.nn.softmax(logits), q, atol=1e-4)
    assert_allclose(jaxce.kl_divergence(jax.nn.log_softmax(logits), q), 0, atol=1e-6)


def test_a_raised_logit_lowers_all_other_probabilities():  # M2
    grad = of_integers.grad(jnp.array([0.5, 1.0, -1.0]), jnp.array(1))
    assert grad[1] < 0 < min(grad[0], grad[2])


def test_the_jacobian_of_softmax_turns_into_p_minus_target(rng):  # M6
    z, y = rng.normal(size=4).astype(np.float32), jnp.array([0.0, 0.0, 1.0, 0.0])
    p = jax.nn.softmax(z)
    jacobian = jnp.diag(p) - jnp.outer(p, p)  # p_i (δ_ij − p_j)
    assert_allclose(jax.jacobian(jax.nn.softmax)(z), jacobian, rtol=1e-5, atol=1e-7)
    assert_allclose((-y / p) @ jacobian, p - y, rtol=1e-5, atol=1e-6)
    assert_allclose(softmax_cross_entropy.grad(z, y), p - y, rtol=1e-5)


def test_the_gradient_of_the_weights_is_input_times_error(rng):  # M6
    x, kernel = rng.normal(size=3).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    grad = jax.grad(lambda kernel: of_integers(x @ kernel, 1))(kernel)
    assert_allclose(grad, np.outer(x, jax.nn.softmax(x @ kernel) - np.eye(4)[1]), rtol=1e-5, atol=1e-6)


def test_the_hessian_of_the_loss_is_that_of_log_sum_exp(rng):  # M7
    z = rng.normal(size=5).astype(np.float32)
    p = jax.nn.softmax(z)
    hessian = jax.hessian(of_integers)(z, jnp.array(1))
    assert_allclose(hessian, jnp.diag(p) - jnp.outer(p, p), atol=1e-6)
    assert np.linalg.eigvalsh(hessian).min() > -1e-6


def test_the_gradient_in_the_targets_is_minus_log_p(rng):
    z, q = rng.normal(size=3).astype(np.float32), np.array([0.2, 0.3, 0.5], np.float32)
    assert_allclose(jax.grad(softmax_cross_entropy, 1)(z, q), -jax.nn.log_softmax(z), rtol=1e-5)
    mixed = jax.jacfwd(jax.grad(softmax_cross_entropy), 1)(z, q)  # d²loss / dz dq = p 1ᵀ − I
    assert_allclose(mixed, jnp.outer(jax.nn.softmax(z), jnp.ones(3)) - jnp.eye(3), rtol=1e-5, atol=1e-6)


def test_cross_entropy_ranks_what_the_error_rate_cannot():  # M8
    rates = [jaxce.classification_error(jnp.log(model), ANIMALS).mean() for model in (MODEL_1, MODEL_2)]
    assert_allclose(rates, [1 / 3, 1 / 3], rtol=1e-6)
    losses = [of_integers(jnp.log(model), ANIMALS).mean() for model in (MODEL_1, MODEL_2)]
    assert losses[1] < losses[0] / 2


def test_the_brier_gradient_vanishes_where_the_model_is_wrong():  # M9
    z = jnp.array([[-2.0, 0.0], [-5.0, 0.0], [-10.0, 0.0], [-20.0, 0.0]])
    slopes = jnp.abs(brier_score.grad(z, jnp.zeros(4, int))[:, 0])
    assert (jnp.diff(slopes) < 0).all()
    assert slopes[-1] < 1e-7
    assert (jnp.diff(jnp.abs(of_integers.grad(z, jnp.zeros(4, int))[:, 0])) > 0).all()
