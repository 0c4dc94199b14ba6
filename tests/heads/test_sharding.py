"""Heads in a user's own shard_map, and on meshes with explicit axes: as on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxce
from tests.heads.cases import assert_near, quick_jit, shapes_in

N, D, C, DEVICES = 16, 6, 12, 4
KEY = jax.random.key(0)


def everything(x, w, y):
    options = {"label_smoothing": 0.1, "z_loss": 0.1, "soft_cap": 5.0, "bias": jnp.linspace(0, 1, C)}
    counts = {"weights": 1.0 + y, "ignore_index": 3, "where": jnp.arange(C)[None] < C - 1}
    return jaxce.linear_softmax_cross_entropy(x, w, y, reduction="sum", chunk_size=2, **counts, **options)


HEADS = {
    "every option": everything,
    "soft labels": lambda x, w, y: jaxce.linear_softmax_cross_entropy(
        x, w, jax.nn.softmax(x @ w), reduction="sum", chunk_size=2
    ),
    "none": lambda x, w, y: jaxce.linear_softmax_cross_entropy(x, w, y, reduction="none", chunk_size=2).sum(),
    "focal": lambda x, w, y: jaxce.linear_loss(
        jaxce.softmax_focal_loss, x, w, y, reduction="sum", chunk_size=2
    ),
    "statistics": lambda x, w, y: sum(
        each.sum() for each in jaxce.linear_token_statistics(x, w, y, chunk_size=2) if each.dtype == jnp.float32
    ),
    "partial_fc": lambda x, w, y: jaxce.partial_fc(
        x, w, y, KEY, num_sampled=C, reduction="sum", chunk_size=2, loss=jaxce.softmax_focal_loss
    ),
    "sampled_softmax": lambda x, w, y: jaxce.sampled_softmax(
        x, w, y, KEY, num_sampled=64, reduction="sum", chunk_size=2
    ),
}
ROWS, CLASSES = (P("d"), P(), P("d")), (P(), P(None, "d"), P())
# what the others have of passes, "every option" and "statistics" have too
NAMES = [n if n in ("every option", "statistics") else pytest.param(n, marks=pytest.mark.slow) for n in HEADS]


@pytest.fixture
def arrays(rng):
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((N, D), (D, C)))
    return x, w, rng.integers(0, C - 1, N)


def with_gradients(name):
    return jax.value_and_grad(HEADS[name], (0, 1))


@pytest.mark.parametrize("name", NAMES)
def test_in_a_shard_map_of_the_user(name, arrays):
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Auto,))

    def of_device(x, w, y):
        value, (dx, dw) = with_gradients(name)(x, w, y)
        return jax.lax.psum(value, "d"), (dx, dw)  # that of what all devices have is summed by JAX

    spread = jax.shard_map(of_device, mesh=mesh, in_specs=ROWS, out_specs=(P(), (P("d"), P())))
    assert_near(quick_jit(spread)(*arrays), with_gradients(name)(*arrays), 1e-5)


@pytest.mark.parametrize("specs", [ROWS, CLASSES], ids=["examples", "classes"])
@pytest.mark.parametrize("name", NAMES)
def test_on_an_explicit_mesh(name, specs, arrays):
    mesh = jax.make_mesh((DEVICES,), ("d",))
    with jax.set_mesh(mesh):
        placed = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(arrays, specs, strict=True)]
        found = quick_jit(with_gradients(name))(*placed)
    assert_near(found, with_gradients(name)(*arrays), 1e-5)


def test_each_device_has_its_own_rows_on_an_explicit_mesh(arrays):
    mesh = jax.make_mesh((DEVICES,), ("d",))
    with jax.set_mesh(mesh):
        placed = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(arrays, ROWS, strict=True)]
        program = jax.jit(with_gradients("every option")).lower(*placed).compile()
    rows = {shape[0] for shape in shapes_in(program) if shape[1:] == (C,)}
    assert rows <= {1, 2, D}, "a device has logits of more rows than a chunk of its own"
    assert max(shape[0] for shape in shapes_in(program) if shape[1:] == (D,)) <= N // DEVICES
