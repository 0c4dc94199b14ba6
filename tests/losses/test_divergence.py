"""Cross-entropy, entropy and divergences of distributions: values, gradients, extremes and misuse."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import log_loss

import jaxce

DIVERGENCES = ["kl_divergence", "kl_divergence_with_log_targets", "js_divergence"]
ALL = ["cross_entropy", "entropy", *DIVERGENCES]
PLAIN = {
    "cross_entropy": lambda p, q: -(q * jnp.log(p)).sum(-1),
    "entropy": lambda p: -(p * jnp.log(p)).sum(-1),
    "kl_divergence": lambda log_p, q: (q * (jnp.log(q) - log_p)).sum(-1),
    "kl_divergence_with_log_targets": lambda log_p, log_q: (jnp.exp(log_q) * (log_q - log_p)).sum(-1),
    "js_divergence": lambda log_p, q: plain_js(jnp.exp(log_p), q),
}


def plain_js(p, q):
    middle = (p + q) / 2
    return (p * jnp.log(p / middle) + q * jnp.log(q / middle)).sum(-1) / 2


def both(name):
    return getattr(jaxce, name), getattr(jaxce, name).grad


def distributions(name, rng, shape, dtype=np.float32):
    """The arguments of a function: predictions and targets, in logarithms where it takes them."""
    p, q = (rng.dirichlet(np.full(shape[-1], 0.7), shape[:-1]) + 1e-3 for _ in range(2))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    first = np.log(p) if name in DIVERGENCES else p
    rest = {"entropy": (), "kl_divergence_with_log_targets": (np.log(q),)}.get(name, (q,))
    return tuple(np.asarray(x, dtype) for x in (first, *rest))


@pytest.mark.parametrize("name", ALL)
def test_value_is_the_definition_in_high_precision(name, rng):
    args = distributions(name, rng, (6, 5))
    values = both(name)[0](*args)
    for i, value in enumerate(values):
        rows = ([mpmath.mpf(float(v)) for v in x[i]] for x in args)
        assert_allclose(value, float(jaxce.LOSSES[name].definition(mpmath, *rows)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_gradient_is_that_of_the_plain_formula_and_of_central_differences(name, rng):
    with jax.enable_x64(True):
        first, *rest = distributions(name, rng, (3, 4), np.float64)
        value, grad = both(name)
        closed = grad(first, *rest)
        of_plain = jax.jit(jax.grad(lambda x: PLAIN[name](x, *rest).sum()))(first)
        assert_allclose(closed, of_plain, rtol=1e-9, atol=1e-12)
        assert_allclose(closed, jax.grad(lambda x: value(x, *rest).sum())(first), rtol=1e-12)
        assert_allclose(jax.jvp(lambda x: value(x, *rest), (first,), (first,))[1], (closed * first).sum(-1))
        step = 1e-6
        for i in range(first.shape[-1]):
            moved = step * np.eye(first.shape[-1])[i][None]
            difference = (value(first + moved, *rest) - value(first - moved, *rest)) / (2 * step)
            assert_allclose(closed[:, i], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ALL)
def test_hessian_and_target_gradients_are_those_of_the_plain_formula(name, rng):
    with jax.enable_x64(True):
        args = distributions(name, rng, (4,), np.float64)
        value, plain = both(name)[0], PLAIN[name]
        for which in range(len(args)):
            for derivative in (jax.grad, jax.hessian):
                assert_allclose(
                    jax.jit(derivative(value, which))(*args),
                    jax.jit(derivative(plain, which))(*args),
                    rtol=1e-9,
                    atol=1e-9,
                )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", [0, 1])
def test_a_batch_is_its_examples(name, kind, rng):
    function = both(name)[kind]
    args = distributions(name, rng, (5, 4))
    batch = function(*args)
    assert_allclose(batch, [function(*(x[i] for x in args)) for i in range(5)], rtol=1e-6)
    assert_allclose(batch, jax.vmap(function)(*args), rtol=1e-6)
    assert_allclose(batch, jax.jit(function)(*args), rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_the_axis_is_that_of_the_classes(name, rng):
    args = distributions(name, rng, (2, 3, 4))
    value, grad = both(name)
    first_axis = [np.moveaxis(x, -1, 0) for x in args]
    assert_allclose(value(*first_axis, axis=0), value(*args), rtol=1e-6)
    assert_allclose(grad(*first_axis, axis=0), np.moveaxis(grad(*args), -1, 0), rtol=1e-6)
    two_axes = [x.reshape(2, 3, 2, 2) for x in args]
    assert_allclose(value(*two_axes, axis=(2, 3)), value(*args), rtol=1e-6)
    assert_allclose(grad(*two_axes, axis=(-2, -1)).reshape(2, 3, 4), grad(*args), rtol=1e-6)


@pytest.mark.parametrize("name", ["kl_divergence", "kl_divergence_with_log_targets"])
def test_values_are_those_of_optax(name, rng):
    log_p, q = distributions(name, rng, (4, 5))
    where = rng.random((4, 5)) < 0.7
    ours, theirs = both(name)[0], getattr(optax.losses, name)
    assert_allclose(ours(log_p, q), theirs(log_p, q), rtol=1e-5, atol=1e-6)
    assert_allclose(ours(log_p, q, 0), theirs(log_p, q, 0), rtol=1e-5, atol=1e-6)
    assert_allclose(ours(log_p, q, -1, where), theirs(log_p, q, -1, where), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_what_is_masked_costs_nothing_and_has_no_gradient(name, rng):
    args = distributions(name, rng, (3, 5))
    value, grad = both(name)
    kept = np.array([True, False, True, True, False])
    alone = [x[:, kept] for x in args]
    by_class = np.broadcast_to(kept, (3, 5))
    poisoned = [np.where(by_class, x, np.nan) for x in args]
    assert_allclose(value(*poisoned, where=by_class), value(*alone), rtol=1e-6)
    assert_allclose(grad(*poisoned, where=by_class)[:, kept], grad(*alone), rtol=1e-6)
    assert not grad(*poisoned, where=by_class)[:, ~kept].any()
    assert_allclose(jax.grad(lambda x: value(x, poisoned[1], where=by_class).sum())(poisoned[0])[:, ~kept], 0)
    by_example = np.array([True, False, True])
    assert_allclose(value(*args, where=by_example), value(*args) * by_example)
    assert_allclose(grad(*args, where=by_example), grad(*args) * by_example[:, None])


# The mathematics that they embody.


def test_cross_entropy_is_entropy_plus_divergence(rng):  # M1
    p, q = distributions("cross_entropy", rng, (8, 6))
    assert_allclose(jaxce.cross_entropy(p, q), jaxce.entropy(q) + jaxce.kl_divergence(np.log(p), q), rtol=1e-5)


def test_cross_entropy_and_divergence_have_the_same_gradient_in_the_prediction(rng):  # M1
    p, q = distributions("cross_entropy", rng, (6,))
    of_divergence = jax.grad(lambda p: jaxce.kl_divergence(jnp.log(p), q))(p)
    assert_allclose(jaxce.cross_entropy.grad(p, q), of_divergence, rtol=1e-5)


def test_entropy_is_between_certainty_and_the_uniform_distribution(rng):
    (p,) = distributions("entropy", rng, (20, 7))
    assert (jaxce.entropy(p) > 0).all()
    assert (jaxce.entropy(p) < np.log(7)).all()
    assert jaxce.entropy(jnp.eye(7)).max() == 0
    assert_allclose(jaxce.entropy(jnp.full(7, 1 / 7)), np.log(7), rtol=1e-6)


def test_divergence_of_equal_distributions_is_zero(rng):
    q = rng.dirichlet(np.ones(1000), 20).astype(np.float32)
    assert_allclose(jaxce.kl_divergence(jnp.log(q), q), 0, atol=1e-6)
    assert_allclose(jaxce.kl_divergence_with_log_targets(jnp.log(q), jnp.log(q)), 0, atol=1e-6)
    uniform = jnp.full(131072, 2.0**-17)
    assert_allclose(jaxce.kl_divergence(jnp.log(uniform), uniform), 0, atol=1e-6)
    assert_allclose(jaxce.js_divergence(jnp.log(q), q), 0, atol=1e-12)


def test_the_root_of_js_divergence_is_a_metric(rng):
    p, q, r = rng.dirichlet(np.full(5, 0.5), (3, 200)).astype(np.float32)

    def distance(p, q):
        return np.sqrt(jaxce.js_divergence(np.log(p), q))

    assert_allclose(distance(p, q), distance(q, p), rtol=1e-5, atol=1e-6)
    assert (distance(p, q) <= distance(p, r) + distance(r, q) + 1e-6).all()
    assert (distance(p, q) <= np.sqrt(np.log(2)) + 1e-6).all()


def test_js_divergence_of_nearly_equal_distributions_keeps_its_accuracy_and_its_sign():
    q = np.array([0.3, 0.7], np.float32)
    log_p = np.log(np.array([0.3001, 0.6999], np.float32))
    rows = ([mpmath.mpf(float(v)) for v in x] for x in (log_p, q))
    truth = float(jaxce.LOSSES["js_divergence"].definition(mpmath, *rows))
    assert 0 < truth < 1e-8
    # the logarithms hold p to 1e-7, a thousandth of what parts it from q
    assert_allclose(jaxce.js_divergence(log_p, q), truth, rtol=3e-3)


def test_equal_distributions_have_no_js_divergence_and_no_gradient(rng):
    log_p = jnp.log(rng.dirichlet([30.0, 0.3, 0.3], 50).astype(np.float32))
    q = jnp.exp(log_p)
    assert_allclose(jaxce.js_divergence(log_p, q), 0, atol=1e-12)
    assert_allclose(jaxce.js_divergence.grad(log_p, q), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("probs", "losses", "mean"),
    [
        ([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]], [0.9163, 0.9163, 2.3026], 1.3784),
        ([[0.1, 0.2, 0.7], [0.1, 0.7, 0.2], [0.3, 0.4, 0.3]], [0.3567, 0.3567, 1.2040], 0.6391),
    ],
)
def test_worked_cross_entropies_of_the_three_animals(probs, losses, mean):
    ours = jaxce.cross_entropy(jnp.array(probs), jax.nn.one_hot(jnp.array([2, 1, 0]), 3))
    assert_allclose(ours, losses, atol=5e-5)
    assert_allclose(ours.mean(), mean, atol=1e-4)
    assert_allclose(ours.mean(), log_loss([2, 1, 0], probs), rtol=1e-6)


# Extremes.


def test_zero_times_log_zero_is_zero():
    hot = jnp.array([0.0, 1.0, 0.0])
    log_hot = jnp.log(hot)
    for value in (
        jaxce.cross_entropy(hot, hot),
        jaxce.entropy(hot),
        jaxce.kl_divergence(log_hot, hot),
        jaxce.kl_divergence_with_log_targets(log_hot, log_hot),
        jaxce.js_divergence(log_hot, hot),
    ):
        assert value == 0


def test_gradients_at_zero_targets_are_finite():  # optax's KL gives NaN
    log_p = jnp.log(jnp.array([0.25, 0.75, 0.0]))
    q = jnp.array([1.0, 0.0, 0.0])
    assert_allclose(jax.grad(jaxce.kl_divergence)(log_p, q), [-1, 0, 0])
    assert_allclose(jax.grad(jaxce.kl_divergence_with_log_targets)(log_p, jnp.log(q)), [-1, 0, 0])
    assert_allclose(
        jax.grad(jaxce.js_divergence)(log_p, q), [np.log(0.4) / 8, 0.75 * np.log(2) / 2, 0], rtol=1e-6
    )
    assert_allclose(jax.grad(jaxce.cross_entropy)(jnp.array([0.5, 0.5, 0.0]), q), [-2, 0, 0])
    for f in (jaxce.kl_divergence, jaxce.js_divergence):
        assert np.isfinite(jax.grad(f, 1)(log_p[:2], q[:2])).all()
        assert np.isfinite(jax.jvp(lambda log_p, f=f: f(log_p, q), (log_p,), (jnp.ones(3),))[1])


def test_a_positive_target_at_probability_zero_costs_inf():
    q = jnp.array([0.5, 0.5])
    assert jaxce.cross_entropy(jnp.array([0.0, 1.0]), q) == jnp.inf
    assert jaxce.kl_divergence(jnp.array([-jnp.inf, 0.0]), q) == jnp.inf
    assert jaxce.kl_divergence_with_log_targets(jnp.array([-jnp.inf, 0.0]), jnp.log(q)) == jnp.inf
    assert_allclose(jaxce.kl_divergence.grad(jnp.array([-jnp.inf, 0.0]), q), [-0.5, -0.5])
    assert_allclose(jaxce.js_divergence(jnp.array([-jnp.inf, 0.0]), q), 0.2157616, rtol=1e-6)


def test_entropy_of_a_softmax_that_underflows_has_the_gradient_of_the_limit():
    grad = jax.grad(lambda z: jaxce.entropy(jax.nn.softmax(z)))(jnp.array([0.0, -200.0]))
    assert_allclose(grad, 0)
    assert_allclose(jaxce.entropy.grad(jnp.array([0.0])), -1 - np.log(np.finfo(np.float32).tiny), rtol=1e-6)


def test_large_log_probabilities_are_exact():
    assert_allclose(
        jaxce.kl_divergence(jnp.array([-1e4, 0.0]), jnp.array([0.5, 0.5])), 5000 - np.log(2), rtol=1e-6
    )
    assert_allclose(jaxce.kl_divergence_with_log_targets(jnp.array([-1e4, 0.0]), jnp.array([-1e4, 0.0])), 0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(name, dtype, rng):
    args = tuple(jnp.asarray(x, dtype) for x in distributions(name, rng, (3, 4)))
    value, grad = both(name)
    exact = value(*(x.astype(jnp.float32) for x in args))
    assert value(*args).dtype == jnp.float32
    assert grad(*args).dtype == dtype
    assert_allclose(value(*args), exact, rtol=1e-6)


# Misuse.


@pytest.mark.parametrize("name", ["cross_entropy", *DIVERGENCES])
def test_shapes_that_differ_are_named(name):
    with pytest.raises(ValueError, match=r"targets has shape \(3, 1\) but .* \(3, 2\)"):
        both(name)[0](jnp.full((3, 2), 0.5), jnp.full((3, 1), 0.5))


@pytest.mark.parametrize("name", ALL)
def test_integers_are_no_distributions_and_an_axis_must_exist(name, rng):
    args = distributions(name, rng, (2, 3))
    with pytest.raises(TypeError, match="must be floating-point"):
        both(name)[0](args[0].astype(int), *args[1:])
    with pytest.raises(ValueError, match=r"axis is 2, but (probs|log_predictions) has 2 axes"):
        both(name)[0](*args, axis=2)


def test_logits_are_not_taken_for_probabilities_nor_logarithms_for_targets():
    with pytest.raises(ValueError, match=r"probs ranges from -1.0 to 2.0: probabilities lie in \[0, 1\]"):
        jaxce.cross_entropy(jnp.array([2.0, -1.0]), jnp.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="probs ranges"):
        jaxce.entropy(jnp.array([30.0, 70.0]))
    for function in (jaxce.kl_divergence, jaxce.js_divergence):
        with pytest.raises(ValueError, match="targets must not be negative"):
            function(jnp.array([-0.5, -1.0]), jnp.array([-0.5, -1.0]))
    with pytest.raises(ValueError, match="targets must not be negative"):
        jaxce.cross_entropy(jnp.array([0.5, 0.5]), jnp.array([-0.5, 1.5]))


def test_a_mask_must_be_boolean_and_fit():
    with pytest.raises(TypeError, match="where must be boolean"):
        jaxce.kl_divergence(jnp.zeros((2, 3)), jnp.ones((2, 3)), where=jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"where has shape \(3,\) but log_predictions \(2, 3\)"):
        jaxce.kl_divergence(jnp.zeros((2, 3)), jnp.ones((2, 3)), where=jnp.ones(3, bool))
