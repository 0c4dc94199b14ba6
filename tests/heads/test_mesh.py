"""Heads on a mesh of eight virtual devices: equal to one device, and no device holds a full row."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose

import jaxce
from jaxce import (
    ClassParallel,
    linear_loss,
    linear_softmax_cross_entropy,
    linear_token_statistics,
    partial_fc,
    sampled_softmax,
)
from jaxce.heads import passes
from tests.heads.cases import LABEL_LOSS, LOSSES_OF_ROWS, longest_axis

N, D, C = 24, 8, 512


@pytest.fixture(scope="module")
def mesh():
    return jax.sharding.Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ("data", "model"))


def arrays(rng, mesh, dtype=np.float32):
    """Features by example, kernel and bias by class, labels."""
    x, w, b = (rng.normal(size=shape).astype(dtype) for shape in ((N, D), (D, C), (C,)))
    placed = [(x, P("data")), (w, P(None, "model")), (b, P("model"))]
    return (*(jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in placed), rng.integers(0, C, N))


def assert_equal_and_no_full_row(head, args, given, parallel, rtol=2e-5):
    """Value and gradients in `args` of head(*args, given, parallel) on a mesh against those on one device."""

    def value_and_grads(parallel):
        every = tuple(range(len(args)))
        return jax.jit(lambda *args: jax.value_and_grad(partial(head, parallel=parallel), every)(*args))

    program = value_and_grads(parallel).lower(*args, given).compile()
    expected = value_and_grads(None)(*jax.tree.map(np.asarray, (*args, given)))
    for found, wanted in zip(jax.tree.leaves(program(*args, given)), jax.tree.leaves(expected), strict=True):
        assert_allclose(found, wanted, rtol=rtol, atol=rtol / 10 * max(np.abs(wanted).max(), 1e-2))
    assert longest_axis(program) < C


# the reductions of a row that these make are also made by a loss that is not slow
OF_THE_SAME_KIND = (
    "poly_loss_cross_entropy",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "sigmoid_focal_loss",
    "asymmetric_loss",
    "squared_error",
    "brier_score",
    "kl_divergence_with_log_targets",
    "js_divergence",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in OF_THE_SAME_KIND else name
        for name in LOSSES_OF_ROWS
    ],
)
def test_every_loss_is_that_of_one_device_without_a_full_row(name, rng, mesh):
    entry = LOSSES_OF_ROWS[name]
    x, w, b, y = arrays(rng, mesh)
    labels = {
        "integer": lambda: y,
        "distribution": lambda: rng.dirichlet(np.ones(C), N).astype(np.float32),
        "log_distribution": lambda: np.log(rng.dirichlet(np.ones(C), N)).astype(np.float32),
        "binary": lambda: rng.integers(0, 2, (N, C)).astype(np.float32),
        "real": lambda: rng.normal(size=(N, C)).astype(np.float32),
    }[entry.labels]()
    labels = jax.device_put(labels, NamedSharding(mesh, P("data", *("model",) * (labels.ndim - 1))))

    def loss(z, labels):
        if entry.inputs == "log_probs":
            z = jax.nn.log_softmax(z)
        losses = entry.value(z, labels)
        return losses.sum(-1) if losses.ndim == 2 else losses

    def head(x, w, b, weights, labels, parallel):
        return linear_loss(loss, x, w, labels, bias=b, weights=weights, chunk_size=5, parallel=parallel)

    weights = jax.device_put(rng.uniform(0.1, 1, N).astype(np.float32), NamedSharding(mesh, P("data")))
    assert_equal_and_no_full_row(head, (x, w, b, weights), labels, ClassParallel(mesh, "model", "data"))


@pytest.mark.parametrize(
    "margin",
    [
        jaxce.arcface,
        *(
            pytest.param(margin, marks=pytest.mark.slow)
            for margin in (jaxce.cosface, jaxce.sphereface, jaxce.combined_margin, jaxce.soft_margin_softmax)
        ),
    ],
)
def test_margins_are_those_of_one_device(margin, rng, mesh):
    x, w, _, y = arrays(rng, mesh)
    options = {} if margin is jaxce.soft_margin_softmax else {"scale": 8.0}

    def loss(cosines, labels):
        return LABEL_LOSS(margin(cosines, labels, **options), labels)

    def head(x, w, y, parallel):
        x, w = jaxce.unit_vectors(x), jaxce.unit_vectors(w, axis=0)
        return linear_loss(loss, x, w, y, chunk_size=5, parallel=parallel)

    assert_equal_and_no_full_row(head, (x, w), y, ClassParallel(mesh, "model", "data"))


OPTIONS = {
    "smoothing, z-loss and cap": lambda rng: {"label_smoothing": 0.1, "z_loss": 1e-2, "soft_cap": 5.0},
    "class weights": lambda rng: {"class_weights": rng.uniform(0.5, 2, C).astype(np.float32)},
    "some examples": lambda rng: {"where": rng.uniform(size=N) > 0.3},
    "some classes": lambda rng: {"where": np.arange(C)[None] < C - 7, "label_smoothing": 0.1},
    "some classes of each": lambda rng: {"where": np.arange(C) < rng.integers(C // 2, C, N)[:, None]},
}


@pytest.mark.parametrize(
    ("options", "reduction", "batch"),
    [(name, "mean", "data") for name in OPTIONS]
    + [("smoothing, z-loss and cap", *rest) for rest in (("none", "data"), ("mean", None))]
    + [pytest.param("smoothing, z-loss and cap", "none", None, marks=pytest.mark.slow)],
)
def test_every_option_is_that_of_one_device(options, reduction, batch, rng, mesh):
    x, w, b, y = arrays(rng, mesh)

    def head(x, w, b, given, parallel):
        y, options = given
        found = linear_softmax_cross_entropy(
            x, w, y, bias=b, reduction=reduction, chunk_size=5, parallel=parallel, **options
        )
        return (found * jnp.arange(found.size)).sum() if reduction == "none" else found

    given = y % (C // 2), OPTIONS[options](rng)
    assert_equal_and_no_full_row(head, (x, w, b), given, ClassParallel(mesh, "model", batch))


def test_soft_labels_are_spread_with_the_classes(rng, mesh):
    x, w, b, _ = arrays(rng, mesh)
    q = rng.dirichlet(np.ones(C), N).astype(np.float32)
    q = jax.device_put(q, NamedSharding(mesh, P("data", "model")))

    def head(x, w, b, q, _, parallel):
        return linear_softmax_cross_entropy(x, w, q, bias=b, chunk_size=5, parallel=parallel)

    assert_equal_and_no_full_row(head, (x, w, b, q), (), ClassParallel(mesh, "model", "data"))


def test_examples_over_two_axes(rng, mesh):
    cube = jax.sharding.Mesh(mesh.devices.reshape(2, 2, 2), ("a", "b", "model"))
    x, w, b, y = arrays(rng, mesh)

    def head(x, w, b, y, parallel):
        return linear_softmax_cross_entropy(x, w, y, bias=b, chunk_size=5, parallel=parallel)

    args = [jax.device_put(a, NamedSharding(cube, P())) for a in (x, w, b)]
    args[0] = jax.device_put(x, NamedSharding(cube, P(("a", "b"))))
    args[1] = jax.device_put(w, NamedSharding(cube, P(None, "model")))
    args[2] = jax.device_put(b, NamedSharding(cube, P("model")))
    assert_equal_and_no_full_row(head, args, y, ClassParallel(cube, "model", ("a", "b")))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 8), (8, 1), (1, 1)])
def test_an_axis_may_have_one_device(shape, rng, mesh):
    devices = mesh.devices.reshape(-1)[: shape[0] * shape[1]].reshape(shape)
    parallel = ClassParallel(jax.sharding.Mesh(devices, ("data", "model")), "model", "data")
    x, w, b, y = (np.asarray(a) for a in arrays(rng, mesh))

    def heads(x, w, b, parallel):
        key, options = jax.random.key(0), {"bias": b, "parallel": parallel}
        full = linear_softmax_cross_entropy(x, w, y, chunk_size=2, **options)
        few = partial_fc(x, w, y, key, num_sampled=C, **options)
        return full, few, sampled_softmax(x, w, y, key, num_sampled=2**15, **options)

    found = jax.jit(partial(heads, parallel=parallel))(x, w, b)
    expected = heads(x, w, b, None)
    assert_allclose(found[:2], expected[:2], rtol=1e-6)
    assert_allclose(found[2], expected[2], rtol=0.05)


def test_hessian_vector_products_are_those_of_one_device(rng, mesh, float64):
    x, w, b, y = arrays(rng, mesh, np.float64)
    parallel = ClassParallel(mesh, "model", "data")
    ways = tuple(jnp.asarray(rng.normal(size=a.shape)) for a in (x, w, b))

    def hvp(args, parallel):
        def head(x, w, b):
            return linear_softmax_cross_entropy(
                x, w, y, bias=b, label_smoothing=0.1, z_loss=0.1, chunk_size=5, parallel=parallel
            )

        return jax.jvp(jax.value_and_grad(head, (0, 1, 2)), args, ways)

    program = jax.jit(lambda *args: hvp(args, parallel)).lower(x, w, b).compile()
    expected = jax.jit(lambda *args: hvp(args, None))(*(np.asarray(a) for a in (x, w, b)))
    for found, wanted in zip(jax.tree.leaves(program(x, w, b)), jax.tree.leaves(expected), strict=True):
        assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)


def test_token_statistics_are_those_of_one_device(rng, mesh):
    x, w, b, y = arrays(rng, mesh)
    parallel = ClassParallel(mesh, "model", "data")

    def statistics(x, w, b, parallel):
        return linear_token_statistics(x, w, y, bias=b, soft_cap=5.0, chunk_size=5, parallel=parallel)

    program = jax.jit(lambda *args: statistics(*args, parallel)).lower(x, w, b).compile()
    expected = statistics(*(np.asarray(a) for a in (x, w, b)), None)
    for found, wanted in zip(program(x, w, b), expected, strict=True):
        assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert longest_axis(program) < C


def test_a_loss_of_one_s_own_may_close_over_numbers(rng, mesh):
    x, w, b, y = arrays(rng, mesh)

    def head(x, w, b, sharpness, y, parallel):
        def loss(z, y):
            z = z * sharpness
            return jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, y[:, None], -1)[:, 0]

        return linear_loss(loss, x, w, y, bias=b, chunk_size=5, parallel=parallel)

    args = x, w, b, jnp.float32(0.5)
    assert_equal_and_no_full_row(head, args, y, ClassParallel(mesh, "model", "data"))


def test_a_loss_that_sorts_its_row_is_seen_to_gather_it(rng, mesh):
    x, w, _, y = arrays(rng, mesh)

    def middle(x, w, y):
        parallel = ClassParallel(mesh, "model", "data")
        return linear_loss(lambda z, y: jnp.sort(z, -1)[:, C // 2], x, w, y, chunk_size=5, parallel=parallel)

    assert longest_axis(jax.jit(middle).lower(x, w, y).compile()) >= C


@pytest.mark.slow
def test_a_kernel_of_several_blocks_stays_spread(rng, mesh, monkeypatch):
    monkeypatch.setattr(passes, "BLOCK_BYTES", 4 * D * 100)
    jax.clear_caches()
    x, w, b, y = arrays(rng, mesh)

    def head(x, w, b, y, parallel):
        return linear_softmax_cross_entropy(x, w, y, bias=b, chunk_size=5, parallel=parallel)

    assert_equal_and_no_full_row(head, (x, w, b), y, ClassParallel(mesh, "model", "data"))
    jax.clear_caches()


def test_there_may_be_as_many_examples_as_classes(rng, mesh):
    x, w, b, y = arrays(rng, mesh)

    def head(x, w, b, y, parallel):
        return linear_softmax_cross_entropy(x, w[:, :N], y % N, bias=b[:N], chunk_size=5, parallel=parallel)

    found, expected = (head(x, w, b, y, parallel) for parallel in (ClassParallel(mesh, "model", "data"), None))
    assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_the_mesh_is_a_value_error(rng, mesh):
    x, w, _, y = (np.asarray(a) for a in arrays(rng, mesh))

    def head(x, w, y, *axes, mesh=mesh):
        return linear_softmax_cross_entropy(x, w, y, parallel=ClassParallel(mesh, *axes))

    with pytest.raises(ValueError, match="23 examples for 2 devices"):
        head(x[:23], w, y[:23], "model", "data")
    with pytest.raises(ValueError, match="510 classes for 4 devices"):
        head(x, w[:, :510], y % 510, "model", "data")
    with pytest.raises(ValueError, match="names the axis 'classes', but the mesh has"):
        head(x, w, y, "classes", "data")
    with pytest.raises(ValueError, match="for classes and batch"):
        head(x, w, y, "model", "model")
    explicit = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    with pytest.raises(ValueError, match=r"AxisType\.Auto"):
        head(x, w, y, "model", "data", mesh=explicit)
