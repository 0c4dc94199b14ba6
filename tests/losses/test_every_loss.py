"""What holds of every loss of LOSSES, each fact against a reference that knows nothing of the loss's code."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose, assert_array_equal

from jaxce import LOSSES, exact
from tests.losses.cases import (
    CLASSES,
    arguments,
    as_arrays,
    every_option,
    examples,
    is_by_component,
    over_examples,
    quick_jit,
    settings,
)


def taking(parameter):
    return [n for n, loss in LOSSES.items() if parameter in inspect.signature(loss.value).parameters]


def with_slow(*names):
    """All losses, of which those not named are tried with the slow tests."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in LOSSES]


# of what the decorator `loss` does: one of each kind of inputs and labels
OF_EACH_KIND = with_slow(
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "sigmoid_focal_loss",
    "entropy",
    "js_divergence",
    "kl_divergence_with_log_targets",
    "squared_error",
    "classification_error",
    "arcface",
    "large_margin_softmax",
)
LABELLED = [name for name, loss in LOSSES.items() if loss.labels != "none"]
INTEGER = [name for name, loss in LOSSES.items() if loss.labels == "integer"]
OF_LOGITS = [name for name, loss in LOSSES.items() if loss.inputs == "logits" and loss.returns == "losses"]
OF_ROWS = [name for name in OF_LOGITS if not is_by_component(LOSSES[name])]
OPTIONS = [
    (name, option)
    for name, loss in LOSSES.items()
    for option in loss.options
    if option not in ("axis", "where", "ignore_index")
]


@functools.cache
def definition_of(name):
    """Values of the definition over examples and its Jacobians in the inputs, compiled once for any options."""
    loss = LOSSES[name]

    def both(*args, **options):
        of_one = functools.partial(loss.definition, **options)
        return [over_examples(loss, function)(*args) for function in (of_one, jax.jacrev(of_one))]

    compiled = quick_jit(both, static_argnames=loss.static)
    parameters = inspect.signature(loss.definition).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not None}
    per_class = {option for case in loss.cases for option, v in case.items() if isinstance(v, tuple)}

    def of_options(*args, **options):
        options = defaults | options
        weights = {option: np.broadcast_to(options[option], (CLASSES,)) for option in per_class}
        return compiled(*args, **options | weights)

    return of_options


def own_entries(loss, jacobians):
    """What `.grad` holds of the Jacobians: of margins on cosines or logits, each logit's own entry."""
    of_own = loss.returns == "logits" and loss.inputs != "features"
    return np.diagonal(jacobians, axis1=-2, axis2=-1) if of_own else np.asarray(jacobians)


def in_every_mode(loss, inputs, *rest, **options):
    """The value, and the gradient of the sum in closed form, in reverse mode and in forward mode."""

    @quick_jit
    def everything(x):
        def total(x):
            return loss.value(x, *rest, **options).sum()

        return *loss.value_and_grad(x, *rest, **options), jax.grad(total)(x), jax.jacfwd(total)(x)

    value, *gradients = everything(inputs)
    return value, gradients


# Value and gradient.


@pytest.mark.parametrize(("name", "options"), settings())
def test_value_and_gradient_equal_definition_and_differences(name, options, rng, float64):
    loss, options = LOSSES[name], as_arrays(options)
    x, *rest = args = arguments(loss, rng, batch=(5,), dtype=np.float64)
    kernel = rest[:1] if loss.inputs == "features" else []
    # one entry at a time along a new axis, but components, which do not see each other, all at once
    steps = np.ones((1, 1, 1)) if is_by_component(loss) else np.eye(x.shape[-1])[:, None]
    steps = 1e-6 * np.stack([steps, -steps])
    repeated = [np.broadcast_to(labels, (*steps.shape[:2], *labels.shape)) for labels in rest[len(kernel) :]]

    @quick_jit
    def everything(x):
        by_step = loss.value(x[None, None] + steps, *kernel, *repeated, **options)
        return *loss.value_and_grad(x, *rest, **options), by_step

    value, grad, (up, down) = everything(x)
    values, jacobians = definition_of(name)(*examples(loss, args), **options)
    assert_allclose(value, np.reshape(values, value.shape), rtol=1e-10, atol=1e-12)
    expected = own_entries(loss, jacobians).reshape(grad.shape)
    if options.get("gamma_neg") == 0:  # JAX differentiates 0^0.0 as NaN; the differences below do not
        expected = np.where(np.isnan(expected), grad, expected)
    assert_allclose(grad, expected, rtol=1e-9, atol=1e-10)
    slopes = np.moveaxis((up - down) / 2e-6, 0, -1)
    slopes = slopes[..., 0] if is_by_component(loss) else slopes
    assert_allclose(grad, own_entries(loss, slopes), rtol=1e-6, atol=1e-7)
    if grad.ndim < slopes.ndim:  # a logit of a margin depends on no other cosine
        assert_array_equal(slopes * (1 - np.eye(CLASSES))[None], 0)


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_in_every_mode_equal_the_definitions(name, rng, float64):
    loss, options = LOSSES[name], every_option(LOSSES[name])
    static = {option: options.pop(option) for option in loss.static if option in options}
    options = {option: jnp.asarray(v, float) for option, v in options.items()}
    x, *rest = [jnp.asarray(a) for a in arguments(loss, rng, batch=(), dtype=np.float64)]
    if loss.labels == "integer":  # the one argument that is not differentiated
        *rest, label = rest
        static |= {"labels": label}
    way = jnp.asarray(rng.normal(size=x.shape))
    share = rng.normal(size=jax.eval_shape(functools.partial(loss.value, **static), x, *rest).shape)

    def definition(*args, **options):
        one = functools.partial(loss.definition, **options)
        return over_examples(loss, one)(*args) if is_by_component(loss) else one(*args)

    def derivatives(function, x, rest, options):
        """The first in reverse and forward mode, and the second along a direction in every order of the two."""

        def total(x, rest=rest, options=options):
            return (function(x, *rest, **options, **static) * share).sum()

        def reverse(x):
            return (jax.grad(total)(x) * way).sum()

        def forward(x):
            return jax.jvp(total, (x,), (way,))[1]

        second = [jax.jvp(jax.grad(total), (x,), (way,))[1], jax.grad(reverse)(x), jax.grad(forward)(x)]
        return jax.grad(total, (0, 1, 2))(x, rest, options), forward(x), second

    def closed(x):
        grad = loss.grad(x, *rest, **options, **static)
        of_total = share.reshape(share.shape + (1,) * (grad.ndim - share.ndim)) * grad
        return of_total.sum(range(grad.ndim - 1))

    compiled = quick_jit(derivatives, static_argnums=0)
    first, along, second = compiled(loss.value, x, rest, options)
    expected, along_true, second_true = compiled(definition, x, rest, options)
    near = functools.partial(assert_allclose, rtol=1e-8, atol=1e-9)
    jax.tree.map(near, (first, along), (expected, along_true))
    for found in (*second, quick_jit(lambda x: jax.jvp(closed, (x,), (way,))[1])(x)):
        assert_allclose(found, second_true[0], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("name", "options"), settings())
@pytest.mark.slow
def test_float32_value_equals_the_exact_definition(name, options, rng):
    loss = LOSSES[name]
    args = arguments(loss, rng, batch=(6,))
    found = loss.value(*args, **as_arrays(options))
    x, *rest = examples(loss, args)
    kernel = [rest.pop(0)] if loss.inputs == "features" else []
    traced = {option: np.float32(value) for option, value in options.items() if option not in loss.static}
    static = {option: value for option, value in options.items() if option in loss.static}

    def of_example(row, labels, options):
        return loss.definition(row, *map(jnp.asarray, kernel), *labels, **options, **static)

    truth = exact(jax.vmap(of_example, (0, 0, None)))(x, rest, traced).nearest()
    assert_allclose(found, truth.reshape(found.shape), rtol=1e-5, atol=1e-6)


# Batches, axes, masks.


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_a_batch_is_its_examples_also_under_vmap_and_jit(name, rng):
    loss = LOSSES[name]
    args = arguments(loss, rng)  # NumPy's
    axes = ((0, None, 0) if loss.inputs == "features" else (0, 0))[: len(args)]

    def value_then_grad(*args):
        return loss.value(*args), loss.grad(*args)

    mapped = quick_jit(jax.vmap(jax.vmap(value_then_grad, axes), axes))(*(jnp.asarray(a) for a in args))
    near = functools.partial(assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(near, loss.value_and_grad(*args), mapped)


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_an_empty_batch_has_no_losses_and_no_gradients(name, rng):
    args = arguments(LOSSES[name], rng, batch=(0,))
    value, grad = LOSSES[name].value_and_grad(*args)
    assert value.size == grad.size == 0


@pytest.mark.parametrize("name", [n for n in LOSSES if not is_by_component(LOSSES[n])])
def test_without_a_class_there_is_no_loss(name, rng):
    args = [a[..., :0] if a.ndim == 3 else a for a in arguments(LOSSES[name], rng)]
    if LOSSES[name].inputs != "features":
        with pytest.raises(ValueError, match=r"has shape \(2, 3, 0\), but there must be a class along \(2,\)"):
            LOSSES[name].value(*args)


@pytest.mark.parametrize("axis", [(2, 0), pytest.param(-2, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", [name for name in taking("axis") if not is_by_component(LOSSES[name])])
def test_the_classes_may_lie_along_any_axes(name, axis, rng):
    loss, shape = LOSSES[name], (2, 3, 4)
    axes = [a % 3 for a in ((axis,) if isinstance(axis, int) else axis)]
    batch = [n for a, n in enumerate(shape) if a not in axes]

    def laid_out(rows):
        rows = np.reshape(rows, [*batch, *(shape[a] for a in axes)])
        return np.moveaxis(rows, range(len(batch), 3), axes)

    args = arguments(loss, rng, batch, num_classes=24 // int(np.prod(batch)))
    moved = [a if a.ndim == len(batch) else laid_out(a) for a in args]
    value, grad = loss.value_and_grad(*args)
    found, gradients = in_every_mode(loss, *moved, axis=axis)
    assert_allclose(found, value, rtol=1e-6)
    for found in gradients:
        assert_allclose(found, laid_out(grad), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("name", taking("where"))
def test_a_masked_example_costs_nothing_whatever_it_holds(name, shape, rng):
    loss, options = LOSSES[name], every_option(LOSSES[name])
    if shape == (3,) and is_by_component(loss):
        pytest.skip("a component is masked by itself")
    x, y = arguments(loss, rng, batch=(3,))
    x[1] = np.nan
    y[1] = 255 if loss.labels == "integer" else np.nan
    options["where"] = np.array([True, False, True]).reshape(shape)
    value, gradients = in_every_mode(loss, x, y, **options)
    value_alone, grad_alone = loss.value_and_grad(x[::2], y[::2], **options | {"where": None})
    assert_array_equal(value[1], 0)
    assert_allclose(value[::2], value_alone, rtol=1e-6)
    for found in gradients:
        assert_array_equal(found[1], 0)
        assert_allclose(found[::2], grad_alone, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("axis", "repeated"), [(-1, False), (0, True)])
@pytest.mark.parametrize("name", [name for name in taking("where") if not is_by_component(LOSSES[name])])
def test_a_masked_class_is_absent_and_its_target_does_not_count(name, repeated, axis, rng):
    loss, options = LOSSES[name], every_option(LOSSES[name])
    kept = np.array([True, False, True, True])
    x, y = arguments(loss, rng, batch=(3,))
    x[:, 1] = np.nan
    fewer = {option: value[kept] for option, value in options.items() if np.shape(value) == (CLASSES,)}
    if loss.labels == "integer":
        y = np.array([0, 2, 3])
        y_alone = y - (y > 1)
    else:
        y[:, 1] = 7.0  # no distribution with it
        y_alone = y[:, kept]
    value, grad = loss.value_and_grad(x[:, kept], y_alone, **options | fewer)
    where = kept[None] if repeated else np.stack([kept] * 3)
    x, y, where = (a if a.ndim == 1 else np.moveaxis(a, -1, axis) for a in (x, y, where))
    found, gradients = in_every_mode(loss, x, y, axis=axis, where=where, **options)
    assert_allclose(found, value, rtol=1e-5)
    for found in gradients:
        found = np.moveaxis(found, axis, -1)
        assert_array_equal(found[:, 1], 0)
        assert_allclose(found[:, kept], grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OF_ROWS)
def test_a_class_at_minus_infinity_without_target_is_absent(name, rng):
    loss = LOSSES[name]
    logits, labels = arguments(loss, rng, batch=(4,))
    far = np.pad(logits, ((0, 0), (0, 1)), constant_values=-np.inf)
    longer = labels if loss.labels == "integer" else np.pad(labels, ((0, 0), (0, 1)))
    value, grad = loss.value_and_grad(logits, labels)
    found, gradients = in_every_mode(loss, far, longer)
    assert_allclose(found, value, rtol=1e-6)
    for found in gradients:
        assert_allclose(found[:, :CLASSES], grad, rtol=1e-6, atol=1e-8)
        assert_array_equal(found[:, CLASSES], 0)
    slope = jax.grad(lambda x: loss.value(x, longer).sum())
    assert np.isfinite(jax.jit(lambda x: jax.jvp(slope, (x,), (jnp.ones_like(x),))[1])(far)).all()


@pytest.mark.parametrize("name", OF_ROWS)
def test_a_row_of_minus_infinity_costs_nothing(name, rng):
    loss = LOSSES[name]
    logits, labels = arguments(loss, rng, batch=(4,))
    logits[1] = -np.inf
    value, gradients = in_every_mode(loss, logits, labels)
    assert value[1] == 0
    for found in gradients:
        assert_array_equal(found[1], 0)
        assert np.isfinite(found).all()


# Extremes.


GRID = np.float32([-1e4, -104, -89, -87.5, -50, -17, -1e-30, 0, 17, 50, 87.5, 89, 104, 1e4])


@pytest.mark.parametrize("which", ["every option", pytest.param("default", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OF_LOGITS)
def test_extreme_logits_give_finite_values_and_derivatives(name, which, rng):
    loss = LOSSES[name]
    options = {} if which == "default" else every_option(loss)
    pairs = np.stack(np.meshgrid(GRID, GRID), -1).reshape(-1, 2)
    logits = np.concatenate([pairs, np.tile(np.float32([[0, -5]]), (len(pairs), 1))], -1)
    _, labels = arguments(loss, rng, batch=(len(pairs),))
    if loss.labels in ("distribution", "binary"):  # certain labels too
        labels[::2] = np.round(labels[::2])

    @jax.jit
    def everything(z):
        def total(z):
            return loss.value(z, labels, **options).sum()

        value, closed = loss.value_and_grad(z, labels, **options)
        grad, along = jax.jvp(jax.grad(total), (z,), (jnp.ones_like(z),))
        reverse_twice = jax.grad(lambda z: jax.grad(total)(z).sum())(z)
        return value, closed, grad, along, reverse_twice

    value, closed, grad, *second = everything(logits)
    assert (value >= -1e-6).all()  # no NaN
    assert_allclose(grad, closed, rtol=1e-6, atol=1e-37)
    for found in (value, closed, *second):
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_a_nan_is_not_hidden(name, rng):
    loss, args = LOSSES[name], arguments(LOSSES[name], rng, batch=(3,))
    compiled = quick_jit(loss.value_and_grad)
    is_linear = loss.returns == "logits" or "kl_divergence" in name  # whose slope need not know of it
    for which in range(len(args)):
        if args[which].dtype == np.float32 and not (loss.inputs == "features" and which == 1):
            broken = [a.copy() for a in args]
            broken[which][1, 0] = np.nan
            value, grad = compiled(*broken)
            assert np.isnan(value[1]).any()
            assert np.isnan(grad[1]).any() or (is_linear and which == 0)
            assert not np.isnan(value[::2]).any()
            assert not np.isnan(grad[::2]).any()


@pytest.mark.parametrize("name", OF_LOGITS)
def test_a_row_of_nan_is_nan(name, rng):
    x, y = arguments(LOSSES[name], rng, batch=(3,))
    x[1] = np.nan
    for found in LOSSES[name].value_and_grad(x, y):
        assert np.isnan(found[1]).all()
        assert not np.isnan(found[::2]).any()


@pytest.mark.parametrize(
    ("name", "option"), [(n, o) for n, o in OPTIONS if o not in LOSSES[n].static and o != "epsilon"]
)
def test_an_option_that_is_nan_is_not_hidden(name, option, rng):
    loss, args = LOSSES[name], arguments(LOSSES[name], rng, batch=(3,))
    per_class = any(isinstance(case.get(option), tuple) for case in loss.cases)
    nan = jnp.full((CLASSES,) if per_class else (), np.nan)
    value, grad = quick_jit(lambda nan: loss.value_and_grad(*args, **{option: nan}))(nan)
    assert np.isnan(value).any()
    assert np.isnan(grad).any() or loss.returns == "logits"  # where a margin is a summand


# Dtypes and devices.


def of_dtype(args, dtype):
    return [jnp.asarray(a).astype(dtype if a.dtype == np.float32 else int) for a in args]


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_half_precision_is_computed_in_float32(name, rng):
    loss = LOSSES[name]
    half = of_dtype(arguments(loss, rng), jnp.bfloat16)
    value, grad = loss.value_and_grad(*(a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a for a in half))
    found, (closed, reverse, _) = in_every_mode(loss, *half)
    assert_allclose(found, value, rtol=1e-5, atol=1e-6)
    assert_allclose(closed.astype(jnp.float32), grad, rtol=float(jnp.finfo(jnp.bfloat16).eps), atol=1e-37)
    if grad.shape == half[0].shape:
        assert_array_equal(reverse, closed)


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_values_are_float32_or_float64_gradients_as_the_inputs(name, rng, float64):
    for dtype, of_value in (
        (jnp.bfloat16, "float32"),
        (jnp.float16, "float32"),
        ("float32",) * 2,
        ("float64",) * 2,
    ):
        value, grad = jax.eval_shape(
            LOSSES[name].value_and_grad, *of_dtype(arguments(LOSSES[name], rng), dtype)
        )
        assert (value.dtype, grad.dtype) == (of_value, dtype)


@pytest.mark.parametrize("name", INTEGER)
@pytest.mark.parametrize(
    ("num_classes", "dtypes"), [(300, "ibB"), pytest.param(70_000, "ibBhHIlL", marks=pytest.mark.slow)]
)
def test_class_numbers_may_have_any_integer_dtype(name, num_classes, dtypes, rng, float64):
    *before, labels = arguments(LOSSES[name], rng, num_classes=num_classes)
    every = [(labels % 128).astype(dtype) for dtype in dtypes]  # numbers that each of them can hold
    first, *others = quick_jit(lambda every: [LOSSES[name].value_and_grad(*before, y) for y in every])(every)
    for found in others:
        jax.tree.map(assert_array_equal, found, first)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint32"])
@pytest.mark.parametrize("name", taking("ignore_index"))
def test_an_ignored_label_is_one_that_labels_can_hold(name, dtype, rng):
    logits, labels = arguments(LOSSES[name], rng)
    labels, info = labels.astype(dtype), np.iinfo(dtype)
    ignored = jnp.asarray(labels).at[0, 0].set(info.max)
    assert LOSSES[name].value(logits, ignored, ignore_index=int(info.max))[0, 0] == 0
    for number in (int(info.max) + 1, int(info.min) - 1):
        with pytest.raises(ValueError, match=rf"ignore_index is {number}, but labels has dtype {dtype}"):
            LOSSES[name].value(logits, labels, ignore_index=number)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.slow
def test_eight_devices_give_what_one_gives(name, rng):
    loss, mesh = LOSSES[name], jax.sharding.Mesh(jax.devices()[:8], "batch")
    args = arguments(loss, rng, batch=(16,))
    specs = (P("batch"), P(), P("batch")) if loss.inputs == "features" else (P("batch"),) * len(args)
    spread = jax.shard_map(loss.value_and_grad, mesh=mesh, in_specs=specs[: len(args)], out_specs=P("batch"))

    @quick_jit
    def everything(x):
        return spread(x, *args[1:]), jax.grad(lambda x: spread(x, *args[1:])[0].sum())(x)

    (value, grad), reverse = everything(args[0])
    assert len(value.sharding.device_set) == 8
    near = functools.partial(assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(near, (value, grad), loss.value_and_grad(*args))
    near(reverse, grad if grad.shape == reverse.shape else grad.sum(1))


# what gathers in the same way is slow
EXPLICIT = with_slow("softmax_cross_entropy_with_integer_labels", "large_margin_softmax")


@pytest.mark.parametrize("name", EXPLICIT)
def test_on_an_explicit_mesh_values_and_gradients_are_those_of_one_device(name, rng):
    loss, mesh = LOSSES[name], jax.make_mesh((4,), ("d",))
    args, options = arguments(loss, rng, batch=(8,)), every_option(loss)

    @quick_jit
    def both(*args):
        reverse = jax.grad(lambda x: loss.value(x, *args[1:], **options).sum())(args[0])
        return loss.value_and_grad(*args, **options), reverse

    of_examples = [P() if loss.inputs == "features" and i == 1 else P("d") for i in range(len(args))]
    of_classes = [P(None, "d")] * len(args)
    if loss.inputs == "features":
        of_classes[0] = P()
    with jax.set_mesh(mesh):
        for specs in (of_examples, of_classes):
            placed = [
                jax.device_put(a, jax.NamedSharding(mesh, P(*spec[: a.ndim])))
                for a, spec in zip(args, specs, strict=True)
            ]
            spread = both(*placed)
            jax.tree.map(functools.partial(assert_allclose, rtol=1e-5, atol=1e-5), spread, both(*args))


@pytest.mark.parametrize("label", [255, -1, 1.5])
@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.labels == "binary"])
def test_a_binary_label_outside_its_range_raises_or_is_nan_in_jit(name, label, rng):
    loss = LOSSES[name]
    logits, labels = arguments(loss, rng, batch=(3,))
    labels[1] = label
    for dtype in ("float32", "bfloat16", "int32") if label == int(label) else ("float32",):
        wrong = jnp.asarray(labels, dtype)
        with pytest.raises(ValueError, match=r"but must lie in \[0, 1\]: (use|where|for|labels) "):
            loss.value(logits, wrong)

        @quick_jit
        def everything(logits, wrong):
            reverse = jax.grad(lambda x: loss.value(x, wrong).sum())(logits)
            return *loss.value_and_grad(logits, wrong), reverse

        for found in everything(logits, wrong):
            assert_array_equal(np.isnan(found).all(-1), [False, True, False])
            assert not np.isnan(found[::2]).any()


# Mathematics.


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.convex is not None])
def test_convexity_is_what_the_record_says(name, rng, float64):
    loss = LOSSES[name]
    one, other = (
        arguments(loss, rng, batch=(3000,), dtype=np.float64),
        arguments(loss, rng, (3000,), np.float64),
    )
    x, z, rest = one[0], other[0], one[1:]
    ends = (loss.value(x, *rest) + loss.value(z, *rest)) / 2
    above = np.asarray(loss.value((x + z) / 2, *rest) - ends)
    assert (above.max() < 1e-12) == loss.convex
    assert loss.convex or above.max() > 1e-3


MINIMA = {
    "softmax_cross_entropy": jax.nn.softmax,
    "sigmoid_binary_cross_entropy": jax.nn.sigmoid,
    "squared_error": lambda x: x,
    "js_divergence": jnp.exp,
}


@pytest.mark.parametrize("name", MINIMA)
def test_gradient_is_zero_where_the_prediction_is_the_target(name, rng, float64):
    x, _ = arguments(LOSSES[name], rng, dtype=np.float64)
    target = MINIMA[name](x)
    value, grad = LOSSES[name].value_and_grad(x, target)
    assert_allclose(grad, 0, atol=1e-15)
    for step in (1e-2, -1e-2):
        moved = x + step * rng.normal(size=x.shape)
        assert (LOSSES[name].value(moved, target) > value).all()


@pytest.mark.parametrize("name", OF_ROWS)
def test_a_shift_of_all_logits_changes_nothing(name, rng, float64):
    x, y = arguments(LOSSES[name], rng, dtype=np.float64)
    value, grad = LOSSES[name].value_and_grad(x, y)
    assert_allclose(LOSSES[name].value(x + 64, y), value, rtol=1e-12)
    assert_allclose(grad.sum(-1), 0, atol=1e-14)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(
    ("softmax", "sigmoid"),
    [
        ("softmax_cross_entropy_with_integer_labels", "sigmoid_binary_cross_entropy"),
        ("softmax_focal_loss", "sigmoid_focal_loss"),
    ],
)
def test_two_classes_equal_sigmoid(softmax, sigmoid, label, rng):
    s = rng.normal(scale=5, size=20).astype(np.float32)
    pair = np.stack([np.zeros_like(s), s], -1)
    value, grad = LOSSES[softmax].value_and_grad(pair, np.full(20, label))
    binary_value, binary_grad = LOSSES[sigmoid].value_and_grad(s, np.full(20, label))
    assert_allclose(value, binary_value, rtol=1e-5)
    assert_allclose(grad, np.stack([-binary_grad, binary_grad], -1), rtol=1e-5)


# Misuse. The sentences themselves are in test_checks.py.


@pytest.mark.parametrize("name", LABELLED)
def test_labels_of_another_shape_raise_and_never_broadcast(name, rng):
    *before, labels = arguments(LOSSES[name], rng, batch=(5,))
    wrong = [labels[..., None], labels[:1], labels[:4], labels[None], np.stack([labels] * 3)]
    if labels.ndim > 1:
        wrong += [labels[:, 0], labels[:, :1], labels[:, :3], labels[0]]
    for other in wrong:
        for function in (LOSSES[name].value, LOSSES[name].grad, LOSSES[name].value_and_grad):
            with pytest.raises(ValueError, match=r"(labels|targets) has shape \(.*\) but \w.* \(.*\).*: "):
                function(*before, other)


@pytest.mark.parametrize(("label", "dtype"), [(-1, "int8"), (CLASSES, "uint8"), (2**32 - 1, "uint32")])
@pytest.mark.parametrize("name", INTEGER)
def test_a_label_that_names_no_class_raises_or_is_nan_in_jit(name, label, dtype, rng):
    loss = LOSSES[name]
    inputs, *rest = arguments(loss, rng, batch=(4,))
    rest[-1] = np.array([1, label, 0, 2], dtype)
    for function in (loss.value, loss.grad):
        with pytest.raises(ValueError, match=rf"labels holds {label}, but there are 4 classes.*\[0, 4\)"):
            function(inputs, *rest)

    @quick_jit
    def everything(inputs, *rest):
        def value(inputs):
            return loss.value(inputs, *rest)

        reverse = jax.grad(lambda x: value(x).sum())(inputs)
        return *loss.value_and_grad(inputs, *rest), reverse, jax.jvp(value, (inputs,), (inputs,))[1]

    for found in everything(inputs, *rest):
        is_nan = np.isnan(found).reshape(4, -1)
        assert_array_equal(is_nan.any(-1), [False, True, False, False])
        assert is_nan[1].all()


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_inputs_that_are_not_floating_point_raise(name, rng):
    inputs, *rest = arguments(LOSSES[name], rng)
    for function in (LOSSES[name].value, LOSSES[name].grad):
        for dtype in (int, bool, complex):
            with pytest.raises(TypeError, match=r"^\w+ must be floating-point, but has dtype .*: use \w+.ast"):
                function(np.zeros_like(inputs, dtype), *rest)


@pytest.mark.parametrize("name", LABELLED)
def test_labels_of_another_kind_raise(name, rng):
    *before, labels = arguments(LOSSES[name], rng)
    kind, dtypes = {
        "integer": ("integers", (float, bool, complex)),
        "log_distribution": ("floating-point", (int,)),
    }.get(LOSSES[name].labels, ("real", (complex,)))
    for dtype in dtypes:
        with pytest.raises(TypeError, match=rf"^(labels|targets|log_targets) must be {kind}, but has dtype"):
            LOSSES[name].value(*before, np.zeros_like(labels, dtype))


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_options_out_of_range_raise_where_they_can_be_seen(name, option, rng):
    args = arguments(LOSSES[name], rng, batch=(2,))
    any_sign = option in ("class_weights", "pos_weight") or (name, option) == ("softmax_focal_loss", "alpha")
    for bad in (np.nan,) if any_sign else (-5.0, np.nan):
        value = np.array([1, bad, 1, 1]) if option in ("class_weights", "pos_weight") else bad
        if option in LOSSES[name].static:
            value = -5
        with pytest.raises(ValueError, match=option):
            LOSSES[name].value(*args, **{option: value})
    with pytest.raises((ValueError, TypeError), match=option):
        LOSSES[name].value(*args, **{option: np.ones((2, 2))})


@pytest.mark.parametrize(
    ("name", "option"), [(n, o) for n, o in OPTIONS if isinstance(LOSSES[n].options[o], float)]
)
def test_an_option_is_the_same_number_seen_and_traced(name, option, rng):
    loss, args = LOSSES[name], arguments(LOSSES[name], rng)
    traced = jax.jit(lambda number: loss.value_and_grad(*args, **{option: number}))
    number = 1.0 if option in ("m1", "scale") else 0.0  # where most do nothing
    seen = loss.value_and_grad(*args, **{option: number})
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-5, atol=1e-5), seen, traced(number))


@pytest.mark.parametrize(
    ("name", "option"), [("sigmoid_binary_cross_entropy", "pos_weight"), ("sigmoid_focal_loss", "alpha")]
)
def test_a_number_for_each_class_is_that_of_its_components(name, option, rng):
    loss = LOSSES[name]
    logits, labels = (a.reshape(2, CLASSES, 3) for a in arguments(loss, rng, batch=(2, 3)))
    numbers = rng.uniform(size=CLASSES).astype(np.float32)
    value, grad = loss.value_and_grad(logits, labels, axis=1, **{option: numbers})
    for c, number in enumerate(numbers):
        alone = loss.value_and_grad(logits[:, c], labels[:, c], **{option: number})
        jax.tree.map(functools.partial(assert_allclose, rtol=1e-6), (value[:, c], grad[:, c]), alone)


@pytest.mark.parametrize("name", [name for name in taking("where") if is_by_component(LOSSES[name])])
def test_a_masked_component_costs_nothing_whatever_its_label(name, rng):
    loss = LOSSES[name]
    logits, labels = arguments(loss, rng, batch=(3,))
    where = rng.random(labels.shape) < 0.5
    unknown = np.where(where, labels, -1).astype(np.float32)
    value, grad = loss.value_and_grad(logits, labels)
    for found in (loss.value_and_grad, quick_jit(loss.value_and_grad)):
        masked = found(logits, unknown, where=where)
        right = np.where(where, value, 0), np.where(where, grad, 0)
        jax.tree.map(functools.partial(assert_allclose, rtol=1e-6), masked, right)
    with pytest.raises(ValueError, match=r"where has shape \(3,\) but logits \(3, 4\): give \(3, 4\) to mask"):
        loss.value(logits, labels, where=where[:, 0])


@pytest.mark.parametrize("name", taking("class_weights"))
def test_class_weights_may_be_negative(name, rng):
    loss, weights = LOSSES[name], np.float32([0.5, -1.0, 2.0, 0.25])
    logits, labels = arguments(loss, rng)
    for options in ({}, {"label_smoothing": 0.1}):
        parts = [
            loss.value_and_grad(logits, labels, class_weights=part, **options)
            for part in (np.maximum(weights, 0), np.maximum(-weights, 0), weights)
        ]
        for positive, negative, both in zip(*parts, strict=True):
            assert_allclose(both, positive - negative, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [(0, 255), np.array([0, 1, 1]), "1", 1.0])
@pytest.mark.parametrize("name", taking("ignore_index"))
def test_an_ignored_label_is_one_integer(name, bad, rng):
    logits, labels = arguments(LOSSES[name], rng, batch=(3,))
    with pytest.raises(
        ValueError, match=r"^ignore_index is .*, but must be one integer: for several, use where="
    ):
        LOSSES[name].value(logits, labels, ignore_index=bad)


@pytest.mark.parametrize("name", EXPLICIT)
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float4_e2m1fn"])
def test_floats_of_a_byte_are_computed_in_float32(name, dtype, rng):
    args = [
        jnp.asarray(a).astype(dtype if a.dtype == np.float32 else int) for a in arguments(LOSSES[name], rng)
    ]
    value, grad = LOSSES[name].value_and_grad(*args)
    assert (value.dtype, grad.dtype) == (jnp.float32, dtype)
    right = LOSSES[name].value(*(a.astype(np.float32) if a.dtype == dtype else a for a in args))
    assert_allclose(value, right, rtol=1e-6)


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_dtypes_need_no_implicit_promotion(name, rng):
    loss = LOSSES[name]
    args, options = of_dtype(arguments(loss, rng), jnp.bfloat16), every_option(loss)
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(lambda *args: loss.value_and_grad(*args, **options), *args)
        jax.eval_shape(jax.grad(lambda x: loss.value(x, *args[1:], **options).sum()), args[0])


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_lists_are_taken_for_arrays(name, rng):
    args = arguments(LOSSES[name], rng)
    of_lists = LOSSES[name].value_and_grad(*(a.tolist() for a in args))
    jax.tree.map(assert_array_equal, of_lists, LOSSES[name].value_and_grad(*args))
