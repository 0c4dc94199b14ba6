"""Charts as data URIs of SVG, by Matplotlib, and what else a page is made of: tables, galleries of examples."""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxce.lab.errors import quiet
from jaxce.lab.metrics import Metric, Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Dark enough to be read as text on white (contrast above 4.5), told apart with any colour vision.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0064a6", "#b84700", "#00734f", "#8f3a84", "#5c6570"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#7a5c00", "#2b2f36")

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#aab1ba",
    "axes.grid": True,
    "axes.labelcolor": GREY,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.color": "#e7eaee",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxce",
    "text.color": "#2b2f36",
    "xtick.color": "#aab1ba",
    "xtick.labelcolor": GREY,
    "ytick.color": "#aab1ba",
    "ytick.labelcolor": GREY,
}

DASHED: Any = {"color": GREY, "linewidth": 1, "linestyle": (0, (4, 3))}
Points = tuple[Sequence[float], Sequence[float]]


def percent(fraction: float, position: float | None = None) -> str:
    """A fraction as a label of an axis.

    >>> percent(0.25)
    '25 %'
    """
    return f"{100 * fraction:g} %"


class Figure(NamedTuple):
    """A chart with its words."""

    title: str
    src: str
    alt: str
    caption: str = ""


class Table(NamedTuple):
    """Rows of text, the first cell of each its head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


class Example(NamedTuple):
    """One of a gallery: its pictures as (src, alt), the answer, how probable it was, and what is true."""

    pictures: Sequence[tuple[str, str]]
    answer: str
    probability: str
    true: str
    is_wrong: bool
    number: str


class Gallery(NamedTuple):
    """Examples to look at."""

    title: str
    caption: str
    examples: Sequence[Example]


class Sections(NamedTuple):
    """What a report says of predictions: numbers with their names, charts, galleries, a table of classes."""

    numbers: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()
    galleries: Sequence[Gallery] = ()
    classes: Table | None = None


def pictures(pixels: np.ndarray, alt: str) -> list[tuple[str, str]]:
    """The picture of an input that is an image; none of another."""
    is_image = pixels.ndim == 3 and pixels.shape[-1] in (1, 3)
    return [(picture(pixels), alt)] if is_image else []


def in_hundredths(value: float) -> str:
    """A score, a dash where there is none.

    >>> in_hundredths(0.5), in_hundredths(math.nan)
    ('0.500', '–')
    """
    return "–" if math.isnan(value) else f"{value:.3f}"


def chart(draw: Callable[["Axes"], None], width: float = 4.4, height: float = 2.9) -> str:
    """The data URI of what `draw` puts on axes; the same drawing gives the same bytes."""
    # Half a second to import. It warns where it finds no folder for its font cache, and works without.
    with quiet("matplotlib"):
        import matplotlib as mpl
        from matplotlib.figure import Figure as Canvas
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        draw(canvas.add_subplot())
        file = io.BytesIO()
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    # The page's own font; the one that Matplotlib laid out with is wider, so that everything fits.
    svg = file.getvalue().replace(b"'DejaVu Sans'", b"system-ui, 'Helvetica Neue', Arial, 'DejaVu Sans'")
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def curves(
    lines: Mapping[str, Points],
    metric: Metric,
    *,
    log: bool = False,
    mark: float | None = None,
    limits: tuple[float, float] | None = None,
) -> str:
    """Curves of a metric over epochs, each labelled at its end.

    Args:
        lines: Label to epochs and values.
        metric: What the values are.
        log: Draw the vertical axis logarithmically.
        mark: Epoch to mark on the last line, that of the best.
        limits: Ends of the vertical axis; None shows all.
    """

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        for colour, (epochs, values) in zip(colours(len(lines)), lines.values(), strict=True):
            axes.plot(epochs, values, color=colour, marker="o" if len(epochs) == 1 else None, markersize=4)
        axes.set(xlabel="epoch", ylabel=metric.axis, yscale="log" if log else "linear")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if metric.unit == "%":
            axes.yaxis.set_major_formatter(percent)
        elif log:
            axes.yaxis.set_major_formatter("{x:g}")
        if mark is not None:
            epochs, values = list(lines.values())[-1]
            best = values[list(epochs).index(mark)]
            axes.plot(mark, best, "o", color="white", markeredgecolor=colours(len(lines))[-1], markersize=6)
        if limits is not None:
            axes.set_ylim(limits)
        label_ends(axes, lines, metric.unit == "%")

    return chart(draw)


def without_the_start(lines: Sequence[Points]) -> tuple[float, float] | None:
    """Ends of the axis without the first twentieth of the epochs, where these take more than half of it.

    None where all is to be shown.
    """
    count = max(len(values) for _, values in lines) // 20
    every, later = (np.concatenate([values[start:] for _, values in lines]) for start in (0, count))
    if not count or np.ptp(later) > np.ptp(every) / 2:
        return None
    room = 0.08 * np.ptp(later) or 0.01
    return later.min() - room, later.max() + room


def colours(count: int) -> list[str]:
    """A colour for each of `count` lines; the only one, or the last of two, is blue."""
    if count <= 2:
        return [ORANGE, BLUE][2 - count :]
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def label_ends(axes: "Axes", lines: Mapping[str, Points], percent: bool = False, gap: float = 0.075) -> None:
    """Write each line's label and last value to its right, moved apart where they would overlap."""
    to_axes = axes.transAxes.inverted()
    axes.autoscale_view()
    heights = [
        to_axes.transform(axes.transData.transform((epochs[-1], values[-1])))[1]
        for epochs, values in lines.values()
    ]
    placed = spread(np.array(heights), gap)
    for colour, height, (label, (_, values)) in zip(colours(len(lines)), placed, lines.items(), strict=True):
        value = f"{values[-1]:.3g}" if abs(values[-1]) < 1000 else f"{values[-1]:,.0f}"
        value = f"{100 * values[-1]:.1f} %" if percent else value
        text = f"{label} {value}".strip()
        axes.text(1.015, height, text, color=colour, transform=axes.transAxes, va="center", fontsize=8.5)


def spread(heights: Float[np.ndarray, "n"], gap: float) -> Float[np.ndarray, "n"]:
    """The heights, in their order, at least `gap` apart, and within [0, 1] where there is room.

    >>> spread(np.array([0.5, 0.52, 0.1]), 0.1).round(2)
    array([0.46, 0.56, 0.1 ])
    """
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    # The nearest heights that rise by `gap` or more are the nearest that rise at all, less the steps.
    placed = isotonic_regression(heights[order] - steps, y_min=0, y_max=max(1 - steps[-1], 0)) + steps
    return placed[np.argsort(order)]


def confusion(counts: Int[np.ndarray, "classes classes"], classes: Sequence[str]) -> str:
    """True classes down, predicted ones across: right ones blue, mistakes orange, by their share of the row."""
    size = len(classes)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right = np.eye(size, dtype=bool)

    def draw(axes: "Axes") -> None:
        axes.imshow(np.where(right, share, np.nan), cmap="Blues", vmin=0, vmax=1.25)
        # A mistake is rare, and must be seen: shades begin well away from white.
        mistakes = np.where(~right & (counts > 0), 0.25 + 0.75 * share, np.nan)
        axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=1.25)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="predicted", ylabel="true")
        axes.tick_params(length=0)
        if size > 20:
            return
        long = max(map(len, classes)) > 2
        axes.set_xticks(range(size), classes, rotation=45 if long else 0, ha="right" if long else "center")
        axes.set_yticks(range(size), classes)
        for row, column in np.argwhere(counts):
            dark = share[row, column] > 0.6
            colour = "white" if dark else "#2b2f36"
            axes.text(column, row, counts[row, column], color=colour, ha="center", va="center", fontsize=8)

    return chart(draw, 4.4, float(np.clip(1.2 + 0.4 * size, 2.4, 4.1)))


def reliability_diagram(found: Reliability) -> str:
    """How often predictions were right, by their probability, with 95 % intervals; their number below."""
    from scipy.stats import binomtest

    hits = np.rint(found.accuracy * found.sizes).astype(int)
    intervals = [
        binomtest(int(k), int(n)).proportion_ci(0.95, "wilson") for k, n in zip(hits, found.sizes, strict=True)
    ]

    def draw(axes: "Axes") -> None:
        unit_square(axes, "probability given", "fraction right", "as probable as right", 0.05)
        low, high = zip(*intervals, strict=True)
        axes.vlines(found.confidence, low, high, color=BLUE, linewidth=1.2, alpha=0.55)
        axes.plot(found.confidence, found.accuracy, "o", color=BLUE, markersize=5)
        small: Any = {"color": GREY, "ha": "center", "va": "center", "fontsize": 7.5}
        for middle, count in zip(found.middle, found.sizes, strict=True):
            axes.text(middle, -0.075, f"{count}" if count < 10_000 else f"{count / 1000:.0f}k", **small)
        axes.text(-0.035, -0.075, "n", style="italic", **small)
        axes.set(xlim=(-0.06, 1.02), ylim=(-0.13, 1.03))

    return chart(draw, 4.4, 4.1)


def unit_square(axes: "Axes", xlabel: str, ylabel: str, diagonal: str, start: float = 0.55) -> None:
    """Axes of two fractions, and the dashed diagonal with its name from `start` on."""
    axes.plot([0, 1], [0, 1], **DASHED)
    place = (start, start - 0.045)
    axes.text(*place, diagonal, color=GREY, rotation=45, rotation_mode="anchor", fontsize=8)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)


def roc_curves(found: Mapping[str, Points], worst: str) -> str:
    """ROC curves of all classes, that of `worst` labelled."""

    def draw(axes: "Axes") -> None:
        unit_square(axes, "found where it is not", "found where it is", "by chance")
        for name, (false, true) in found.items():
            bold = name == worst
            axes.plot(false, true, color=ORANGE if bold else BLUE, alpha=1 if bold else 0.4, zorder=2 + bold)
        axes.text(1, 0.02, f"worst: {worst}", color=ORANGE, ha="right", fontsize=8.5)

    return chart(draw, 4.4, 4.1)


def verification(
    false: Float[np.ndarray, "thresholds"], true: Float[np.ndarray, "thresholds"], equal_error_rate: float
) -> str:
    """The ROC curve of verification, and the point at which both errors are equal."""
    # By the length of the curve, so that a hundred thousand thresholds take no more bytes than the eye needs.
    length = np.append(0, np.cumsum(np.hypot(np.diff(false), np.diff(true))))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], 300)))

    def draw(axes: "Axes") -> None:
        unit_square(axes, "of two classes, taken for one", "of one class, taken for one", "by chance")
        axes.plot(false[kept], true[kept], color=BLUE)
        point = equal_error_rate, 1 - equal_error_rate
        axes.plot(*point, "o", color="white", markeredgecolor=BLUE, markersize=6)
        beside: Any = {"xytext": (9, -11), "textcoords": "offset points", "fontsize": 8.5}
        axes.annotate(f"equal errors: {100 * equal_error_rate:.3g} %", point, color=BLUE, **beside)

    return chart(draw, 4.4, 4.1)


def cosines(one: Float[np.ndarray, "pairs"], two: Float[np.ndarray, "other"], threshold: float) -> str:
    """Cosines of pairs of one class, and of pairs of two: the less they overlap, the better."""
    edges = np.linspace(min(one.min(), two.min()), max(one.max(), two.max()), 61)
    middle = (edges[:-1] + edges[1:]) / 2

    def draw(axes: "Axes") -> None:
        for values, colour, name, side in (
            (two, ORANGE, "two classes", "right"),
            (one, BLUE, "one class", "left"),
        ):
            share = np.histogram(values, edges)[0] / len(values)
            axes.fill_between(middle, share, step="mid", color=colour, alpha=0.35, linewidth=0)
            axes.step(middle, share, where="mid", color=colour, linewidth=1.2)
            peak = share.argmax()
            above: Any = {"xytext": (0, 5), "textcoords": "offset points", "ha": side}
            axes.annotate(name, (middle[peak], share[peak]), color=colour, fontsize=8.5, **above)
        axes.axvline(threshold, **DASHED)
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
        axes.set(xlabel="cosine", ylabel="share of the pairs")
        axes.yaxis.set_major_formatter(percent)

    return chart(draw, 4.4, 4.1)


def true_against_predicted(
    labels: Float[np.ndarray, "examples"], predicted: Float[np.ndarray, "examples"]
) -> str:
    """Predicted numbers against true ones: the nearer to the diagonal, the better."""

    def draw(axes: "Axes") -> None:
        ends = [min(labels.min(), predicted.min()), max(labels.max(), predicted.max())]
        axes.plot(ends, ends, **DASHED)
        axes.plot(labels, predicted, "o", color=BLUE, markersize=4, alpha=0.5, markeredgewidth=0)
        axes.set(xlabel="true", ylabel="predicted", aspect="equal")

    return chart(draw, 4.4, 4.1)


def picture(pixels: Float[np.ndarray, "height width *channels"]) -> str:
    """A PNG's data URI: values stretched from black to white, and inverted where grey on a dark ground."""
    from PIL import Image

    pixels = np.asarray(pixels, float)
    low, high = pixels.min(), pixels.max()
    pixels = (pixels - low) / ((high - low) or 1.0)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 2 and np.median(pixels) < 0.5:
        pixels = 1 - pixels
    file = io.BytesIO()
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
