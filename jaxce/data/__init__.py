"""Where examples come from: functions from a split to arrays, and DATASETS, the one list of them."""

from pathlib import Path

from jaxce.data.bundled import digits, iris, regression, tumor
from jaxce.data.canvases import multilabel
from jaxce.data.captcha import captcha
from jaxce.data.npz import npz
from jaxce.data.open_set import open_set
from jaxce.data.split import Dataset, Examples, LabelKind, Split

DATASETS = {
    "digits": digits,
    "tumor": tumor,
    "iris": iris,
    "regression": regression,
    "captcha": captcha,
    "multilabel": multilabel,
    "open_set": open_set,
}


def load(name: str, split: Split) -> Dataset:
    """The data set of a name in DATASETS, or of the path of an .npz file."""
    return npz(Path(name), split) if name.endswith(".npz") else DATASETS[name](split)


__all__ = [
    "DATASETS",
    "Dataset",
    "Examples",
    "LabelKind",
    "Split",
    "captcha",
    "digits",
    "iris",
    "load",
    "multilabel",
    "npz",
    "open_set",
    "regression",
    "tumor",
]
