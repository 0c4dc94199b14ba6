"""What a loss says to the person who made the mistake: the parameter, what was given, what fits, what to do."""

import re

import numpy as np
import pytest

import jaxce

of_integers = jaxce.softmax_cross_entropy_with_integer_labels
of_distributions = jaxce.softmax_cross_entropy
Z = np.zeros((4, 3), np.float32)
Y = np.array([0, 1, 2, 0])
WHERE = "to mask classes, of which either may have length 1 to repeat"
CALLS = [
    # Integer labels: the first wrong one, the classes, the way out.
    (
        lambda: of_integers(Z, np.array([0, 7, 9, 0])),
        "labels holds 7, but there are 3 classes: labels must lie in [0, 3); ignore_index leaves examples out",
    ),
    (
        lambda: of_integers(Z, np.array([-5, 1, 3, -1]), ignore_index=-5),
        "labels holds 3, but there are 3 classes: labels must lie in [0, 3); "
        "only ignore_index = -5 may lie outside",
    ),
    (
        lambda: of_integers(Z, Y.astype(float)),
        "labels must be integers, but has dtype float64: use labels.argmax(-1) if they are one-hot, "
        "labels.astype(int) if they are class numbers",
    ),
    (
        lambda: of_integers(Z, Y[:, None].repeat(3, 1)),
        "labels has shape (4, 3) but logits (4, 3) with classes along axis 1, "
        "which takes labels of shape (4,): use labels.argmax(-1), or the loss that takes distributions",
    ),
    (
        lambda: of_integers(Z, Y[:, None], axis=-1),
        "labels has shape (4, 1) but logits (4, 3) with classes along axis 1, "
        "which takes labels of shape (4,): use labels.reshape(4,)",
    ),
    (
        lambda: of_integers(np.zeros((4, 3, 2), np.float32), Y, axis=(0, -1)),
        "labels has shape (4,) but logits (4, 3, 2) with classes along axis (0, 2), "
        "which takes labels of shape (3,): labels must have shape (3,)",
    ),
    # Labels of the inputs' shape: the likely way from one to the other.
    (
        lambda: of_distributions(Z, Z[:1]),
        "labels has shape (1, 3) but logits (4, 3): "
        "if you mean to repeat it, use jnp.broadcast_to(labels, (4, 3))",
    ),
    (
        lambda: of_distributions(Z, Z[0]),
        "labels has shape (3,) but logits (4, 3): "
        "if you mean to repeat it, use jnp.broadcast_to(labels, (4, 3))",
    ),
    (
        lambda: of_distributions(Z, Z.T),
        "labels has shape (3, 4) but logits (4, 3): use labels.reshape(4, 3)",
    ),
    (
        lambda: of_distributions(Z, Z[:, 0]),
        "labels has shape (4,) but logits (4, 3): labels must have shape (4, 3)",
    ),
    (
        lambda: of_distributions(Z, np.stack([Z] * 3)),
        "labels has shape (3, 4, 3) but logits (4, 3): labels must have shape (4, 3)",
    ),
    (
        lambda: of_distributions(Z, np.zeros((5, 3), np.float32)),
        "labels has shape (5, 3) but logits (4, 3): labels must have shape (4, 3)",
    ),
    # Masks.
    (
        lambda: of_integers(Z, Y, where=np.ones(4)),
        "where must be boolean, but has dtype float32: compare it, as in where > 0",
    ),
    *[
        (
            lambda n=n: of_integers(Z, Y, where=np.ones(n, bool)),
            f"where has shape ({n},) but logits (4, 3): give (4,) to mask examples or (4, 3) {WHERE}",
        )
        for n in (1, 3)
    ],
    (
        lambda: jaxce.kl_divergence(Z, Z, where=np.ones((4, 2), bool)),
        f"where has shape (4, 2) but log_predictions (4, 3): give (4,) to mask examples or (4, 3) {WHERE}",
    ),
    # Axes.
    *[
        (
            lambda axis=axis: of_integers(Z, Y, axis=axis),
            f"axis is {axis}, but logits has 2 axes: give different ones in [-2, 2)",
        )
        for axis in (2, -3, (), (1, -1), (0, 2))
    ],
    # Options.
    (lambda: of_integers(Z, Y, z_loss=None), "z_loss must be one number, but is None"),
    (
        lambda: jaxce.softmax_focal_loss(Z, Y, alpha=np.ones(2)),
        "alpha has shape (2,), but must have (3,): one number, or one weight per class",
    ),
    (
        lambda: jaxce.sphereface(Z, Y, margin=2.5),
        "margin is 2.5, but must be a Python integer, the degree of a polynomial: "
        "inside jit make it static (static_argnames)",
    ),
    (lambda: jaxce.sphereface(Z, Y, margin=0), "margin is 0, but must be at or above 1"),
    (lambda: of_integers(Z, Y, z_loss=np.ones(3)), "z_loss must be one number, but has shape (3,)"),
    (lambda: of_integers(Z, Y, label_smoothing=1.5), "label_smoothing is 1.5, but must lie in [0, 1]"),
    (lambda: of_integers(Z, Y, label_smoothing=-0.5), "label_smoothing is -0.5, but must lie in [0, 1]"),
    (lambda: of_integers(Z, Y, z_loss=np.nan), "z_loss is nan, but must lie at or above 0"),
    (
        lambda: jaxce.poly_loss_cross_entropy(Z, Z, epsilon=-2.0),
        "epsilon is -2.0, but must lie at or above -1",
    ),
    (
        lambda: of_integers(Z, Y, class_weights=np.array([1.0, -np.inf, 3.0])),
        "class_weights must be finite, but holds -inf to 3.0",
    ),
    (
        lambda: of_integers(Z, Y, class_weights=np.array([1.0, np.inf, 3.0])),
        "class_weights must be finite, but holds 1.0 to inf",
    ),
    (
        lambda: of_integers(Z, Y, class_weights=np.ones(4)),
        "class_weights has shape (4,), but must have (3,): one weight per class",
    ),
    # Ranges.
    *[
        (
            lambda probs=probs: jaxce.entropy(np.array(probs)),
            f"probs ranges from {min(probs)} to {max(probs)}: "
            "probabilities lie in [0, 1]; of logits, take jax.nn.softmax first",
        )
        for probs in ([0.5, -0.25, 1.0], [0.5, 0.25, 1.5])
    ],
    *[
        (
            lambda labels=labels: jaxce.sigmoid_binary_cross_entropy(Z[0], np.array(labels)),
            f"labels ranges from {np.min(labels)} to {np.max(labels)}, but must lie in [0, 1]: {advice}",
        )
        for labels, advice in [
            ([1.0, -1.0, 1.0], "use (labels + 1) / 2 if they are −1 and 1"),
            (
                [0.0, -1.0, 1.0],
                "use where=labels >= 0 if −1 is unknown",
            ),
            ([0.0, 1.0, 2.0], "for class numbers, take softmax_cross_entropy_with_integer_labels"),
            ([0.0, np.nan, 1.0], "labels are probabilities, or 0 and 1"),
            ([0.0, 1.5, 1.0], "labels are probabilities, or 0 and 1"),
        ]
    ],
    (
        lambda: jaxce.classification_error(Z, Z + 2),
        "labels of the logits' own shape must be 0 or 1: use labels > 0.5 for probabilities, "
        "or labels of shape (4,) for class numbers",
    ),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message[:60] for _, message in CALLS])
def test_an_error_says_what_was_given_what_fits_and_what_to_do(call, message):
    kind = TypeError if "dtype" in message or "Python integer" in message else ValueError
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (of_integers, [{"label_smoothing": v} for v in (0, 1)] + [{"z_loss": 0.0}, {"axis": -1}, {"axis": 1}]),
        (of_integers, [{"class_weights": np.array([0, 1, 2])}, {"axis": (-1,)}]),
        (
            jaxce.softmax_focal_loss,
            [{"gamma": 0.0}, {"gamma": np.float32(0)}, {"gamma": 0}, {"alpha": 0.0}, {"alpha": 3}],
        ),
        (jaxce.arcface, [{"margin": 0.0}, {"margin": np.pi}, {"scale": 1e-6}]),
    ],
)
def test_the_ends_of_a_range_belong_to_it(function, options):
    for option in options:
        assert np.isfinite(function(Z, Y, **option)).all()
