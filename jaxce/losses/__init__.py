"""Pure loss functions of logits, their closed-form gradients, and LOSSES, the one list of them all."""

from jaxce.losses import definitions
from jaxce.losses.registry import Loss
from jaxce.losses.sigmoid import (
    asymmetric_loss,
    asymmetric_loss_grad,
    sigmoid_binary_cross_entropy,
    sigmoid_binary_cross_entropy_grad,
    sigmoid_focal_loss,
    sigmoid_focal_loss_grad,
)
from jaxce.losses.softmax import (
    poly_loss_cross_entropy,
    poly_loss_cross_entropy_grad,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
    softmax_cross_entropy_with_integer_labels,
    softmax_cross_entropy_with_integer_labels_grad,
    softmax_focal_loss,
    softmax_focal_loss_grad,
)

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss(
            value=softmax_cross_entropy,
            grad=softmax_cross_entropy_grad,
            definition=definitions.softmax_cross_entropy,
            inputs="logits",
            labels="distribution",
            convex=True,
            formula="−Σ_j q_j log softmax(z)_j",
            source="Bishop 2006, section 4.3.4",
            cases=(
                {"label_smoothing": 0.1},
                {"class_weights": (0.5, 1.0, 2.0, 0.25)},
                {"z_loss": 1e-3},
                {"label_smoothing": 0.2, "class_weights": (0.5, 1.0, 2.0, 0.25), "z_loss": 1e-2},
            ),
        ),
        Loss(
            value=softmax_cross_entropy_with_integer_labels,
            grad=softmax_cross_entropy_with_integer_labels_grad,
            definition=definitions.softmax_cross_entropy_with_integer_labels,
            inputs="logits",
            labels="integer",
            convex=True,
            formula="−log softmax(z)_y",
            source="Bishop 2006, section 4.3.4",
            cases=(
                {"label_smoothing": 0.1},
                {"class_weights": (0.5, 1.0, 2.0, 0.25)},
                {"z_loss": 1e-3},
                {"label_smoothing": 0.2, "class_weights": (0.5, 1.0, 2.0, 0.25), "z_loss": 1e-2},
            ),
        ),
        Loss(
            value=softmax_focal_loss,
            grad=softmax_focal_loss_grad,
            definition=definitions.softmax_focal_loss,
            inputs="logits",
            labels="integer",
            convex=False,
            formula="−α_y (1 − p_y)^γ log p_y, p = softmax(z)",
            source="Lin et al. 2017, arXiv:1708.02002, equation 5",
            cases=(
                {"gamma": 0.0},
                {"gamma": 0.5},
                {"alpha": 0.25},
                {"alpha": (0.5, 1.0, 2.0, 0.25), "gamma": 3.0},
            ),
        ),
        Loss(
            value=poly_loss_cross_entropy,
            grad=poly_loss_cross_entropy_grad,
            definition=definitions.poly_loss_cross_entropy,
            inputs="logits",
            labels="distribution",
            convex=False,
            formula="−Σ_j q_j log p_j + ε Σ_j q_j (1 − p_j), p = softmax(z)",
            source="Leng et al. 2022, arXiv:2204.12511, equation 7",
            cases=({"epsilon": 0.0}, {"epsilon": -1.0}),
        ),
        Loss(
            value=sigmoid_binary_cross_entropy,
            grad=sigmoid_binary_cross_entropy_grad,
            definition=definitions.sigmoid_binary_cross_entropy,
            inputs="logits",
            labels="binary",
            convex=True,
            formula="−[w y log σ(z) + (1 − y) log σ(−z)]",
            source="Bishop 2006, equation 4.90",
            cases=({"pos_weight": 3.0}, {"label_smoothing": 0.1}),
        ),
        Loss(
            value=sigmoid_focal_loss,
            grad=sigmoid_focal_loss_grad,
            definition=definitions.sigmoid_focal_loss,
            inputs="logits",
            labels="binary",
            convex=False,
            formula="α_t (1 − p_t)^γ BCE(z, y), 1 − p_t = y σ(−z) + (1 − y) σ(z)",
            source="Lin et al. 2017, arXiv:1708.02002, equation 5",
            cases=({"gamma": 0.0}, {"gamma": 0.5}, {"alpha": 0.25}),
        ),
        Loss(
            value=asymmetric_loss,
            grad=asymmetric_loss_grad,
            definition=definitions.asymmetric_loss,
            inputs="logits",
            labels="binary",
            convex=False,
            formula="−y (1 − p)^γ₊ log p − (1 − y) p_m^γ₋ log(1 − p_m), p = σ(z), p_m = max(p − clip, 0)",
            source="Ridnik et al. 2021, arXiv:2009.14119, equations 4 to 7",
            cases=({"clip": 0.0}, {"gamma_neg": 0.0, "gamma_pos": 0.0}, {"gamma_neg": 2.0, "gamma_pos": 0.5}),
        ),
    )
}

__all__ = [
    "LOSSES",
    "Loss",
    "asymmetric_loss",
    "asymmetric_loss_grad",
    "poly_loss_cross_entropy",
    "poly_loss_cross_entropy_grad",
    "sigmoid_binary_cross_entropy",
    "sigmoid_binary_cross_entropy_grad",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_grad",
    "softmax_cross_entropy",
    "softmax_cross_entropy_grad",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_cross_entropy_with_integer_labels_grad",
    "softmax_focal_loss",
    "softmax_focal_loss_grad",
]
