"""The statements that the project embodies, M1 to M9 and M13, and the worked numbers, by the public API.

M10, squared error as a metric and its blind spots, stands in test_regression.py; M11 in test_chunked.py; M12 in
test_margin.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import log_loss

import jaxce
from jaxce.verification import samples

ANIMALS = jnp.array([2, 1, 0])  # the true classes
MODEL_1 = np.array([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])
MODEL_2 = np.array([[0.1, 0.2, 0.7], [0.1, 0.7, 0.2], [0.3, 0.4, 0.3]])


def integer_loss(probs, labels):
    """The integer-label loss of given probabilities: their logarithms are logits."""
    return jaxce.softmax_cross_entropy_with_integer_labels(jnp.log(probs), labels)


def test_cross_entropy_is_entropy_plus_divergence(rng):  # M1
    q, p = rng.dirichlet(np.ones(6), 2).astype(np.float32)
    loss = jaxce.softmax_cross_entropy(np.log(p), q)
    assert_allclose(loss, -(q * np.log(q)).sum() + (q * np.log(q / p)).sum(), rtol=1e-6)


def test_minimising_cross_entropy_minimises_the_divergence(rng):  # M1
    q = rng.dirichlet(np.ones(5)).astype(np.float32)
    logits = jnp.zeros(5)
    for _ in range(300):
        logits -= jaxce.softmax_cross_entropy.grad(logits, q)
    p = jax.nn.softmax(logits)
    assert_allclose(p, q, atol=1e-4)
    assert_allclose((q * np.log(q / p)).sum(), 0, atol=1e-6)


def test_softmax_loss_is_minus_log_of_the_labels_probability(rng):  # M2
    logits = rng.normal(size=(8, 5)).astype(np.float32)
    labels = rng.integers(0, 5, 8)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    loss = jaxce.softmax_cross_entropy_with_integer_labels(logits, labels)
    assert_allclose(loss, -np.log(p[np.arange(8), labels]), rtol=1e-5)


def test_classes_compete_a_raised_logit_lowers_all_other_probabilities():  # M2
    grad = jaxce.softmax_cross_entropy_with_integer_labels.grad(jnp.array([0.5, 1.0, -1.0]), jnp.array(1))
    assert grad[1] < 0 < min(grad[0], grad[2])
    assert_allclose(grad.sum(), 0, atol=1e-7)


def test_sigmoid_loss_judges_each_component_by_itself(rng):  # M3
    logits, other = rng.normal(size=(2, 4)).astype(np.float32)
    labels = np.array([1.0, 0.0, 1.0, 1.0])
    p = 1 / (1 + np.exp(-logits))
    loss = jaxce.sigmoid_binary_cross_entropy(logits, labels)
    assert_allclose(loss, -(labels * np.log(p) + (1 - labels) * np.log(1 - p)), rtol=1e-5)
    changed = np.concatenate([logits[:1], other[1:]])
    assert jaxce.sigmoid_binary_cross_entropy(changed, labels)[0] == loss[0]


@pytest.mark.parametrize("label", [0, 1])
def test_two_classes_equal_sigmoid(label, rng):  # M4
    s = rng.normal(scale=5, size=20).astype(np.float32)
    pair = jnp.stack([s, jnp.zeros_like(s)], -1)
    target = jnp.full(20, label)  # class 0 of the pair is the positive one
    two = jaxce.softmax_cross_entropy_with_integer_labels(pair, 1 - target)
    assert_allclose(two, jaxce.sigmoid_binary_cross_entropy(s, target), rtol=1e-6)
    two_grad = jaxce.softmax_cross_entropy_with_integer_labels.grad(pair, 1 - target)[:, 0]
    assert_allclose(two_grad, jaxce.sigmoid_binary_cross_entropy.grad(s, target), rtol=1e-6)


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_each_factor_of_the_binary_chain_and_their_product(y, rng):  # M5
    x, w = rng.normal(size=(2, 3)).astype(np.float32)
    s = w @ x
    p = jax.nn.sigmoid(s)

    def loss_of_p(p):
        return -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p))

    dl_dp = -y / p + (1 - y) / (1 - p)
    dp_ds = p * (1 - p)
    assert_allclose(jax.grad(loss_of_p)(p), dl_dp, rtol=1e-5)
    assert_allclose(jax.grad(jax.nn.sigmoid)(s), dp_ds, rtol=1e-5)
    assert_allclose(jax.grad(lambda w: w @ x)(w), x)
    product = dl_dp * dp_ds * x
    assert_allclose(product, (p - y) * x, rtol=1e-5)
    assert_allclose(jaxce.sigmoid_binary_cross_entropy.grad(s, y) * x, product, rtol=1e-5)
    by_autodiff = jax.grad(lambda w: jaxce.sigmoid_binary_cross_entropy(w @ x, y))(w)
    assert_allclose(by_autodiff, product, rtol=1e-5)


def test_the_jacobian_of_softmax_turns_into_probabilities_minus_target(rng):  # M6
    z = rng.normal(size=4).astype(np.float32)
    y = jnp.array([0.0, 0.0, 1.0, 0.0])
    p = jax.nn.softmax(z)
    jacobian = jnp.diag(p) - jnp.outer(p, p)  # p_i (δ_ij − p_j)
    assert_allclose(jax.jacobian(jax.nn.softmax)(z), jacobian, rtol=1e-5, atol=1e-7)
    assert_allclose((-y / p) @ jacobian, p - y, rtol=1e-5, atol=1e-6)
    assert_allclose(jaxce.softmax_cross_entropy.grad(z, y), p - y, rtol=1e-5)
    assert_allclose(jax.grad(jaxce.softmax_cross_entropy)(z, y), p - y, rtol=1e-5)


def test_the_gradient_of_the_weights_is_input_times_error(rng):  # M6
    x = rng.normal(size=3).astype(np.float32)
    kernel = rng.normal(size=(3, 4)).astype(np.float32)
    y = jnp.array([0.0, 1.0, 0.0, 0.0])
    grad = jax.grad(lambda kernel: jaxce.softmax_cross_entropy(x @ kernel, y))(kernel)
    assert_allclose(grad, np.outer(x, jax.nn.softmax(x @ kernel) - y), rtol=1e-5, atol=1e-6)


def test_the_hessian_of_the_softmax_loss_is_positive_semidefinite(rng):  # M7
    z = rng.normal(size=5).astype(np.float32)
    p = jax.nn.softmax(z)
    hessian = jax.hessian(jaxce.softmax_cross_entropy_with_integer_labels)(z, jnp.array(1))
    assert_allclose(hessian, jnp.diag(p) - jnp.outer(p, p), atol=1e-6)
    assert np.linalg.eigvalsh(hessian).min() > -1e-6


@pytest.mark.parametrize("name", [name for name, loss in jaxce.LOSSES.items() if loss.convex is not None])
def test_each_loss_has_the_convexity_that_losses_says(name, rng):  # M7
    loss = jaxce.LOSSES[name]
    with jax.enable_x64(True):
        x = samples.tame(loss.inputs, rng, 100, 3)
        if loss.inputs == "logits":
            x = np.concatenate([x, 3 * x, x / 10, np.zeros((1, 3))])
        x, y = samples.with_labels(loss, x, rng, np.float64)
        value = samples.functions(loss, {})[0]
        hessians = jax.jit(jax.vmap(jax.hessian(lambda x, y: value(x, y).sum())))(x, y)
        eigenvalues = np.linalg.eigvalsh(hessians)
        if loss.convex:
            assert eigenvalues.min() >= -1e-12 * eigenvalues.max()
        elif (
            name == "classification_error"
        ):  # steps, flat between them: half-way it exceeds the mean of the ends
            wrong, right, label = jnp.array([0.0, 3.0]), jnp.array([1.0, 0.0]), jnp.array(0)
            assert value((wrong + right) / 2, label) > (value(wrong, label) + value(right, label)) / 2
        else:
            assert eigenvalues.min() < -1e-4


def test_squared_error_of_a_sigmoid_or_a_softmax_is_not_convex():  # M7
    confidently_wrong = jnp.array(-4.0)
    curvature = jax.hessian(lambda s: (jax.nn.sigmoid(s) - 1) ** 2)(confidently_wrong)
    assert curvature < -0.01
    z = jnp.array([-4.0, 0.0])
    hessian = jax.hessian(lambda z: ((jax.nn.softmax(z) - jnp.array([1.0, 0.0])) ** 2).sum())(z)
    assert np.linalg.eigvalsh(hessian).min() < -0.01


def test_the_error_rate_cannot_rank_the_two_models_and_cross_entropy_can():  # M8
    errors = [(np.argmax(model, -1) != ANIMALS).mean() for model in (MODEL_1, MODEL_2)]
    assert errors == [1 / 3, 1 / 3]
    assert integer_loss(MODEL_2, ANIMALS).mean() < integer_loss(MODEL_1, ANIMALS).mean() / 2


def test_the_gradient_of_squared_error_vanishes_where_the_model_is_confidently_wrong():  # M9
    logits = jnp.array([-2.0, -5.0, -10.0, -20.0])
    squared = jax.vmap(jax.grad(lambda s: (jax.nn.sigmoid(s) - 1) ** 2))(logits)
    cross_entropy = jaxce.sigmoid_binary_cross_entropy.grad(logits, jnp.ones(4))
    assert np.all(np.diff(np.abs(squared)) < 0)
    assert abs(squared[-1]) < 1e-8
    assert np.all(np.diff(np.abs(cross_entropy)) > 0)
    assert_allclose(cross_entropy[-1], -1)


def test_from_a_confidently_wrong_start_cross_entropy_learns_and_squared_error_does_not():  # M9
    def learn(grad, steps=200, learning_rate=0.5):
        s = jnp.array(-10.0)
        for _ in range(steps):
            s -= learning_rate * grad(s)
        return jax.nn.sigmoid(s)

    assert learn(lambda s: jaxce.sigmoid_binary_cross_entropy.grad(s, jnp.array(1.0))) > 0.95
    assert learn(jax.jit(jax.grad(lambda s: (jax.nn.sigmoid(s) - 1) ** 2))) < 1e-3


def test_cross_entropy_is_undefined_for_a_real_valued_prediction():  # M10
    with np.errstate(invalid="ignore"):
        assert np.isnan(np.log(np.float32(-1.5)))


# The worked numbers, each as written.


def test_worked_softmax_values():
    assert_allclose(jax.nn.softmax(jnp.array([3.0, 1.0, -3.0])), [0.8788, 0.1189, 0.0022], atol=1e-4)
    assert_allclose(jax.nn.softmax(jnp.array([1.0, 2.0, 3.0])), [0.0900, 0.2447, 0.6652], atol=5e-5)
    loss = jaxce.softmax_cross_entropy_with_integer_labels(jnp.array([3.0, 1.0, -3.0]), jnp.array(0))
    assert_allclose(jnp.exp(-loss), 0.8788, atol=1e-4)


def test_one_logit_whose_softmax_is_six_tenths_has_sigmoid_six_tenths():
    s = jnp.log(0.6 / 0.4)
    assert_allclose(jax.nn.softmax(jnp.array([s, 0.0])), [0.6, 0.4], rtol=1e-6)
    assert_allclose(jnp.exp(-jaxce.sigmoid_binary_cross_entropy(s, 1.0)), 0.6, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "losses", "mean"),
    [(MODEL_1, [0.9163, 0.9163, 2.3026], 1.3784), (MODEL_2, [0.3567, 0.3567, 1.2040], 0.6391)],
)
def test_worked_cross_entropies_of_the_three_animals(model, losses, mean):
    ours = integer_loss(model, ANIMALS)
    assert_allclose(ours, losses, atol=5e-5)
    assert_allclose(ours.mean(), mean, atol=1e-4)
    assert_allclose(log_loss(ANIMALS, model), ours.mean(), rtol=1e-6)
    assert_allclose(jaxce.softmax_cross_entropy(jnp.log(model), jax.nn.one_hot(ANIMALS, 3)), ours, rtol=1e-6)


@pytest.mark.parametrize(("p", "loss"), [(0.6, 0.5108), (0.1, 2.3026), (0.3, 1.2040)])
def test_worked_losses_of_five_classes(p, loss):
    probs = np.full(5, (1 - p) / 4)
    probs[3] = p
    assert_allclose(integer_loss(probs, jnp.array(3)), loss, atol=5e-5)


@pytest.mark.parametrize(("probs", "loss"), [((0.5, 0.2, 0.3), 0.6931), ((0.7, 0.1, 0.2), 0.3567)])
def test_worked_losses_of_three_classes(probs, loss):
    assert_allclose(integer_loss(jnp.array(probs), jnp.array(0)), loss, atol=5e-5)


def test_prediction_is_argmax_of_softmax_and_threshold_of_sigmoid():  # M13
    z = jnp.array([[0.2, 1.5, -3.0]])
    assert jax.nn.softmax(z).argmax() == z.argmax() == 1
    assert ((jax.nn.sigmoid(z) > 0.5) == (z > 0)).all()
