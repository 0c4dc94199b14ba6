"""The binary losses: witnesses for values and gradients, certainty, extremes, and every misuse."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxce
from jaxce import asymmetric_loss, sigmoid_binary_cross_entropy, sigmoid_focal_loss

NAMES = ["sigmoid_binary_cross_entropy", "sigmoid_focal_loss", "asymmetric_loss"]
ONE_WEIGHT = [
    pytest.param(name, options, id=f"{name}-{options}")
    for name in NAMES
    for options in ({}, *jaxce.LOSSES[name].cases)
]
PER_CLASS = {"pos_weight": np.array([1.0, 2.0, 0.5, 3.0])}
CASES = [*ONE_WEIGHT, pytest.param(NAMES[0], PER_CLASS, id="pos_weight of each class")]


def both(name):
    return getattr(jaxce, name), getattr(jaxce, name).grad


def plain_binary(z, y, pos_weight=1.0, label_smoothing=0.0):
    y = (1 - label_smoothing) * y + label_smoothing / 2
    return -(pos_weight * y * jax.nn.log_sigmoid(z) + (1 - y) * jax.nn.log_sigmoid(-z))


def plain_focal(z, y, alpha=None, gamma=2.0):
    p = jax.nn.sigmoid(z)
    weight = 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    return weight * (y * (1 - p) + (1 - y) * p) ** gamma * plain_binary(z, y)


def plain_asymmetric(z, y, gamma_neg=4.0, gamma_pos=1.0, clip=0.05):
    p = jax.nn.sigmoid(z)
    shifted = jnp.where(p > clip, p - clip, 0)
    return -y * (1 - p) ** gamma_pos * jnp.log(p) - (1 - y) * shifted**gamma_neg * jnp.log(1 - shifted)


PLAIN = dict(zip(NAMES, (plain_binary, plain_focal, plain_asymmetric), strict=True))


def exact_binary(z, y, pos_weight=1, label_smoothing=0):
    y = (1 - label_smoothing) * y + mpmath.mpf(label_smoothing) / 2
    return pos_weight * y * mpmath.log1p(mpmath.exp(-z)) + (1 - y) * mpmath.log1p(mpmath.exp(z))


def exact_focal(z, y, alpha=None, gamma=2.0):
    miss = y / (1 + mpmath.exp(z)) + (1 - y) / (1 + mpmath.exp(-z))
    weight = 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    return weight * miss**gamma * exact_binary(z, y)


def exact_asymmetric(z, y, gamma_neg=4.0, gamma_pos=1.0, clip=0.05):
    p, not_p, clip = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z)), mpmath.mpf(float(np.float32(clip)))
    positive = not_p**gamma_pos * mpmath.log1p(mpmath.exp(-z))
    if p <= clip:
        return y * positive
    log_rest = mpmath.log1p(clip - p) if z < 0 else mpmath.log(not_p + clip)
    return y * positive - (1 - y) * (p - clip) ** gamma_neg * log_rest


EXACT = dict(zip(NAMES, (exact_binary, exact_focal, exact_asymmetric), strict=True))


def arguments(rng, batch=(3,), scale=3.0):
    """Logits of four classes, as PER_CLASS has, and labels that are hard, soft, and both."""
    logits = rng.normal(scale=scale, size=(*batch, 4))
    labels = np.where(
        rng.random(logits.shape) < 0.5, rng.random(logits.shape), rng.integers(0, 2, logits.shape)
    )
    return logits, labels


# Values and gradients, each by several witnesses.


@pytest.mark.parametrize(("name", "options"), ONE_WEIGHT)
@pytest.mark.parametrize("y", [0.0, 1.0, 0.3])
def test_value_and_gradient_are_the_formula_in_high_precision(name, options, y):
    z = np.float32([-1e4, -120, -88, -30, -20, -5, -2.9, -1, -1e-3, 0, 1e-3, 0.4, 1, 5, 20, 30, 88, 120, 1e4])
    value, grad = both(name)
    given = {key: float(np.float32(v)) for key, v in options.items()}
    soft = float(np.float32(y))
    with mpmath.workdps(60):
        truth = [EXACT[name](mpmath.mpf(float(v)), soft, **given) for v in z]
        slope = [mpmath.diff(lambda v: EXACT[name](v, soft, **given), mpmath.mpf(float(v))) for v in z]
    labels = np.full_like(z, y)
    assert_allclose(value(z, labels, **options), np.array(truth, float), rtol=1e-5, atol=1e-37)
    for found in (
        grad(z, labels, **options),
        jax.grad(lambda z: value(z, labels, **options).sum())(z),
        jax.jvp(lambda z: value(z, labels, **options), (z,), (jnp.ones_like(z),))[1],
    ):
        assert_allclose(found, np.array(slope, float), rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradient_is_that_of_the_plain_formula_and_of_central_differences(name, options, rng):
    with jax.enable_x64(True):
        logits, labels = arguments(rng, batch=())
        value, grad = both(name)
        closed = grad(logits, labels, **options)
        assert_allclose(value(logits, labels, **options), PLAIN[name](logits, labels, **options), rtol=1e-10)
        of_plain = jax.jit(jax.grad(lambda z: PLAIN[name](z, labels, **options).sum()))(logits)
        assert_allclose(closed, of_plain, rtol=1e-9, atol=1e-12)
        for mode in (jax.grad, jax.jacfwd):
            by_mode = jax.jit(mode(lambda z: value(z, labels, **options).sum()))(logits)
            assert_allclose(by_mode, closed, rtol=1e-12)
        up, down = (value(logits + h, labels, **options) for h in (1e-5, -1e-5))
        assert_allclose((up - down) / 2e-5, closed, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_second_derivatives_are_those_of_the_plain_formula_and_of_each_component_alone(name, options, rng):
    with jax.enable_x64(True):
        logits, labels = arguments(rng, batch=())
        value, grad = both(name)
        hessian = jax.jit(jax.hessian(lambda z: value(z, labels, **options).sum()))(logits)
        of_plain = jax.jit(jax.hessian(lambda z: PLAIN[name](z, labels, **options).sum()))(logits)
        assert_allclose(hessian, of_plain, rtol=1e-8, atol=1e-12)
        up, down = (grad(logits + h, labels, **options) for h in (1e-5, -1e-5))
        assert_allclose(np.diag(hessian), (up - down) / 2e-5, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_labels_and_options_are_differentiated_too(name, options, rng):
    with jax.enable_x64(True):
        logits, labels = arguments(rng, batch=())
        labels = np.clip(labels, 0.1, 0.9)
        numbers = {
            key: jnp.asarray(v) for key, v in {**jaxce.LOSSES[name].options, **options}.items() if v is not None
        }

        def total(function):
            return jax.jit(jax.grad(lambda y, o: function(logits, y, **o).sum(), (0, 1)))

        ours, plain = (total(f)(labels, numbers) for f in (both(name)[0], PLAIN[name]))
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-8, atol=1e-12), ours, plain)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_batch_is_its_examples(name, options, rng):
    logits, labels = arguments(rng, batch=(2, 3))
    for function in both(name):
        batch = function(logits, labels, **options)
        assert batch.shape == (2, 3, 4)
        mapped = jax.vmap(jax.vmap(lambda z, y, f=function: f(z, y, **options)))(logits, labels)
        assert_allclose(batch, mapped, rtol=1e-6)
        assert_allclose(batch[1, 2], function(logits[1, 2], labels[1, 2], **options), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_one_component_has_no_axes(name):
    for function in both(name):
        assert function(0.3, 1).shape == ()
        assert function(jnp.zeros((0, 4)), jnp.zeros((0, 4))).shape == (0, 4)


# What they have in common, and what optax has.


def test_values_agree_with_optax_where_optax_is_right(rng):
    logits, labels = (x.astype(np.float32) for x in arguments(rng))
    assert_allclose(
        sigmoid_binary_cross_entropy(logits, labels),
        optax.sigmoid_binary_cross_entropy(logits, labels),
        rtol=1e-5,
    )
    hard = (labels > 0.5).astype(np.float32)
    for options in ({}, {"alpha": 0.25}, {"alpha": 0.25, "gamma": 1.0}):
        assert_allclose(
            sigmoid_focal_loss(logits, hard, **options),
            optax.sigmoid_focal_loss(logits, hard, **options),
            rtol=1e-5,
        )


def test_without_focus_and_clip_each_is_binary_cross_entropy(rng):
    logits, labels = arguments(rng)
    for kind in (0, 1):
        binary, focal, asymmetric = (both(name)[kind] for name in NAMES)
        plain = binary(logits, labels)
        assert_allclose(focal(logits, labels, gamma=0.0), plain, rtol=1e-6, atol=1e-7)
        without = asymmetric(logits, labels, gamma_neg=0.0, gamma_pos=0.0, clip=0.0)
        assert_allclose(without, plain, rtol=1e-6, atol=1e-7)
        weighted = 0.5 * focal(logits, labels, gamma=3.0)
        assert_allclose(focal(logits, labels, gamma=3.0, alpha=0.5), weighted, rtol=1e-6)


def test_positives_and_negatives_are_mirror_images(rng):
    logits, labels = arguments(rng)
    for name in NAMES[:2]:
        value, grad = both(name)
        assert_allclose(value(-logits, 1 - labels), value(logits, labels), rtol=1e-5)
        assert_allclose(grad(-logits, 1 - labels), -grad(logits, labels), rtol=1e-5, atol=1e-7)


def test_label_smoothing_moves_labels_to_one_half(rng):
    logits, labels = arguments(rng)
    for function in both(NAMES[0]):
        smoothed = function(logits, 0.8 * labels + 0.1)
        assert_allclose(function(logits, labels, label_smoothing=0.2), smoothed, rtol=1e-5, atol=1e-6)
    assert_allclose(sigmoid_binary_cross_entropy(0.0, 1.0, label_smoothing=1.0), np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    "weight", [3.0, np.float32(3), jnp.array(3.0), np.full(4, 3.0), [3.0] * 4, (3, 3, 3, 3)]
)
def test_pos_weight_is_one_number_or_one_per_class(weight, rng):
    logits = arguments(rng, batch=(2, 5))[0]
    labels = rng.integers(0, 2, logits.shape)
    weight = np.asarray(weight) if isinstance(weight, list | tuple) else weight
    for function in both(NAMES[0]):
        assert_allclose(
            function(logits, labels, pos_weight=weight),
            np.where(labels, 3, 1) * function(logits, labels),
            rtol=1e-6,
        )


def test_pos_weights_go_by_class_and_never_by_example():
    square = np.zeros((4, 4))
    weighted = sigmoid_binary_cross_entropy(square, np.ones((4, 4)), **PER_CLASS)
    assert_allclose(weighted, np.log(2) * np.tile(PER_CLASS["pos_weight"], (4, 1)), rtol=1e-6)
    for shape in ((1,), (3,), (4, 1), (3, 4), (1, 4)):
        with pytest.raises(
            ValueError, match=r"pos_weight has shape .*, but must have \(4,\): one number, or one"
        ):
            sigmoid_binary_cross_entropy(np.zeros((3, 4)), np.zeros((3, 4)), pos_weight=np.ones(shape))


def test_a_positive_weight_of_zero_leaves_the_positives_out():
    z, y = jnp.array([-jnp.inf, -3.0, 2.0]), jnp.array([0.0, 1.0, 1.0])
    assert_array_equal(sigmoid_binary_cross_entropy(z, y, pos_weight=0.0), np.zeros(3))
    assert_array_equal(
        jax.grad(lambda z: sigmoid_binary_cross_entropy(z, y, pos_weight=0.0).sum())(z), np.zeros(3)
    )


# Extremes.


def test_a_tiny_loss_keeps_its_digits_and_so_does_its_gradient():  # autodiff of optax's form gives 0
    value, grad = both(NAMES[0])
    for z, truth in ((20.0, 2.0611536e-9), (80.0, 1.8048514e-35)):
        for sign, y in ((1, 1.0), (-1, 0.0)):
            assert_allclose(value(sign * z, y), truth, rtol=2e-7)
            for found in (grad(sign * z, y), jax.grad(value)(sign * z, y), jax.jacfwd(value)(sign * z, y)):
                assert_allclose(found, -sign * truth, rtol=1e-6)


def test_the_asymmetric_loss_of_a_hopeless_positive_has_gradient_minus_one():  # timm's log of a clamp gives 0
    z, y = jnp.array([-20.0, -30.0, -100.0, -200.0, -1e4]), jnp.ones(5)
    for found in (
        jaxce.asymmetric_loss.grad(z, y),
        jax.grad(lambda z: asymmetric_loss(z, y).sum())(z),
        jax.jvp(lambda z: asymmetric_loss(z, y), (z,), (jnp.ones(5),))[1],
    ):
        assert_allclose(found, -1, rtol=1e-6)
    assert_allclose(asymmetric_loss(z, y), -z, rtol=1e-6)


def test_an_easy_negative_costs_nothing_and_has_no_gradient():
    at_clip = np.log(0.05 / 0.95)
    z = jnp.array([at_clip - 1e-3, -10.0, -1e4, -jnp.inf])
    for gamma_neg in (4.0, 0.0):
        assert_array_equal(asymmetric_loss(z, jnp.zeros(4), gamma_neg=gamma_neg), np.zeros(4))
        assert_array_equal(jaxce.asymmetric_loss.grad(z, jnp.zeros(4), gamma_neg=gamma_neg), np.zeros(4))
    assert asymmetric_loss(at_clip + 0.1, 0.0) > 0
    assert_array_equal(asymmetric_loss(jnp.array([0.0, 1e4]), jnp.zeros(2), clip=1.0), np.zeros(2))


INF = np.inf
COST = -(0.95**4) * np.log(0.05)  # of a certain negative: p − clip is 0.95
LIMITS = [  # as z goes to +inf and −inf, with labels 1, 0 and ¼: values, then slopes
    (NAMES[0], {}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75, -1, 0, -0.25]),
    (NAMES[0], {"pos_weight": 3.0}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75, -3, 0, -0.75]),
    (NAMES[0], {"label_smoothing": 0.5}, [INF] * 6, [0.25, 0.75, 0.625, -0.75, -0.25, -0.375]),
    (NAMES[1], {"gamma": 0.0}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75, -1, 0, -0.25]),
    (NAMES[1], {}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75**3, -1, 0, -(0.25**3)]),
    (NAMES[2], {"clip": 0.0}, [0, INF, INF, INF, 0, INF], [0, 1, 0.75, -1, 0, -0.25]),
    (NAMES[2], {}, [0, COST, 0.75 * COST, INF, 0, INF], [0, 0, 0, -1, 0, -0.25]),
]


@pytest.mark.parametrize(("name", "options", "values", "slopes"), LIMITS)
def test_infinite_logits_are_certainty_and_give_the_limits(name, options, values, slopes):  # optax gives NaN
    z, y = jnp.repeat(jnp.array([INF, -INF]), 3), jnp.tile(jnp.array([1.0, 0.0, 0.25]), 2)
    value, grad = both(name)
    assert_allclose(value(z, y, **options), values, rtol=1e-6)
    for found in (
        grad(z, y, **options),
        jax.jit(jax.grad(lambda z: value(z, y, **options).sum()))(z),
        jax.jvp(lambda z: value(z, y, **options), (z,), (jnp.ones(6),))[1],
    ):
        assert_allclose(found, slopes, rtol=1e-6)
    near = jnp.sign(z) * 1e4
    assert_allclose(grad(near, y, **options), slopes, rtol=1e-6)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_nothing_is_nan_between_the_extremes(name, options):
    z = np.float32([-3e38, -1e4, -104, -89, -87.5, -17, -1e-30, 0, 1e-30, 17, 87.5, 89, 104, 1e4, 3e38, INF])
    z, y = (x.reshape(-1, 4) for x in np.meshgrid(z, np.float32([0, 1e-30, 0.5, 1])))
    value, grad = both(name)
    assert not np.isnan(value(z, y, **options)).any()
    assert (value(z, y, **options) >= 0).all()
    assert np.isfinite(grad(z, y, **options)).all()
    assert np.isfinite(jax.grad(lambda z: value(z, y, **options).sum())(z)).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_second_derivatives_are_finite_between_the_extremes_in_both_modes(name, options):
    z = np.float32([-3e38, -1e4, -104, -89, -87.5, -17, -1e-30, 0, 1e-30, 17, 87.5, 89, 104, 1e4, 1e30, 3e38])
    z, y = (x.reshape(-1, 4) for x in np.meshgrid(z, np.float32([0, 0.5, 1])))
    slope = jax.grad(lambda z: both(name)[0](z, y, **options).sum())
    assert np.isfinite(jax.grad(lambda z: slope(z).sum())(z)).all()
    assert np.isfinite(jax.jvp(slope, (z,), (np.ones_like(z),))[1]).all()


def test_a_nan_logit_is_not_hidden():
    for name in NAMES:
        for function in both(name):
            assert_array_equal(
                np.isnan(function(jnp.array([jnp.nan, 0.0]), jnp.array([1.0, 1.0]))), [True, False]
            )


# Dtypes.


@pytest.mark.parametrize(
    ("name", "options"), [(NAMES[0], PER_CLASS), (NAMES[1], {"alpha": 0.25}), (NAMES[2], {})]
)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(name, options, dtype, rng):
    logits, labels = arguments(rng)
    value, grad = both(name)
    half = jnp.asarray(logits, dtype)
    wide = half.astype(jnp.float32)
    assert value(half, labels, **options).dtype == jnp.float32
    assert_array_equal(value(half, labels, **options), value(wide, labels, **options))
    for found in (
        grad(half, labels, **options),
        jax.grad(lambda z: value(z, labels, **options).sum())(half),
    ):
        assert found.dtype == dtype
        assert_array_equal(found, grad(wide, labels, **options).astype(dtype))


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_integers_booleans_or_floating(name, rng):
    logits = arguments(rng)[0]
    labels = rng.integers(0, 2, logits.shape)
    for function in both(name):
        expected = function(logits, labels.astype(np.float32))
        for dtype in (bool, np.int8, jnp.bfloat16):
            assert_array_equal(function(logits, labels.astype(dtype)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_float64_stays_float64(name):
    with jax.enable_x64(True):
        for function in both(name):
            assert function(np.zeros(2), np.zeros(2)).dtype == jnp.float64
            assert function(np.zeros(2, np.float32), np.zeros(2)).dtype == jnp.float32


# Misuse.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("logits", "labels", "advice"),
    [
        ((4, 1), (4,), r"use labels.reshape\(4, 1\)"),  # optax gives 4×4 losses
        ((4,), (4, 1), r"use labels.reshape\(4,\)"),
        ((4, 3), (3,), r"if you mean to repeat it, use jnp.broadcast_to\(labels, \(4, 3\)\)"),
        ((4, 3), (4, 1), r"if you mean to repeat it, use jnp.broadcast_to\(labels, \(4, 3\)\)"),
        ((4, 3), (), r"if you mean to repeat it"),
        ((4, 3), (4,), r"labels must have shape \(4, 3\)"),
        ((4, 3), (1, 4, 3), r"use labels.reshape\(4, 3\)"),
    ],
)
def test_labels_of_another_shape_are_an_error_and_never_broadcast(name, logits, labels, advice):
    for function in both(name):
        for run in (function, jax.jit(function)):
            with pytest.raises(ValueError, match=rf"labels has shape .* but logits .*: {advice}"):
                run(np.zeros(logits), np.zeros(labels))


@pytest.mark.parametrize("name", NAMES)
def test_logits_that_are_not_floating_point_are_an_error(name):
    for function in both(name):
        for logits in (np.zeros(3, int), np.zeros(3, bool), 1):
            with pytest.raises(TypeError, match="logits must be floating-point, but has dtype"):
                function(logits, np.zeros(np.shape(logits)))
        with pytest.raises(TypeError, match="labels must be real, but has dtype complex"):
            function(np.zeros(3), np.zeros(3, complex))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [[-1.0, 1.0], [0.0, 2.0], [0.0, np.nan]])
def test_labels_outside_zero_and_one_are_an_error(name, labels):
    for function in both(name):
        with pytest.raises(ValueError, match=r"labels ranges from .* \[0, 1\]: use \(labels \+ 1\) / 2"):
            function(np.zeros(2), np.array(labels))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (NAMES[0], {"label_smoothing": 1.5}, r"label_smoothing is 1.5, but must lie in \[0, 1\]"),
        (NAMES[0], {"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        (
            NAMES[0],
            {"label_smoothing": np.zeros(3)},
            r"label_smoothing must be one number, but has shape \(3,\)",
        ),
        (NAMES[0], {"pos_weight": -1.0}, "pos_weight must be finite and not negative"),
        (NAMES[0], {"pos_weight": np.array([1, INF, 1])}, "pos_weight must be finite and not negative"),
        (NAMES[1], {"gamma": -1.0}, "gamma is -1.0, but must lie at or above 0"),
        (NAMES[1], {"gamma": np.nan}, "gamma is nan"),
        (NAMES[1], {"alpha": 1.5}, r"alpha is 1.5, but must lie in \[0, 1\]"),
        (NAMES[1], {"alpha": np.ones(3)}, r"alpha must be one number, but has shape \(3,\)"),
        (NAMES[2], {"gamma_neg": -1.0}, "gamma_neg is -1.0"),
        (NAMES[2], {"gamma_pos": -1.0}, "gamma_pos is -1.0"),
        (NAMES[2], {"clip": -0.1}, r"clip is -0.1, but must lie in \[0, 1\]"),
        (NAMES[2], {"clip": 1.1}, "clip is 1.1"),
    ],
)
def test_options_out_of_range_are_errors(name, options, message):
    for function in both(name):
        with pytest.raises(ValueError, match=message):
            function(np.zeros((2, 3)), np.zeros((2, 3)), **options)
