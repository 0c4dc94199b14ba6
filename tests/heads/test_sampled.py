"""Sampled heads: which classes they take, what they equal, and what they tend to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose, assert_array_equal

import jaxce
from jaxce import ClassParallel, linear_loss, partial_fc, sample_classes, sampled_softmax
from jaxce.heads import sampled
from tests.heads.cases import LABEL_LOSS, longest_axis

N, D, C = 24, 8, 512
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def parallel():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ("data", "model"))
    return ClassParallel(mesh, "model", "data")


def arrays(rng, parallel=None):
    x, w, b = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((N, D), (D, C), (C,)))
    if parallel is not None:
        specs = P("data"), P(None, "model"), P("model")
        x, w, b = (
            jax.device_put(a, NamedSharding(parallel.mesh, s)) for a, s in zip((x, w, b), specs, strict=True)
        )
    return x, w, b, rng.integers(0, C, N)


def value_and_grads(head, *args):
    return jax.jit(jax.value_and_grad(head, tuple(range(len(args)))))(*args)


def assert_near(found, expected, rtol=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_allclose(a, b, rtol=rtol, atol=rtol / 5 * np.abs(b).max())


@pytest.fixture(params=[False, True], ids=["one device", "eight devices"])
def maybe_parallel(request):
    return request.getfixturevalue("parallel") if request.param else None


MOSTLY_ONE_DEVICE = pytest.mark.parametrize(
    "maybe_parallel",
    [False, pytest.param(True, marks=pytest.mark.slow)],
    indirect=True,
    ids=["one device", "eight devices"],
)


def test_a_sample_has_every_label_and_no_class_twice(rng, maybe_parallel):
    labels = rng.integers(0, C, N)
    labels[:6] = labels[6]
    found = sample_classes(KEY, labels, C, 128, parallel=maybe_parallel)
    classes = np.asarray(found.classes)
    assert (np.diff(classes) > 0).all()
    assert len(classes) == 128
    assert_array_equal(classes[found.labels], labels)
    if maybe_parallel is not None:  # every device as many, of its own
        assert_array_equal(np.bincount(classes // (C // 4)), [32] * 4)


def test_of_the_other_classes_each_is_as_likely_to_be_sampled(rng):
    labels, rounds = np.array([3, 60, 3]), 3000
    keys = jax.random.split(KEY, rounds)
    classes = jax.vmap(lambda key: sample_classes(key, labels, 64, 20).classes)(keys)
    counts = np.bincount(np.asarray(classes).ravel(), minlength=64)
    assert_array_equal(counts[[3, 60]], rounds)
    p = 18 / 62
    z = (np.delete(counts, [3, 60]) - rounds * p) / np.sqrt(rounds * p * (1 - p))
    assert np.abs(z).max() < 4.5
    # the counts of one draw add up, so that the 62 z² lose one degree of freedom
    assert 30 < (z**2).sum() * 61 / 62 < 100


@pytest.mark.slow
def test_partial_fc_with_all_classes_is_the_full_loss(rng, maybe_parallel):
    x, w, b, y = arrays(rng, maybe_parallel)

    def loss(cosines, labels):
        return LABEL_LOSS(jaxce.arcface(cosines, labels, scale=8.0), labels)

    def sampled(x, w, b):
        options = {"num_sampled": C, "cosines": True, "bias": b / 100, "parallel": maybe_parallel}
        return partial_fc(x, w, y, KEY, loss=loss, **options)

    def full(x, w, b):
        return linear_loss(loss, jaxce.unit_vectors(x), jaxce.unit_vectors(w, axis=0), y, bias=b / 100)

    expected = value_and_grads(full, *(np.asarray(a) for a in (x, w, b)))
    assert_near(value_and_grads(sampled, x, w, b), expected, 5e-5)


def test_partial_fc_is_the_loss_of_the_sampled_columns_alone(rng, maybe_parallel):
    x, w, b, y = arrays(rng, maybe_parallel)
    weights = rng.uniform(size=N)

    def sampled(x, w, b):
        return partial_fc(x, w, y, KEY, num_sampled=128, bias=b, weights=weights, parallel=maybe_parallel)

    found = value_and_grads(sampled, x, w, b)
    classes, labels = sample_classes(KEY, y, C, 128, parallel=maybe_parallel)
    x, w, b, classes = (np.asarray(a) for a in (x, w, b, classes))

    def expected(x, w, b):
        z = x @ w[:, classes] + b[classes][None]
        return jaxce.weighted_mean(LABEL_LOSS(z, np.asarray(labels)), weights)

    assert_near(found, value_and_grads(expected, x, w, b))
    others = np.setdiff1d(np.arange(C), classes)
    assert not np.asarray(found[1][1])[:, others].any()


def errors_of(head, full, key, rounds, *args):
    """Of the mean of many estimates, relative to the true value and gradients; and of a single one."""
    truth = value_and_grads(full, *args)
    estimates = jax.jit(jax.lax.map, static_argnums=0)(
        lambda key: jax.value_and_grad(head, tuple(range(1, 1 + len(args))))(key, *args),
        jax.random.split(key, rounds),
    )
    single, of_mean = [], []
    for found, true in zip(jax.tree.leaves(estimates), jax.tree.leaves(truth), strict=True):
        length = np.linalg.norm(true)
        single.append(np.mean([np.linalg.norm(one - true) for one in np.asarray(found)]) / length)
        of_mean.append(np.linalg.norm(np.asarray(found).mean(0) - true) / length)
    return np.array(single), np.array(of_mean)


@MOSTLY_ONE_DEVICE
@pytest.mark.parametrize("name", [pytest.param("partial_fc", marks=pytest.mark.slow), "sampled_softmax"])
def test_estimates_tend_to_the_full_loss_with_more_samples(name, rng, maybe_parallel):
    x, w, b, y = arrays(rng, maybe_parallel)
    x, w, b = (0.5 * a for a in (x, w, b))

    def full(x, w, b):
        return linear_loss(LABEL_LOSS, x, w, y, bias=b)

    def error(num_sampled):
        def head(key, x, w, b):
            estimate = getattr(jaxce, name)
            return estimate(x, w, y, key, num_sampled=num_sampled, bias=b, parallel=maybe_parallel)

        return errors_of(head, full, KEY, 12, x, w, b)[0]

    if name == "partial_fc":  # falls short by the share that it leaves out, and no more
        few, some, most = error(C // 4), error(C // 2), error(C - 8)
        assert (some < 0.8 * few).all()
        assert (most < 0.2 * some).all()
    else:  # as 1/√S
        few, many = error(128), error(128 * 64)
        ratio = few / many  # 8; that of the value, one number, is the least certain
        assert 2 < ratio[0] < 32
        assert (ratio[1:] > 4).all()
        assert (ratio[1:] < 16).all()
        assert (many < 0.15).all()


def test_the_sampled_denominator_is_unbiased(rng, maybe_parallel):
    x, w, b, y = arrays(rng, maybe_parallel)
    x = x / 2
    z = np.asarray(x, np.float64) @ np.asarray(w, np.float64) + np.asarray(b, np.float64)
    of_label = z[np.arange(N), y]
    truth = np.exp(z - of_label[:, None]).sum(-1) - 1
    rounds = 400

    def denominators(key):
        return jnp.expm1(
            sampled_softmax(x, w, y, key, num_sampled=256, bias=b, reduction="none", parallel=maybe_parallel)
        )

    found = jax.jit(lambda keys: jax.lax.map(denominators, keys))(jax.random.split(KEY, rounds))
    found = np.asarray(found, np.float64) / truth
    # examples share their samples, so each mean has its own standard error and they are not independent
    z = (found.mean(0) - 1) / (found.std(0) / np.sqrt(rounds))
    assert np.abs(z).max() < 4.5
    assert (found.std(0) / np.sqrt(rounds) < 0.05).all()


def test_tiny_sampled_losses_keep_their_accuracy():
    w = jnp.zeros((1, 100)).at[0, 7].set(20.0)
    found = sampled_softmax(jnp.ones((1, 1)), w, jnp.array([7]), KEY, num_sampled=4096)
    assert_allclose(found, 99 * np.exp(-20), rtol=0.1)
    sure = sampled_softmax(jnp.ones((1, 1)), w[:, 7:8], jnp.array([0]), KEY, num_sampled=8)
    assert sure == 0


@MOSTLY_ONE_DEVICE
def test_gradients_of_sampled_softmax_are_central_differences(rng, maybe_parallel):
    with jax.enable_x64(True):
        x, w, b, y = arrays(rng, maybe_parallel)
        args = tuple(a.astype(np.float64) for a in (x, w, b))

        def head(x, w, b):
            return sampled_softmax(x, w, y, KEY, num_sampled=64, bias=b, chunk_size=5, parallel=maybe_parallel)

        head = jax.jit(head)
        grads = jax.grad(head, (0, 1, 2))(*args)
        for i, (array, grad) in enumerate(zip(args, grads, strict=True)):
            way = rng.normal(size=array.shape)
            up, down = (list(args) for _ in range(2))
            up[i], down[i] = array + 1e-5 * way, array - 1e-5 * way
            assert_allclose((np.asarray(grad) * way).sum(), (head(*up) - head(*down)) / 2e-5, rtol=1e-6)


def test_a_step_over_a_million_classes_touches_the_sample():
    n, d, c, sample = 64, 16, 10**6, 4096

    def step(key, x, w, y):
        found = sample_classes(key, y, c, sample)

        def loss(w):
            return linear_loss(LABEL_LOSS, x, w, found.labels)

        few = w[:, found.classes]
        return w.at[:, found.classes].add(-0.1 * jax.grad(loss)(few))

    shapes = ((n, d), jnp.float32), ((d, c), jnp.float32), ((n,), jnp.int32)
    structs = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    program = jax.jit(step, donate_argnums=2).lower(KEY, *structs).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * d * c / 2


def test_no_device_holds_all_sampled_logits_of_a_row(rng, parallel):
    x, w, _, y = arrays(rng, parallel)

    def heads(x, w, y):
        one = partial_fc(x, w, y, KEY, num_sampled=256, parallel=parallel)
        return one + sampled_softmax(x, w, y, KEY, num_sampled=256, parallel=parallel)

    program = jax.jit(jax.grad(heads, (0, 1))).lower(x, w, y).compile()
    assert longest_axis(program) < 256


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_a_value_error(rng, parallel):
    x, w, _, y = arrays(rng)
    for count, message in [
        (8, "must be at or above 24: 24 labels may all differ"),
        (513, "there are 512 classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            partial_fc(x, w, y, KEY, num_sampled=count)
    with pytest.raises(ValueError, match="use a multiple of 4"):
        partial_fc(x, w, y, KEY, num_sampled=101, parallel=parallel)
    with pytest.raises(ValueError, match="all be of the classes of one of 4 devices"):
        partial_fc(x, w, y, KEY, num_sampled=32, parallel=parallel)
    with pytest.raises(ValueError, match="labels holds 512"):
        partial_fc(x, w, np.full(N, 512), KEY, num_sampled=32)
    with pytest.raises(ValueError, match="num_sampled is 0"):
        sampled_softmax(x, w, y, KEY, num_sampled=0)


@pytest.mark.parametrize("head", [partial_fc, sampled_softmax])
def test_a_label_outside_the_classes_is_nan_inside_jit(head, rng, maybe_parallel):
    x, w, _, y = arrays(rng, maybe_parallel)
    found = jax.jit(lambda y: head(x, w, y, KEY, num_sampled=128, parallel=maybe_parallel))
    for wrong in (-1, C):
        assert np.isnan(found(jnp.asarray(y).at[5].set(wrong)))
    assert np.isfinite(found(jnp.asarray(y)))


def test_proposals_are_log_uniform(rng):
    classes, correction = sampled._propose(None, 50, 100_000, KEY)
    p = np.log((np.arange(50) + 2) / (np.arange(50) + 1)) / np.log(51)
    counts = np.bincount(classes, minlength=50)
    assert np.abs((counts - 1e5 * p) / np.sqrt(1e5 * p * (1 - p))).max() < 4.5
    assert_allclose(correction, -np.log(1e5 * p[np.asarray(classes)]), rtol=1e-5)
