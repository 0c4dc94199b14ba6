"""Chunked heads: equal to the loss on all logits in every derivative, and never all logits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxce
from jaxce import linear_loss, linear_softmax_cross_entropy, linear_token_statistics
from tests.heads.cases import LABEL_LOSS, LOSSES_OF_ROWS, arrays, assert_near, plain, quick_jit


def gradient(function, args):
    return jax.grad(function, tuple(range(len(args))))


def forward_over_reverse(function, args, ways):
    """Value, gradients, directional derivative and Hessian-vector product, compiled as one."""

    def value_and_grads(*args):
        return jax.value_and_grad(function, tuple(range(len(args))))(*args)

    return quick_jit(lambda *both: jax.jvp(value_and_grads, both[: len(args)], both[len(args) :]))(*args, *ways)


def reverse(function, args, ways):
    """Value and gradients."""
    return quick_jit(jax.value_and_grad(function, tuple(range(len(args)))))(*args)


def forward_and_reverse_twice(function, args, ways):
    """The directional derivative by forward mode, and the Hessian-vector product by reverse mode alone."""

    def both(*args):
        def along(*args):
            return sum((g * way).sum() for g, way in zip(gradient(function, args)(*args), ways, strict=True))

        return jax.jvp(function, args, ways)[1], gradient(along, args)(*args)

    return quick_jit(both)(*args)


def assert_same_derivatives(fused, whole, args, rng, derive=forward_over_reverse):
    """Of two functions of float64 arrays, to 1e-10 of the largest entry of the gradients."""
    ways = tuple(jnp.asarray(rng.normal(size=a.shape)) for a in args)
    found, expected = (jax.tree.leaves(derive(f, args, ways)) for f in (fused, whole))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype == np.float64
        assert_allclose(a, b, rtol=1e-9, atol=1e-10 * max(1.0, np.abs(b).max()))


EVERYTHING = {"label_smoothing": 0.1, "z_loss": 1e-2, "soft_cap": 5.0}


@pytest.mark.parametrize(
    ("reduction", "options", "derive"),
    [
        ("mean", EVERYTHING, forward_over_reverse),
        ("mean", EVERYTHING, forward_and_reverse_twice),
        ("none", EVERYTHING, forward_over_reverse),
        pytest.param("none", EVERYTHING, forward_and_reverse_twice, marks=pytest.mark.slow),
        pytest.param("mean", {}, forward_over_reverse, marks=pytest.mark.slow),
        pytest.param("sum", EVERYTHING, forward_over_reverse, marks=pytest.mark.slow),
    ],
)
def test_derivatives_equal_those_of_the_loss_on_all_logits(reduction, options, derive, rng, float64):
    x, w, b, y = arrays(rng, dtype=np.float64)
    share = jnp.asarray(rng.normal(size=len(y)))

    def reduce(losses):
        return (losses * share).sum() if reduction == "none" else losses

    def fused(x, w, b, *values):
        named = dict(zip(options, values, strict=True))
        return reduce(
            linear_softmax_cross_entropy(x, w, y, bias=b, reduction=reduction, chunk_size=11, **named)
        )

    def whole(x, w, b, *values):
        return reduce(plain(x, w, b, y, reduction=reduction, **dict(zip(options, values, strict=True))))

    args = (x, w, b, *(jnp.asarray(v) for v in options.values()))
    assert_same_derivatives(fused, whole, args, rng, derive)


def test_gradients_equal_central_differences(rng):
    with jax.enable_x64(True):
        x, w, b, y = arrays(rng, n=5, d=3, c=7, dtype=np.float64)

        def fused(x, w, b):
            return linear_softmax_cross_entropy(
                x, w, y, bias=b, label_smoothing=0.1, z_loss=0.01, soft_cap=3.0, chunk_size=2
            )

        grads = jax.grad(fused, (0, 1, 2))(x, w, b)
        for i, (array, grad) in enumerate(zip((x, w, b), grads, strict=True)):
            assert grad.dtype == jnp.float64
            way = jnp.asarray(rng.normal(size=array.shape))
            up, down = ([x, w, b] for _ in range(2))
            up[i], down[i] = array + 1e-6 * way, array - 1e-6 * way
            assert_allclose((grad * way).sum(), (fused(*up) - fused(*down)) / 2e-6, rtol=1e-7)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.bfloat16, 8e-3), (jnp.float16, 1e-3)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_half_precision_is_computed_in_float32(dtype, tolerance, reduction, rng):
    x, w, b, y = arrays(rng, n=300)
    x, w, b = (a.astype(dtype) for a in (x, w, b))

    def fused(x, w, b):
        found = linear_softmax_cross_entropy(x, w, y, bias=b, reduction=reduction, chunk_size=7)
        assert found.dtype == jnp.float32
        return found.mean()

    wide = [a.astype(jnp.float32) for a in (x, w, b)]
    value, grads = jax.jit(jax.value_and_grad(fused, (0, 1, 2)))(x, w, b)
    value_wide, grads_wide = jax.value_and_grad(lambda *a: plain(*a, y), (0, 1, 2))(*wide)
    assert_allclose(value, value_wide, rtol=1e-6)
    assert [grad.dtype for grad in grads] == [dtype] * 3
    assert_near(grads, grads_wide, tolerance)


def test_masks_and_class_weights_are_those_of_the_loss(rng):
    x, w, b, y = arrays(rng, c=12)
    weights = jnp.asarray(rng.uniform(0.5, 2, 12), jnp.float32)
    examples = rng.uniform(size=77) > 0.5
    classes = rng.uniform(size=12) > 0.3
    y = np.flatnonzero(classes)[rng.integers(0, classes.sum(), 77)]
    each = (rng.uniform(size=(77, 12)) > 0.3) | (y[:, None] == np.arange(12))
    for where in (examples, classes, each):
        whole = np.broadcast_to(where, (77, 12)) if where is classes else where
        where = where[None] if where is classes else where

        def fused(w, weights, where=where):
            return linear_softmax_cross_entropy(
                x, w, y, bias=b, where=where, class_weights=weights, label_smoothing=0.1, chunk_size=10
            )

        def expected(w, weights, where=whole):
            return plain(x, w, b, y, where=where, class_weights=weights, label_smoothing=0.1)

        found, wanted = (jax.jit(jax.value_and_grad(f, (0, 1)))(w, weights) for f in (fused, expected))
        assert_near(found, wanted)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_masks_weights_ignored_labels_and_a_cap_go_together(reduction, rng):
    x, w, b, y = arrays(rng, c=12)
    y, classes = y % 9, np.arange(12) < 9  # three columns are padding
    weights = rng.uniform(0, 2, 77).astype(np.float32)
    weights[:5], labels = 0, np.where(np.arange(77) % 4 == 0, 255, y).astype(np.uint8)
    labels[0] = 77  # of weight 0

    def fused(x, w, b):
        return linear_softmax_cross_entropy(
            x, w, labels, bias=b, where=classes[None], weights=weights, ignore_index=255, soft_cap=4.0,
            reduction=reduction, chunk_size=10,
        ).sum()  # fmt: skip

    def expected(x, w, b):
        z = jaxce.soft_cap(x @ w[:, :9] + b[None, :9], 4.0)
        counts = np.where(np.arange(77) % 4 == 0, 0, weights)
        losses = LABEL_LOSS(z, y) * counts
        return losses.sum() / (counts.sum() if reduction == "mean" else 1)

    found, wanted = (jax.value_and_grad(f, (0, 1, 2))(x, w, b) for f in (fused, expected))
    assert_near(found, wanted, 1e-5)


@pytest.mark.parametrize("n", [2, 3])
def test_a_mask_is_of_examples_by_its_shape_alone(n):
    x, w, y = jnp.ones((n, 2)), jnp.zeros((2, n)), np.arange(n) * 0
    mask = np.arange(n) < n - 1
    of_examples = linear_softmax_cross_entropy(x, w, y, where=mask, reduction="none")
    assert_allclose(of_examples, np.where(mask, np.log(n), 0), rtol=1e-6)
    of_classes = linear_softmax_cross_entropy(x, w, y, where=mask[None], reduction="none")
    assert_allclose(of_classes, np.log(n - 1), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"where has shape \(5,\).*; where\[None\] masks classes"):
        linear_softmax_cross_entropy(x, jnp.zeros((2, 5)), y, where=np.ones(5, bool))


def test_an_example_without_a_class_does_not_count_in_the_mean():
    where = np.array([[True, True, False], [False] * 3])
    for options in ({}, {"weights": np.array([3.0, 5.0])}, {"ignore_index": 1}):
        mean = linear_softmax_cross_entropy(
            jnp.ones((2, 4)), jnp.ones((4, 3)), np.array([0, 2]), where=where, **options
        )
        assert_allclose(mean, np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    "loss", [LABEL_LOSS, partial(LABEL_LOSS, label_smoothing=0.0), lambda z, y: LABEL_LOSS(z, y)]
)
def test_a_label_inside_any_loss_that_names_no_class_is_nan(loss, rng):
    x, w, _, y = arrays(rng)
    assert jnp.isnan(linear_loss(loss, x, w, np.where(np.arange(77) == 5, -1, y)))


def test_class_numbers_may_have_any_integer_dtype(rng):
    x, w, _, y = arrays(rng, c=300)
    labels = [(y % 128).astype(dtype) for dtype in "bBhHiI"]

    @jax.jit
    def every(w):
        return [jax.value_and_grad(lambda w, y=y: linear_softmax_cross_entropy(x, w, y))(w) for y in labels]

    first, *others = every(w)
    for found in others:
        jax.tree.map(assert_array_equal, found, first)


@pytest.mark.parametrize("kernel_dtype", ["float32", "bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn"])
def test_dtypes_need_no_implicit_promotion(dtype, kernel_dtype, rng):
    x, w, b, y = arrays(rng)
    x, w = x.astype(dtype), w.astype(kernel_dtype)
    with jax.numpy_dtype_promotion("strict"):

        def total(x, w):
            options = {"label_smoothing": 0.1, "z_loss": 0.1, "class_weights": np.ones(203), "soft_cap": 5}
            mean = linear_softmax_cross_entropy(x, w, y, bias=b, where=np.arange(77) > 2, **options)
            focal = linear_loss(jaxce.softmax_focal_loss, x, w, y, weights=np.arange(77), reduction="none")
            return mean + focal.sum() + linear_token_statistics(x, w, y).entropy.sum()

        grads = jax.eval_shape(jax.grad(total, (0, 1)), x, w)
    assert [grad.dtype for grad in grads] == [dtype, kernel_dtype]


def test_soft_labels_have_gradients_too(rng, float64):
    x, w, b, _ = arrays(rng, c=9, dtype=np.float64)
    q = jnp.asarray(rng.dirichlet(np.ones(9), 77))

    def fused(x, w, b, q):
        return linear_softmax_cross_entropy(x, w, q, bias=b, label_smoothing=0.1, chunk_size=10)

    def whole(x, w, b, q):
        return plain(x, w, b, q, label_smoothing=0.1)

    assert_same_derivatives(fused, whole, (x, w, b, q), rng)


def test_examples_that_do_not_count_may_hold_anything(rng):
    x, w, b, y = arrays(rng)
    where = np.arange(77) % 3 > 0
    broken = x.at[::3].set(jnp.nan)
    labels = np.where(where, y, -100)

    def mean(x, w, b, y):
        return linear_softmax_cross_entropy(x, w, y, bias=b, where=where, chunk_size=10)

    every = (0, 1, 2)
    found = jax.value_and_grad(mean, every)(broken, w, b, labels)
    assert_near(found, jax.value_and_grad(mean, every)(x, w, b, y), 1e-6)
    assert not found[1][0][::3].any()


def test_a_mean_over_nothing_is_zero_with_zero_gradients(rng):
    x, w, b, y = arrays(rng)

    def mean(x, w, b, n, **mask):
        return linear_softmax_cross_entropy(x[:n], w, y[:n], bias=b, **mask)

    for n, mask in [(0, {}), (77, {"where": np.zeros(77, bool)})]:
        value, grads = jax.value_and_grad(mean, (0, 1, 2))(x, w, b, n, **mask)
        assert value == 0
        assert not any(grad.any() for grad in grads)
    assert linear_softmax_cross_entropy(x[:0], w, y[:0], reduction="none").shape == (0,)
    assert linear_loss(LABEL_LOSS, x, w, y, weights=np.zeros(77)) == 0


# for the head, what others of the list are too: a loss of integers, of distributions, of components
OF_THE_SAME_KIND = (
    "poly_loss_cross_entropy",
    "softmax_focal_loss",
    "sigmoid_focal_loss",
    "asymmetric_loss",
    "squared_error",
    "kl_divergence_with_log_targets",
    "js_divergence",
    "brier_score",
)
COMPONENTS = [name for name, loss in jaxce.LOSSES.items() if loss.labels in ("binary", "real")]


def labels_for(name, rng, num_rows, num_classes):
    """What a loss of the list takes."""
    return {
        "integer": rng.integers(0, num_classes, num_rows),
        "distribution": rng.dirichlet(np.ones(num_classes), num_rows),
        "log_distribution": np.log(rng.dirichlet(np.ones(num_classes), num_rows)),
        "binary": rng.integers(0, 2, (num_rows, num_classes)).astype(float),
        "real": rng.normal(size=(num_rows, num_classes)),
    }[jaxce.LOSSES[name].labels]


def of_rows(name):
    """A loss of the list, as one number per row of logits."""

    def loss(z, labels):
        if jaxce.LOSSES[name].inputs == "log_probs":
            z = jax.nn.log_softmax(z)
        losses = jaxce.LOSSES[name].value(z, labels)
        return losses.sum(-1) if name in COMPONENTS else losses

    return loss


TWICE = pytest.param(forward_over_reverse, marks=pytest.mark.slow)


@pytest.mark.parametrize("derive", [reverse, TWICE])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in OF_THE_SAME_KIND else name
        for name in LOSSES_OF_ROWS
    ],
)
def test_every_loss_can_be_the_head_s(name, derive, rng, float64):
    x, w, b, _ = arrays(rng, n=20, c=9, dtype=np.float64)
    loss, labels = of_rows(name), labels_for(name, rng, 20, 9)
    weights = jnp.asarray(rng.uniform(0.1, 1, 20))

    def fused(x, w, b, weights):
        return linear_loss(loss, x, w, labels, bias=b, weights=weights, chunk_size=7)

    def whole(x, w, b, weights):
        return jaxce.weighted_mean(loss(x @ w + b[None], labels), weights)

    assert_same_derivatives(fused, whole, (x, w, b, weights), rng, derive)


MARGINS = [jaxce.arcface, jaxce.cosface, jaxce.sphereface, jaxce.combined_margin]


def with_margin(margin, **options):
    return lambda cosines, labels: LABEL_LOSS(margin(cosines, labels, **options), labels)


@pytest.mark.parametrize("derive", [reverse, TWICE])
@pytest.mark.parametrize(
    "margin", [jaxce.arcface, *(pytest.param(m, marks=pytest.mark.slow) for m in MARGINS[1:])]
)
def test_margins_work_in_the_head(margin, derive, rng, float64):
    x, w, _, y = arrays(rng, n=20, c=9, dtype=np.float64)
    x = x.at[3].set(0)
    loss = with_margin(margin, scale=16.0)

    def fused(x, w):
        return linear_loss(loss, jaxce.unit_vectors(x), jaxce.unit_vectors(w, axis=0), y, chunk_size=7)

    def whole(x, w):
        return loss(jaxce.normalized_cosines(x, w), y).mean()

    assert_same_derivatives(fused, whole, (x, w), rng, derive)


@pytest.mark.parametrize(
    "compile", [jax.jit, pytest.param(lambda f: f, marks=pytest.mark.slow)], ids=["jit", "eager"]
)
def test_numbers_in_a_loss_s_closure_are_differentiated(compile, rng, float64):
    x, w, b, y = arrays(rng, n=20, c=9, dtype=np.float64)
    sizes = jnp.asarray(rng.uniform(0.5, 2, 20))

    def fused(x, w, b, smoothing, power):
        def loss(z, rows):
            return LABEL_LOSS(z, rows[:, 0].astype(int), label_smoothing=smoothing) * rows[:, 1] ** power

        return linear_loss(loss, x, w, jnp.stack([jnp.asarray(y, float), sizes], -1), bias=b, chunk_size=9)

    def whole(x, w, b, smoothing, power):
        return (LABEL_LOSS(x @ w + b[None], y, label_smoothing=smoothing) * sizes**power).mean()

    args = (x, w, b, jnp.array([0.1, 0.3]), jnp.array([1.0, 2.0]))
    for derive in (partial(jax.grad, argnums=(0, 1, 2, 3, 4)), partial(jax.hessian, argnums=(3, 4))):
        found, expected = (
            made(jax.vmap(derive(f), (None, None, None, 0, 0)))(*args)
            for made, f in ((compile, fused), (jax.jit, whole))
        )
        assert_near(found, expected, 1e-10)


def test_a_batch_of_heads_is_its_heads(rng):
    x, w, b, y = arrays(rng)
    xs, ws, ys = jnp.stack([x, 2 * x]), jnp.stack([w, w[:, ::-1]]), np.stack([y, y[::-1]])

    def head(x, w, y):
        return jax.value_and_grad(
            lambda x, w: linear_softmax_cross_entropy(x, w, y, bias=b, chunk_size=10), (0, 1)
        )(x, w)

    found = jax.jit(jax.vmap(head))(xs, ws, ys)
    for i in range(2):
        assert_near(jax.tree.map(lambda a, i=i: a[i], found), head(xs[i], ws[i], ys[i]), 1e-6)


def test_examples_of_any_batch_shape(rng):
    x, w, b, y = arrays(rng, n=24)
    flat = linear_softmax_cross_entropy(x, w, y, bias=b, reduction="none")
    cube = linear_softmax_cross_entropy(x.reshape(2, 3, 4, 6), w, y.reshape(2, 3, 4), bias=b, reduction="none")
    assert_array_equal(cube, flat.reshape(2, 3, 4))
    one = linear_softmax_cross_entropy(x[0], w, y[0], bias=b)
    assert_allclose(one, flat[0], rtol=1e-6)
    weights = rng.uniform(size=(2, 12))
    some = linear_loss(LABEL_LOSS, x.reshape(2, 12, 6), w, y.reshape(2, 12), bias=b, weights=weights)
    assert_allclose(some, jaxce.weighted_mean(flat, weights.reshape(-1)), rtol=1e-6)


def test_token_statistics_need_no_logits(rng):
    x, w, b, y = arrays(rng)
    classes = rng.uniform(size=203) > 0.2
    classes[y] = True
    z = jnp.where(classes[None], jaxce.soft_cap(x @ w + b[None], 5.0), -jnp.inf)
    log_p = jax.nn.log_softmax(z)

    def found(x, w, **options):
        return linear_token_statistics(
            x, w, y, bias=b, where=classes[None], soft_cap=5.0, chunk_size=9, **options
        )

    statistics = found(x, w, label_smoothing=0.1, z_loss=1e-2)
    assert_near(statistics.lse, jax.nn.logsumexp(z, axis=-1))
    assert_near(statistics.label_log_prob, jnp.take_along_axis(log_p, y[:, None], -1)[:, 0])
    assert_near(statistics.entropy, -jnp.where(classes[None], jnp.exp(log_p) * log_p, 0).sum(-1), 5e-6)
    assert_array_equal(statistics.argmax, z.argmax(-1))
    assert_near(statistics.loss, LABEL_LOSS(z, y, label_smoothing=0.1, z_loss=1e-2), 5e-6)
    grad = jax.jit(jax.grad(lambda w: found(x, w).entropy.sum()))(w)

    def entropy(w):
        z = jaxce.soft_cap(x @ w[:, classes] + b[classes][None], 5.0)
        return -(jax.nn.softmax(z) * jax.nn.log_softmax(z)).sum()

    assert_near(grad, jax.grad(entropy)(w), 1e-5)
    masked = linear_token_statistics(x, w, np.where(y > 50, y, -1), where=y > 50)
    assert not masked.loss[y <= 50].any()
    assert not masked.label_log_prob[y <= 50].any()
    assert_allclose(masked.loss, -masked.label_log_prob)
