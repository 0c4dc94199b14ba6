"""Value and gradient beside torch's over random combinations of options, in float64, where torch is installed.

Left out, for torch gives NaN or infinity there by design: a mean in which every label is ignored, and classes
at −inf with smoothing or with target distributions (docs/migration.md has each). `pytest -s` prints what was
compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxce
from jaxce import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels

torch = pytest.importorskip("torch")

LAYOUTS = [
    ((3,), 0),
    ((5, 3), -1),
    ((3, 5), 0),
    ((2, 3, 4), 1),
    ((2, 4, 3), 2),
    ((3, 2, 2, 2), 0),
]  # shape, class axis
REDUCTIONS = ["none", "mean", "sum"]
IGNORED = -100


def tensor(array):
    return None if array is None else torch.tensor(array)


def compare(name, rng, combinations, draw):
    """Hold ours against torch's for so many draws; `draw` gives logits and a loss of them in each library."""
    worst = {"value": 0.0, "gradient": 0.0}
    with jax.enable_x64(True):
        for _ in range(combinations):
            z, ours, theirs, options = draw(rng)
            logits = torch.tensor(z, requires_grad=True)
            expected = theirs(logits)
            direction = rng.normal(size=expected.shape)
            (expected * torch.tensor(direction)).sum().backward()
            found, pull = jax.vjp(ours, jnp.asarray(z))
            assert found.shape == tuple(expected.shape), options
            pairs = {
                "value": (np.asarray(found), expected.detach().numpy()),
                "gradient": (np.asarray(pull(jnp.asarray(direction))[0]), logits.grad.numpy()),
            }
            for which, (a, b) in pairs.items():
                error = np.abs(a - b).max() / np.abs(b).max() if b.any() else np.abs(a).max()
                assert error < 1e-10, f"{which} with {options}: {a}, torch {b}"
                worst[which] = max(worst[which], error)
    errors = ", ".join(f"{which} {error:.1e}" for which, error in worst.items())
    print(f"\n{name}: {combinations} combinations, largest relative error of {errors}")


def layout(rng):
    """Logits, the axis of their classes, and how torch wants them: classes along axis 1, or 0 of a lone row."""
    shape, axis = LAYOUTS[rng.integers(len(LAYOUTS))]
    z = rng.normal(scale=3, size=shape)
    of_torch = min(1, len(shape) - 1)
    return z, axis, lambda array: torch.movedim(torch.as_tensor(array), axis, of_torch)


def class_options(rng, num_classes):
    weight = rng.uniform(0.1, 2, num_classes) if rng.random() < 0.5 else None
    smoothing = float(rng.uniform(0, 1)) if rng.random() < 0.5 else 0.0
    return weight, smoothing, REDUCTIONS[rng.integers(3)]


def test_integer_labels_with_weights_and_smoothing(rng):
    def draw(rng):
        z, axis, as_torch = layout(rng)
        num_classes = z.shape[axis]
        weight, smoothing, reduction = class_options(rng, num_classes)
        y = rng.integers(0, num_classes, np.delete(z.shape, axis))
        ignore = int(rng.choice([IGNORED, 1])) if rng.random() < 0.5 else None
        if ignore == IGNORED:
            y = np.where(rng.random(y.shape) < 0.3, IGNORED, y)
        counts = np.ones_like(y, bool) if ignore is None else y != ignore
        if not counts.any():
            return draw(rng)
        of_label = np.where(counts, 1.0 if weight is None else np.take(weight, y, mode="clip"), 0)

        def ours(z):
            losses = softmax_cross_entropy_with_integer_labels(
                z, y, axis, label_smoothing=smoothing, class_weights=weight, ignore_index=ignore
            )
            if reduction == "none":
                return losses
            return losses.sum() / of_label.sum() if reduction == "mean" else losses.sum()

        theirs = torch.nn.CrossEntropyLoss(
            weight=tensor(weight),
            label_smoothing=smoothing,
            reduction=reduction,
            ignore_index=IGNORED if ignore is None else ignore,
        )
        options = f"{z.shape=}, {axis=}, {weight=}, {smoothing=}, {ignore=}, {reduction=}"
        return z, ours, lambda z: theirs(as_torch(z), tensor(y)), options

    compare("CrossEntropyLoss, classes", rng, 300, draw)


def test_target_distributions_with_weights_and_smoothing(rng):
    def draw(rng):
        z, axis, as_torch = layout(rng)
        weight, smoothing, reduction = class_options(rng, z.shape[axis])
        q = np.moveaxis(rng.dirichlet(np.full(z.shape[axis], 0.5), np.delete(z.shape, axis)), -1, axis)
        q *= rng.uniform(0.5, 2) if rng.random() < 0.3 else 1  # and those that do not sum to one

        def ours(z):
            losses = softmax_cross_entropy(z, q, axis, label_smoothing=smoothing, class_weights=weight)
            return {"none": lambda x: x, "mean": jnp.mean, "sum": jnp.sum}[reduction](losses)

        theirs = torch.nn.CrossEntropyLoss(
            weight=tensor(weight), label_smoothing=smoothing, reduction=reduction
        )
        options = f"{z.shape=}, {axis=}, {weight=}, {smoothing=}, {reduction=}"
        return z, ours, lambda z: theirs(as_torch(z), as_torch(q)), options

    compare("CrossEntropyLoss, distributions", rng, 120, draw)


def test_binary_labels_with_weights(rng):
    def draw(rng):
        shape = [(), (4,), (3, 2), (2, 3, 4)][rng.integers(4)]
        z = rng.normal(scale=3, size=shape)
        y = rng.random(shape) if rng.random() < 0.5 else rng.integers(0, 2, shape).astype(float)
        of_class = shape[-1:] if rng.random() < 0.5 else ()
        pos_weight = rng.uniform(0.1, 3, of_class) if rng.random() < 0.6 else None
        weight = rng.uniform(0.1, 3, shape) if rng.random() < 0.4 else None
        reduction = REDUCTIONS[rng.integers(3)]

        def ours(z):
            losses = jaxce.sigmoid_binary_cross_entropy(z, y, pos_weight=pos_weight)
            losses = losses if weight is None else losses * weight
            return {"none": lambda x: x, "mean": jnp.mean, "sum": jnp.sum}[reduction](losses)

        theirs = torch.nn.BCEWithLogitsLoss(
            weight=tensor(weight), pos_weight=tensor(pos_weight), reduction=reduction
        )
        options = f"{shape=}, {pos_weight=}, {weight=}, {reduction=}"
        return z, ours, lambda z: theirs(z, tensor(y)), options

    compare("BCEWithLogitsLoss", rng, 150, draw)


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")  # of the mean, which torch means to change
def test_divergences_of_targets_and_of_their_logarithms(rng):
    def draw(rng):
        shape = [(4,), (3, 5), (2, 3, 4)][rng.integers(3)]
        z = rng.normal(scale=2, size=shape)
        q = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
        hard = rng.random() < 0.3
        log_target = bool(rng.random() < 0.5) and not hard
        q = np.eye(shape[-1])[q.argmax(-1)] if hard else np.log(q) if log_target else q
        reduction = ["none", "mean", "sum", "batchmean"][rng.integers(4)]
        divergence = jaxce.kl_divergence_with_log_targets if log_target else jaxce.kl_divergence

        def ours(z):
            losses = divergence(jax.nn.log_softmax(z), q)
            return {
                "none": lambda x: x,
                "mean": lambda x: x.sum() / z.size,
                "sum": jnp.sum,
                "batchmean": lambda x: x.sum() / len(z),
            }[reduction](losses)

        theirs = torch.nn.KLDivLoss(reduction=reduction, log_target=log_target)

        def of_torch(z):
            found = theirs(torch.log_softmax(z, -1), tensor(q))
            return found.sum(-1) if reduction == "none" else found  # torch leaves even the classes unsummed

        return z, ours, of_torch, f"{shape=}, {log_target=}, {hard=}, {reduction=}"

    compare("KLDivLoss", rng, 80, draw)
