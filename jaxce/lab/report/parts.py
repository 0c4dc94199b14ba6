"""What a page is made of: charts with their words, tables, and galleries of examples."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxce.lab.report import charts


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
    """One of a gallery: its pictures as (src, alt), what was said of it, how surely, and what is true."""

    pictures: Sequence[tuple[str, str]]
    said: str
    surely: str
    true: str
    is_wrong: bool
    number: str


class Gallery(NamedTuple):
    """Examples to look at."""

    title: str
    caption: str
    examples: Sequence[Example]


def pictures(pixels: np.ndarray, alt: str) -> list[tuple[str, str]]:
    """The picture of an input that is an image; none of another."""
    is_image = pixels.ndim == 3 and pixels.shape[-1] in (1, 3)
    return [(charts.picture(pixels), alt)] if is_image else []


def in_hundredths(value: float) -> str:
    """A score, a dash where there is none.

    >>> in_hundredths(0.5), in_hundredths(math.nan)
    ('0.500', '–')
    """
    return "–" if math.isnan(value) else f"{value:.3f}"
