"""Values and gradients at whatever numbers hypothesis finds, against textbook formulas in 350 digits."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mpmath import mp, mpf

import jaxce

# One compilation a setting; hypothesis varies only the numbers. 350 digits tell 1 from 1 + exp(−700).
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25])
LAYOUTS = [  # shape, axis of the classes, mask, dtype, options
    ((4,), -1, None, "float32", {}),
    ((3, 4), -1, "examples", "float64", {}),
    ((3, 4), 1, "classes", "float32", {"label_smoothing": 0.1}),
    ((4, 3), 0, "repeated", "bfloat16", {"class_weights": WEIGHTS}),
    ((2, 4, 3), -2, None, "float32", {"class_weights": WEIGHTS, "label_smoothing": 0.25}),
    ((2, 2, 2), (0, 2), "examples", "float16", {}),
    ((2, 3, 2), (-1, 0), "classes", "float64", {"z_loss": 0.01, "class_weights": WEIGHTS}),
    ((3, 1), -1, "classes", "float32", {"z_loss": 0.01, "label_smoothing": 0.1}),
]
NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, 5.0, -20.0, -80.0, 88.0, 1e4, 9995.0, -1e4]), st.floats(-100, 100, width=16)
)
LOGITS = st.one_of(NUMBERS, st.just(-np.inf))
PROBABILITIES = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(1 / 64, 1, width=16))
HYPOTHESIS = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@contextlib.contextmanager
def precision(dtype):
    with jax.enable_x64(dtype == "float64"), mp.workdps(350):
        yield


def exactly(array):
    """The numbers of an array, as mpmath holds them."""
    return [mpf(float(v)) for v in np.asarray(array, np.float64).ravel()]


def check(found, truth, parts, dtype):
    """Relative error 1e-5, or what the dtype holds; of what is left of parts that cancel, relative to these."""
    found, truth, parts = (np.asarray(x, np.float64) for x in (found, truth, parts))
    limit, tiny = max(1e-5, float(jnp.finfo(dtype).eps)), 32 * float(jnp.finfo(dtype).tiny)
    with np.errstate(invalid="ignore"):
        near = np.abs(found - truth) <= limit * np.maximum(np.abs(truth), parts) + tiny
    assert (near | (found == truth)).all(), f"{found}, not {truth}"


def row_truth(z, q, allowed, weights, label_smoothing, z_loss):
    """Value, gradient and the parts that cancel in it, of one row; `allowed` is the mask of its classes."""
    nothing = [mpf(0)] * len(z)
    seen = [j for j, ok in enumerate(allowed) if ok and z[j] > -mp.inf]
    if not seen:
        return mpf(0), nothing, nothing
    largest = max(z[j] for j in seen)
    lse = largest + mp.log(mp.fsum(mp.exp(z[j] - largest) for j in seen))
    q = [w * ((1 - label_smoothing) * v + (label_smoothing / len(seen) if j in seen else 0))
         for j, (v, w) in enumerate(zip(q, weights, strict=True))]  # fmt: skip
    p = [mp.exp(v - lse) if j in seen else mpf(0) for j, v in enumerate(z)]
    costs = (mp.inf if j not in seen else v * (lse - z[j]) for j, v in enumerate(q) if v)
    total = mp.fsum(q)
    grad = [total * p[j] - q[j] + 2 * z_loss * lse * p[j] if ok else mpf(0) for j, ok in enumerate(allowed)]
    one_hot = sum(v > 0 for v in q) == 1 and not z_loss
    parts = (
        nothing if one_hot else [total * a + b + 2 * z_loss * abs(lse) * a for a, b in zip(p, q, strict=True)]
    )
    return sum(costs, mpf(0)) + z_loss * lse**2, grad, parts


def expected(rows, targets, kept, allowed, options):
    """`row_truth` of each row, zeros where an example is not kept, as arrays."""
    number = {name: mpf(options.get(name, 0.0)) for name in ("label_smoothing", "z_loss")}
    weights = exactly(options.get("class_weights", np.ones(rows.shape[-1])))
    none = (0, [0] * rows.shape[-1], [0] * rows.shape[-1])
    found = [
        row_truth(exactly(z), exactly(q), ok, weights, **number) if keep else none
        for z, q, keep, ok in zip(rows, targets, kept, allowed, strict=True)
    ]
    return [np.array(x, float) for x in zip(*found, strict=True)]


@pytest.mark.parametrize(("shape", "axis", "mask", "dtype", "options"), LAYOUTS)
@pytest.mark.parametrize("labels", ["integer", "distribution"])
def test_softmax_losses_are_their_definition(shape, axis, mask, dtype, options, labels):
    axes = [a % len(shape) for a in ((axis,) if isinstance(axis, int) else axis)]
    batch = [a for a in range(len(shape)) if a not in axes]
    num_classes = int(np.prod([shape[a] for a in axes]))

    def as_rows(array):
        return np.asarray(array).transpose(*batch, *axes).reshape(-1, num_classes)

    of_batch = tuple(shape[a] for a in batch)
    repeated = tuple(1 if a in batch else n for a, n in enumerate(shape))
    mask_shape = {None: (), "examples": of_batch, "classes": shape, "repeated": repeated}[mask]
    name = "softmax_cross_entropy" + "_with_integer_labels" * (labels == "integer")
    value, grad = getattr(jaxce, name), getattr(jaxce, name).grad

    @HYPOTHESIS
    @given(
        logits=arrays.arrays(np.float64, shape, elements=LOGITS),
        mask_drawn=arrays.arrays(bool, mask_shape),
        classes=arrays.arrays(np.int32, of_batch, elements=st.integers(0, num_classes - 1)),
        soft=arrays.arrays(np.float32, shape, elements=PROBABILITIES),
    )
    def is_its_definition(logits, mask_drawn, classes, soft):
        with precision(dtype):
            z = jnp.asarray(logits, dtype)
            where = None if mask is None else mask_drawn
            given = classes if labels == "integer" else soft
            rows = as_rows(z.astype(jnp.float64 if dtype == "float64" else jnp.float32))
            targets = np.eye(num_classes)[classes.ravel()] if labels == "integer" else as_rows(soft)
            kept = where.ravel() if mask == "examples" else [True] * len(rows)
            by_class = where if mask in ("classes", "repeated") else np.ones(shape, bool)
            allowed = as_rows(np.broadcast_to(by_class, shape))
            truth, slopes, parts = expected(rows, targets, kept, allowed, options)

            found = value(z, given, axis, where, **options)
            closed = grad(z, given, axis, where, **options)
            assert (found.shape, closed.shape, closed.dtype) == (of_batch, shape, z.dtype)
            check(found.ravel(), truth, 1e-5 * (options.get("z_loss", 0) > 0), found.dtype)
            check(as_rows(closed.astype(rows.dtype)), slopes, parts, dtype)

    is_its_definition()


def binary_truth(z, y):
    """Binary cross-entropy, its slope, the parts of that which cancel, and the focal loss with γ = 2."""
    p, not_p = 1 / (1 + mp.exp(-z)), 1 / (1 + mp.exp(z))
    above, below = (mp.inf if v == -mp.inf else mp.log1p(mp.exp(-v)) for v in (z, -z))
    value = (y * above if y else 0) + ((1 - y) * below if y < 1 else 0)
    up, down = (1 - y) * p, y * not_p
    return value, up - down, (up + down) * (0 < y < 1), (down + up) ** 2 * value if value else value


@pytest.mark.parametrize(
    ("shape", "dtype"), [((), "float32"), ((2, 3), "float64"), ((5,), "bfloat16"), ((2, 1, 2), "float16")]
)
def test_binary_losses_are_their_definition(shape, dtype):
    @HYPOTHESIS
    @given(
        logits=arrays.arrays(np.float64, shape, elements=st.one_of(LOGITS, st.just(np.inf))),
        labels=arrays.arrays(np.float32, shape, elements=PROBABILITIES),
    )
    def is_its_definition(logits, labels):
        with precision(dtype):
            z = jnp.asarray(logits, dtype)
            wide = z.astype(jnp.promote_types(z.dtype, jnp.float32))
            for y in (labels, np.round(labels)):
                points = zip(exactly(wide), exactly(y), strict=True)
                truths = [np.array(x, float) for x in zip(*(binary_truth(*at) for at in points), strict=True)]
                truth, slopes, parts, focal = truths
                found = jaxce.sigmoid_binary_cross_entropy(z, y)
                closed = jaxce.sigmoid_binary_cross_entropy.grad(z, y)
                assert (found.shape, closed.shape, closed.dtype) == (shape, shape, z.dtype)
                check(found.ravel(), truth, 0, found.dtype)
                check(closed.astype(wide.dtype).ravel(), slopes, parts, dtype)
                check(jaxce.sigmoid_focal_loss(z, y).ravel(), focal, 0, found.dtype)

    is_its_definition()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_focal_and_poly_losses_are_their_definition(dtype, num_classes):
    @HYPOTHESIS
    @given(
        logits=arrays.arrays(np.float64, (2, num_classes), elements=NUMBERS),
        classes=arrays.arrays(np.int32, (2,), elements=st.integers(0, num_classes - 1)),
    )
    def is_its_definition(logits, classes):
        with precision(dtype):
            z = jnp.asarray(logits, dtype)
            hot = np.eye(num_classes)[classes]
            focal, focal_slopes, poly, poly_slopes = [], [], [], []
            for row, y in zip(z, classes, strict=True):
                row = exactly(row)
                exps = [mp.exp(v - max(row)) for v in row]
                p = [e / mp.fsum(exps) for e in exps]
                miss, nll = mp.fsum(p[:y] + p[y + 1 :]), mp.log(mp.fsum(exps)) + max(row) - row[y]
                plain = [v - (j == y) for j, v in enumerate(p)]
                plain[y] = -miss
                focal.append(miss**2 * nll)
                focal_slopes.append([(miss**2 + 2 * miss * p[y] * nll) * v for v in plain])
                poly.append(nll + 2 * miss)
                poly_slopes.append([(1 + 2 * p[y]) * v for v in plain])
            for name, labels, truth, slopes in (
                ("softmax_focal_loss", classes, focal, focal_slopes),
                ("poly_loss_cross_entropy", hot, poly, poly_slopes),
            ):
                check(getattr(jaxce, name)(z, labels), np.array(truth, float), 0, dtype)
                check(getattr(jaxce, name).grad(z, labels), np.array(slopes, float), 0, dtype)

    is_its_definition()
