"""Where examples come from: functions from a split to arrays, and DATASETS, the one list of them."""

from jaxce.data.bundled import digits, iris, regression, tumor
from jaxce.data.canvases import multilabel
from jaxce.data.captcha import captcha
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

__all__ = [
    "DATASETS",
    "Dataset",
    "Examples",
    "LabelKind",
    "Split",
    "captcha",
    "digits",
    "iris",
    "multilabel",
    "open_set",
    "regression",
    "tumor",
]
