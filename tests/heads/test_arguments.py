"""What heads say to the person who made the mistake."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxce
from jaxce import linear_loss, linear_softmax_cross_entropy, linear_token_statistics
from tests.heads.cases import LABEL_LOSS, arrays

MISUSES = {
    "kernel on its side": (lambda x, w, y: (x, w.T, y), {}, r"\(77, 6\) but kernel \(203, 6\).*kernel\.T"),
    "labels too few": (lambda x, w, y: (x, w, y[:5]), {}, r"labels has shape \(5,\) but features has \(77,\)"),
    "labels with an axis": (lambda x, w, y: (x, w, y[:, None]), {}, r"use labels\.reshape\(77,\)"),
    "label past the classes": (lambda x, w, y: (x, w, y + 203), {}, r"there are 203 classes"),
    "label −1": (
        lambda x, w, y: (x, w, y * 0 - 1),
        {},
        r"labels holds -1.*; where, weights or ignore_index leave examples out",
    ),
    "ignored soft labels": (
        lambda x, w, y: (x, w, np.ones((77, 203), np.float32)),
        {"ignore_index": 0},
        r"ignore_index is 0, but labels has shape \(77, 203\).*it is for integers of shape",
    ),
    "several ignored labels": (lambda x, w, y: (x, w, y), {"ignore_index": (0, 1)}, "must be one integer"),
    "soft labels too narrow": (lambda x, w, y: (x, w, np.ones((77, 3))), {}, r"\(77, 3\).*\(77, 203\)"),
    "bias too short": (lambda x, w, y: (x, w, y), {"bias": np.zeros(3)}, r"bias has shape \(3,\)"),
    "mask of another shape": (
        lambda x, w, y: (x, w, y),
        {"where": np.ones(5, bool)},
        r"where has shape \(5,\)",
    ),
    "smoothing above 1": (lambda x, w, y: (x, w, y), {"label_smoothing": 1.5}, r"label_smoothing is 1\.5"),
    "weights too few": (lambda x, w, y: (x, w, y), {"class_weights": np.ones(2)}, r"class_weights has shape"),
    "cap of zero": (lambda x, w, y: (x, w, y), {"soft_cap": 0.0}, r"soft_cap is 0\.0"),
    "reduction by another name": (lambda x, w, y: (x, w, y), {"reduction": "avg"}, r"reduction is 'avg'"),
    "chunk of nothing": (lambda x, w, y: (x, w, y), {"chunk_size": 0}, r"chunk_size is 0"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("change", "options", "message"), MISUSES.values(), ids=MISUSES)
def test_misuse_says_what_fits(change, options, message, rng):
    x, w, _, y = arrays(rng)
    with pytest.raises(ValueError, match=message):
        linear_softmax_cross_entropy(*change(x, w, y), **options)


@pytest.mark.usefixtures("unchecked")
def test_wrong_dtypes_are_type_errors(rng):
    x, w, _, y = arrays(rng)
    for given in [(x.astype(int), w, y), (x, w.astype(int), y)]:
        with pytest.raises(TypeError, match="must be floating-point"):
            linear_softmax_cross_entropy(*given)
    with pytest.raises(TypeError, match="where must be boolean"):
        linear_softmax_cross_entropy(x, w, y, where=y)
    with pytest.raises(TypeError, match=r"chunk_size is 8\.5"):
        linear_softmax_cross_entropy(x, w, y, chunk_size=8.5)
    with pytest.raises(TypeError, match="labels must be integers"):
        linear_token_statistics(x, w, y.astype(float))


@pytest.mark.usefixtures("unchecked")
def test_a_loss_that_is_not_of_rows_is_refused(rng):
    x, w, _, y = arrays(rng)
    with pytest.raises(ValueError, match=r"leave out \.mean"):
        linear_loss(lambda z, y: LABEL_LOSS(z, y).mean(), x, w, y)
    with pytest.raises(ValueError, match=r"add \.sum\(-1\)"):
        linear_loss(jaxce.sigmoid_binary_cross_entropy, x, w, np.zeros((77, 203)))
    with pytest.raises(ValueError, match="weights has shape"):
        linear_loss(LABEL_LOSS, x, w, y, weights=np.ones(3))
    with pytest.raises(ValueError, match="an entry per example"):
        linear_loss(LABEL_LOSS, x, w, y[:3])


def test_a_label_outside_the_classes_is_nan_inside_jit(rng):
    x, w, _, y = arrays(rng)
    for wrong in (-1, 203):
        labels = jnp.asarray(y).at[5].set(wrong)
        value, grad = jax.jit(jax.value_and_grad(lambda w, y: linear_softmax_cross_entropy(x, w, y)))(w, labels)
        assert np.isnan(value)
        assert np.isnan(grad).all()
