"""The sections of a page whose run gave features: how well pairs of one class are told from pairs of two."""

import numpy as np

from jaxce.lab.metrics import Pairs, all_pairs, verification_curve
from jaxce.lab.report import charts
from jaxce.lab.report.pairs import compared, of_each_class
from jaxce.lab.report.parts import Example, Figure, Gallery, Table, in_hundredths, pictures
from jaxce.lab.report.predictions import Predictions

MOST_NAMED = 20  # classes in a caption


def pairs_of(found: Predictions) -> Pairs | None:
    """The pairs that are compared; None where all are of one class, or none is."""
    chosen = compared(len(found.labels))
    pairs = all_pairs(found.outputs[chosen], found.labels[chosen])
    return pairs if pairs.same.any() and not pairs.same.all() else None


def figures(found: Predictions) -> list[Figure]:
    """The ROC curve of verification, and the cosines of both sorts of pairs."""
    if (pairs := pairs_of(found)) is None:
        return []
    curve = verification_curve(pairs.cosines, pairs.same)
    error = f"{100 * curve.equal_error_rate:.3g} %"
    one, two = pairs.cosines[pairs.same], pairs.cosines[~pairs.same]
    labels = np.unique(found.labels)
    names = ", ".join(found.classes[label] for label in labels[:MOST_NAMED])
    names += f" and {len(labels) - MOST_NAMED:,} more" if len(labels) > MOST_NAMED else ""
    count = f"{len(one):,} pairs of one class and {len(two):,} of two, of the classes {names}"
    return [
        Figure(
            f"Verification: area {curve.area:.3f}",
            charts.verification(curve),
            f"ROC curve of verification with area {curve.area:.4g} and equal error rate {error}.",
            f"Are two examples of one class? By the cosine of their features; {count}.",
        ),
        Figure(
            "Cosines of pairs",
            charts.cosines(one, two, curve.threshold),
            f"Histograms of the cosines of pairs of one class, mean {one.mean():.3f}, and of two, "
            f"mean {two.mean():.3f}.",
            f"Told apart at the dashed line, {curve.threshold:.3f}, {error} of either are taken for the other.",
        ),
    ]


def galleries(found: Predictions) -> list[Gallery]:
    """The pairs that look most as they should not, with their images."""
    if found.shown is None or found.inputs is None or pairs_of(found) is None:
        return []
    inputs = dict(zip(found.shown.tolist(), found.inputs, strict=True))
    both = [pair_of(found, inputs, int(i), int(j)) for i, j in found.shown.reshape(-1, 2)]
    apart = [pair for pair in both if pair.is_wrong]
    together = [pair for pair in both if not pair.is_wrong]
    return [
        Gallery("Two classes, most alike", "The pairs of two classes with the largest cosines.", apart),
        Gallery("One class, least alike", "The pairs of one class with the smallest cosines.", together),
    ]


def pair_of(found: Predictions, inputs: dict[int, np.ndarray], i: int, j: int) -> Example:
    """One pair of a gallery."""
    names = [found.classes[found.labels[k]] for k in (i, j)]
    cosine = float(all_pairs(found.outputs[[i, j]], found.labels[[i, j]]).cosines[0])
    return Example(
        [
            shown
            for k, name in zip((i, j), names, strict=True)
            for shown in pictures(
                inputs[k], f"Test example {k} of class {name}, of a pair with cosine {cosine:.3f}."
            )
        ],
        said=f"cosine {cosine:.3f}",
        surely="",
        true=" and ".join(dict.fromkeys(names)),
        is_wrong=names[0] != names[1],
        number=f"no. {i} and {j}",
    )


def class_table(found: Predictions) -> Table | None:
    """Cosines and verification of each class; None where there is nothing to tell apart."""
    chosen = compared(len(found.labels))
    rows = of_each_class(found.outputs[chosen], found.labels[chosen])
    if not rows:
        return None
    columns = list(next(iter(rows.values())))
    return Table(
        ["class", *columns],
        [
            [
                found.classes[label],
                *(f"{row[c]:,}" if c == "examples" else in_hundredths(row[c]) for c in columns),
            ]
            for label, row in rows.items()
        ],
        "Of pairs with an example of the class. Its features gather where the first cosine is near 1.",
    )
