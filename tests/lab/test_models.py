import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxce.lab.models import Model, convolve_by_patches, convolve_directly, max_pool

MODELS = [
    Model("cnn", 10),
    Model("cnn", 3, (4, 5)),
    Model("mlp", 3),
    Model("mlp", 2, (6, 5)),
    Model("linear", 3),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.name}-{model.widths}")
def test_a_batch_is_its_examples(model, rng):
    images = rng.normal(size=(3, 8, 8, 2)).astype(np.float32)
    params = model.init(jax.random.key(0), images.shape[1:])
    outputs = model.apply(params, images)
    assert outputs.shape == (3, model.num_outputs)
    for image, output in zip(images, outputs, strict=True):
        np.testing.assert_allclose(model.apply(params, image[None])[0], output, rtol=1e-5, atol=1e-6)


def test_a_description_is_a_value():
    assert Model("mlp", 3, (5,)) == Model("mlp", 3, (5,))
    assert len({Model("mlp", 3, (5,)), Model("mlp", 3, (5,)), Model("mlp", 3, (6,))}) == 2


def test_the_digits_network_has_the_layers_it_is_said_to_have():
    params = Model("cnn", 10).init(jax.random.key(0), (8, 8, 1))
    kernels = [layer["kernel"].shape for layer in params.values()]
    assert kernels == [(3, 3, 1, 32), (3, 3, 32, 64), (2 * 2 * 64, 128), (128, 10)]
    assert all((layer["bias"] == 0).all() for layer in params.values())


def test_the_networks_are_their_layers_one_after_the_other(rng):
    images = rng.normal(size=(3, 8, 8, 2)).astype(np.float32)

    def affine(x, layer):
        return np.asarray(x) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    def stage(x, layer):
        x = jax.nn.relu(
            convolve_directly(jnp.asarray(x), layer["kernel"]) + np.asarray(layer["bias"])[None, None, None]
        )
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    for model in (Model("cnn", 3, (4, 5, 6)), Model("mlp", 3, (6, 5))):
        params = model.init(jax.random.key(0), images.shape[1:])
        # Biases away from zero, so that one left out is seen.
        params = jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32), params)
        *hidden, last = params.values()
        x = images
        for name, layer in zip(params, hidden, strict=False):
            if name.startswith("Convolution"):
                x = stage(x, layer)
            else:
                x = jax.nn.relu(affine(np.asarray(x).reshape(3, -1), layer))
        np.testing.assert_allclose(model.apply(params, images), affine(x, last), rtol=1e-4, atol=1e-5)


def test_a_kernel_keeps_the_scale_of_its_inputs():
    images = jax.random.normal(jax.random.key(0), (64, 8, 8, 16))
    kernel = Model("cnn", 2, (32, 2)).init(jax.random.key(1), (8, 8, 16))["Convolution_0"]["kernel"]
    np.testing.assert_allclose(convolve_directly(images, kernel)[:, 1:-1, 1:-1].std(), 1.0, rtol=0.1)


def test_a_linear_model_starts_at_zero_and_is_linear():
    model = Model("linear", 2)
    params = model.init(jax.random.key(0), (3,))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(params))
    (layer,) = params.values()
    layer["kernel"], layer["bias"] = jnp.arange(6.0).reshape(3, 2), jnp.array([10.0, 20.0])
    np.testing.assert_array_equal(model.apply(params, jnp.array([[1.0, 0, 2]])), [[18.0, 31.0]])


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (3, 5, 7, 4), (1, 1, 2, 3)])
def test_convolution_by_patches_equals_the_compilers_in_value_and_gradients(shape, rng):
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, shape[-1], 6)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(*shape[:-1], 6)), jnp.float32)
    values = [
        (*jax.vjp(convolve, images, kernel)[1](weights), convolve(images, kernel))
        for convolve in (convolve_by_patches, convolve_directly)
    ]
    for ours, theirs in zip(*values, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 5, 7, 3)])
def test_pooling_equals_a_windowed_maximum(shape, rng):
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    window = jax.lax.reduce_window(images, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    np.testing.assert_array_equal(max_pool(images), window)
