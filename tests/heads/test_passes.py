"""The passes over chunks: sums of any lengths, and programs that never hold all logits."""

import re
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_array_equal

from jaxce import linear_softmax_cross_entropy
from jaxce.heads import passes
from tests.heads.cases import arrays, assert_near, plain, shapes_in


@pytest.mark.parametrize(
    ("chunk_size", "num_classes"),
    [(7, 2049), (None, 31)]
    + [
        pytest.param(*sizes, marks=pytest.mark.slow)
        for sizes in product((1, 7, 76, 77, 1000, None), (2049, 31))
        if sizes not in ((7, 2049), (None, 31))
    ],
)
def test_chunks_and_blocks_need_not_divide_anything(chunk_size, num_classes, rng, monkeypatch):
    monkeypatch.setattr(passes, "BLOCK_BYTES", 4 * 6 * 100)  # 2049 columns are 20 blocks of 100 and a rest
    jax.clear_caches()
    x, w, b, y = arrays(rng, c=num_classes)

    def fused(x, w, b):
        return linear_softmax_cross_entropy(x, w, y, bias=b, chunk_size=chunk_size)

    found = jax.jit(jax.value_and_grad(fused, (0, 1, 2)))(x, w, b)
    expected = jax.value_and_grad(lambda x, w, b: plain(x, w, b, y), (0, 1, 2))(x, w, b)
    assert_near(found, expected)
    assert_near(jax.jit(fused)(x, w, b), expected[0])  # the value alone is another program
    jax.clear_caches()


def test_many_chunks_add_up_in_float32(rng):
    # in bfloat16, 1 + 1/512 is 1: a sum of 512 chunks kept there would stop early
    x, w = jnp.ones((512, 1), jnp.bfloat16), jnp.zeros((1, 2), jnp.bfloat16)
    for reduction in ("sum", "none"):
        loss = partial(linear_softmax_cross_entropy, reduction=reduction, chunk_size=1)
        grad = jax.grad(lambda w, loss=loss: loss(x, w, jnp.zeros(512, int)).sum())(w)
        assert_array_equal(grad.astype(jnp.float32), [[-256.0, 256.0]])


def test_remat_and_donation_change_nothing(rng):
    x, w, b, y = arrays(rng)

    def mean(w):
        return linear_softmax_cross_entropy(x, w, y, bias=b, chunk_size=10)

    expected = jax.value_and_grad(mean)(w)
    assert_near(jax.jit(jax.value_and_grad(jax.checkpoint(mean)))(w), expected, 1e-6)

    @partial(jax.jit, donate_argnums=0)
    def step(w):
        return w - jax.grad(mean)(w)

    given = jnp.array(w)
    assert_near(step(given), w - expected[1], 1e-6)
    assert given.is_deleted()


# Compiled programs.


def compiled(function, *shapes, **options):
    structs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    return jax.jit(function, **options).lower(*structs).compile()


def shapes_of(n, d, c):
    return ((n, d), jnp.float32), ((d, c), jnp.float32), ((n,), jnp.int32)


def value_and_grads(loss):
    return lambda x, w, y: jax.value_and_grad(lambda x, w: loss(x, w, y), (0, 1))(x, w)


def hvp(loss):
    return lambda x, w, y: jax.jvp(lambda x, w: jax.grad(loss, (0, 1))(x, w, y), (x, w), (x, w))


def reverse_twice(loss):
    def length(x, w, y):
        return sum((g**2).sum() for g in jax.grad(loss, (0, 1))(x, w, y))

    return lambda x, w, y: jax.grad(length, (0, 1))(x, w, y)


def test_temporary_memory_is_an_eighth_of_the_plain_head():
    shapes = shapes_of(2048, 512, 32768)

    def optax_head(x, w, y):
        return optax.softmax_cross_entropy_with_integer_labels(x @ w, y).mean()

    def temporary(program):
        return program.memory_analysis().temp_size_in_bytes

    fused = temporary(compiled(value_and_grads(linear_softmax_cross_entropy), *shapes))
    assert fused <= temporary(compiled(value_and_grads(optax_head), *shapes)) / 8
    ragged = compiled(value_and_grads(linear_softmax_cross_entropy), *shapes_of(2055, 512, 32769))
    assert temporary(ragged) <= 537e6 / 8


def test_a_large_vocabulary_stays_inside_a_gigabyte():
    def step(x, w, y):
        loss, (dx, dw) = value_and_grads(linear_softmax_cross_entropy)(x, w, y)
        return loss, dx, w - 0.1 * dw

    memory = compiled(step, *shapes_of(16384, 512, 131072)).memory_analysis()
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert held < 2**30  # the logits alone would take 8 of them


@pytest.mark.parametrize("mode", [value_and_grads, hvp, reverse_twice])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_no_array_holds_all_logits_in_any_mode(mode, reduction):
    n, d, c = 1031, 16, 2053

    def loss(x, w, y):
        return linear_softmax_cross_entropy(x, w, y, reduction=reduction, chunk_size=64).sum()

    program = compiled(mode(loss), *shapes_of(n, d, c))
    assert max(np.prod(shape) for shape in shapes_in(program)) < n * c / 8


@pytest.mark.parametrize(("reduction", "products"), [("mean", 3), ("sum", 3), ("none", 4)])
def test_value_and_gradients_take_three_products(reduction, products):
    def loss(x, w, y):
        return linear_softmax_cross_entropy(x, w, y, reduction=reduction, chunk_size=8).sum()

    program = compiled(value_and_grads(loss), *shapes_of(32, 16, 64)).as_text()
    assert len(re.findall(r" dot\(", program)) == products


def test_what_is_not_differentiated_costs_no_product():
    def of_features(x, w, y):
        return jax.value_and_grad(lambda x: linear_softmax_cross_entropy(x, w, y, chunk_size=8))(x)

    assert len(re.findall(r" dot\(", compiled(of_features, *shapes_of(32, 16, 64)).as_text())) == 2
    value = compiled(partial(linear_softmax_cross_entropy, chunk_size=8), *shapes_of(32, 16, 64)).as_text()
    assert len(re.findall(r" dot\(", value)) == 1


def test_chunks_are_as_large_as_the_rule_says():
    assert passes.rows_per_chunk(10**6, 32768) == 240
    assert passes.rows_per_chunk(10**6, 1024) == 7680
    assert passes.rows_per_chunk(10**6, 2**20) == 128
    assert passes.rows_per_chunk(100, 10) == 100
