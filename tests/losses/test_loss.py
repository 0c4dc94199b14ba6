"""What @loss makes of a function: its signature, its record, its errors, its derivatives."""

import dataclasses
import inspect
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxce
from jaxce import LOSSES
from jaxce.losses import checks
from jaxce.losses import loss as module
from jaxce.losses.evaluation import closed_form
from jaxce.losses.loss import LossFunction, loss

FUNCTIONS = ("value", "grad", "value_and_grad")
INTEGER = jaxce.softmax_cross_entropy_with_integer_labels
Z, Y = np.zeros((2, 3), np.float32), np.array([0, 2])


# The record.


def test_losses_are_in_the_order_of_modules_and_lines():
    modules = dict.fromkeys(record.value.__module__ for record in LOSSES.values())
    of_module = ("softmax", "sigmoid", "divergence", "squared", "margin", "cosines")
    assert list(modules) == [f"jaxce.losses.{name}" for name in of_module]
    for name in modules:
        records = [record for record in LOSSES.values() if record.value.__module__ == name]
        lines = [inspect.getsourcelines(record.value)[1] for record in records]
        assert lines == sorted(lines)
        assert {record.name for record in records} <= set(sys.modules[name].__all__)


@pytest.mark.parametrize("name", LOSSES)
def test_a_record_holds_the_public_function_and_its_gradients(name):
    record, function = LOSSES[name], getattr(jaxce, name)
    assert record is function.record
    assert (record.value, record.grad, record.value_and_grad) == (
        function,
        function.grad,
        function.value_and_grad,
    )
    assert record.name == record.definition.__name__ == name
    assert isinstance(function, LossFunction)


@pytest.mark.parametrize("name", LOSSES)
def test_a_record_reads_the_docstring(name):
    record = LOSSES[name]
    lines = " ".join(inspect.getdoc(record.value).split())
    for text, title in ((record.formula, "Formula"), (record.gradient, "Gradient"), (record.source, "Source")):
        assert len(text) > 0
        assert f"{title}: {text} " in lines + " "


def test_a_record_says_what_arguments_and_options_are():
    record = LOSSES["softmax_focal_loss"]
    assert (record.inputs, record.labels, record.returns, record.convex) == (
        "logits",
        "integer",
        "losses",
        False,
    )
    assert record.options == {"alpha": None, "gamma": 2.0, "axis": -1, "where": None, "ignore_index": None}
    assert record.static == ()
    assert LOSSES["sphereface"].static == ("margin",)
    assert LOSSES["kl_divergence"].options == {}
    assert LOSSES["kl_divergence"].inputs == "log_probs"
    assert LOSSES["entropy"].labels == "none"


@pytest.mark.parametrize("name", LOSSES)
def test_margins_return_logits_and_only_losses_are_convex_or_not(name):
    assert (LOSSES[name].convex is None) == (LOSSES[name].returns == "logits")


@pytest.mark.parametrize("name", LOSSES)
def test_the_first_argument_is_named_for_the_inputs(name):
    first = next(iter(inspect.signature(LOSSES[name].value).parameters))
    assert first == {"log_probs": "log_predictions"}.get(LOSSES[name].inputs, LOSSES[name].inputs)


def test_a_record_is_a_key_and_cannot_be_changed():
    for record in LOSSES.values():
        assert {record: record.name}[record] == record.value.__name__
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.convex = True


# Signatures and help.


@pytest.mark.parametrize("name", LOSSES)
def test_all_three_functions_take_the_same_arguments(name):
    value, grad, both = (inspect.signature(getattr(LOSSES[name], f)) for f in FUNCTIONS)
    assert value.parameters == grad.parameters == both.parameters
    assert both.return_annotation == tuple[value.return_annotation, grad.return_annotation]
    assert LOSSES[name].value.__annotations__["return"] == value.return_annotation
    assert LOSSES[name].grad.__annotations__["return"] == grad.return_annotation


def test_names_and_help_say_which_function_it_is():
    assert INTEGER.__name__ == INTEGER.__qualname__ == "softmax_cross_entropy_with_integer_labels"
    assert INTEGER.__module__ == "jaxce.losses.softmax"
    assert INTEGER.__doc__.startswith("Cross-entropy of softmax(logits) where one class is true")
    assert INTEGER.grad.__name__ == "grad"
    assert INTEGER.grad.__qualname__ == "softmax_cross_entropy_with_integer_labels.grad"
    assert INTEGER.grad.__doc__.startswith(
        "d softmax_cross_entropy_with_integer_labels / d logits in closed form:"
    )
    assert "softmax(z) − one-hot" in INTEGER.grad.__doc__
    assert INTEGER.value_and_grad.__qualname__.endswith("labels.value_and_grad")
    assert INTEGER.value_and_grad.__doc__.endswith("/ d logits, in one pass.")


def test_a_loss_can_be_pickled():
    assert pickle.loads(pickle.dumps(INTEGER)) is INTEGER


# Arguments.


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'logits'"),
        ((Z,), {}, "missing a required argument: 'labels'"),
        ((Z, Y, -1, None, 0.1), {}, "too many positional arguments"),
        ((Z, Y), {"labels": Y}, "multiple values for argument 'labels'"),
        ((Z, Y), {"smoothing": 0.1}, "got an unexpected keyword argument 'smoothing'"),
        ((Z,), {"label": Y}, "missing a required argument: 'labels'"),
    ],
)
def test_arguments_that_do_not_bind_are_a_type_error(function, args, kwargs, message):
    with pytest.raises(TypeError, match=message):
        getattr(INTEGER.record, function)(*args, **kwargs)


def test_arguments_go_by_position_or_by_name():
    by_position = INTEGER(Z, Y, -1, np.array([True, False]))
    assert_array_equal(INTEGER(labels=Y, logits=Z, where=np.array([True, False])), by_position)
    assert_array_equal(by_position[1], 0)
    assert_array_equal(jaxce.squared_error(Z), Z**2)  # a default label


def test_a_static_option_shapes_the_program():
    cosines = np.full((2, 3), 0.3, np.float32)
    for margin in (1, 2):
        assert jaxce.sphereface(cosines, Y, margin=margin, scale=1.0)[0, 0] == pytest.approx(
            np.cos(margin * np.arccos(0.3)), abs=1e-6
        )
    with pytest.raises(TypeError, match=r"inside jit make it static \(static_argnames\)"):
        jax.jit(lambda m: jaxce.sphereface(cosines, Y, margin=m))(2)


def test_a_neutral_option_leaves_no_trace_in_the_program():
    def equations(**options):
        return str(jax.make_jaxpr(lambda z: INTEGER(z, Y, **options))(Z)).count("\n")

    assert equations(z_loss=0.0, label_smoothing=0) == equations() < equations(z_loss=0.1)


def test_a_loss_compiles_once_for_each_layout():
    INTEGER(Z, Y)
    before = module.evaluate._cache_size()
    INTEGER(Z + 1, Y)
    INTEGER(Z, Y[::-1])
    assert module.evaluate._cache_size() == before
    INTEGER(np.zeros((5, 3), np.float32), np.zeros(5, int))
    assert module.evaluate._cache_size() == before + 1


# A loss of one's own, with everything that the decorator looks after.


@pytest.fixture
def cubed(monkeypatch):
    monkeypatch.setattr(module, "LOSSES", {})

    def definition(predictions, targets, *, power=3.0):
        return jnp.abs(predictions - targets) ** power

    @loss(
        labels="real",
        definition=definition,
        convex=True,
        options={"power": checks.Number()},
        cases=({"power": 2.0},),
    )
    def cubed(predictions, targets, *, power=3.0) -> tuple[jax.Array, jax.Array]:
        """Distance to a power.

        Formula:
            |x − y|^p

        Gradient:
            p |x − y|^(p−1) sign(x − y),
            over two lines

        Source:
            A test.
        """
        error = predictions - targets
        return jnp.abs(error) ** power, power * jnp.abs(error) ** (power - 1) * jnp.sign(error)

    return cubed


def test_a_new_loss_is_listed_with_its_record(cubed):
    record = module.LOSSES["cubed"]
    assert record.value is cubed
    assert (record.inputs, record.labels, record.options) == ("predictions", "real", {"power": 3.0})
    assert (record.formula, record.source) == ("|x − y|^p", "A test.")
    assert record.gradient == "p |x − y|^(p−1) sign(x − y), over two lines"
    assert record.cases == ({"power": 2.0},)


def test_a_new_loss_is_differentiated_by_its_own_gradient(cubed, float64):
    x, y = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.0, 1.0, 3.0])
    assert_allclose(cubed(x, y), [1, 27, 2.5**3])
    closed = cubed.grad(x, y)
    assert_allclose(closed, [3, -27, -3 * 2.5**2])
    assert_allclose(jax.grad(lambda x: cubed(x, y).sum())(x), closed)
    by_power = jax.grad(lambda p: cubed(x, y, power=p).sum())(2.0)
    assert_allclose(by_power, 9 * np.log(3) + 2.5**2 * np.log(2.5))
    with pytest.raises(ValueError, match="power is -1"):
        cubed(x, y, power=-1.0)


def test_closed_form_is_the_derivative_of_the_first_argument(float64):
    """The rest is differentiated as the value is: here the gradient is wrong on purpose."""

    def value_and_grad(x, rest):
        return x**2 * rest["a"], 7 * x

    f = closed_form(value_and_grad)
    x, rest = jnp.array([3.0]), {"a": jnp.array([2.0]), "b": jnp.array([1])}
    assert_allclose(f(x, rest), [18])
    assert_allclose(jax.grad(lambda x: f(x, rest).sum())(x), [21])
    assert_allclose(jax.grad(lambda a: f(x, {**rest, "a": a}).sum())(rest["a"]), [9])
    along = jax.jvp(lambda x, a: f(x, {**rest, "a": a}), (x, rest["a"]), (jnp.ones(1), jnp.ones(1)))[1]
    assert_allclose(along, [21 + 9])
