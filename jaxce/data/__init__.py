"""Where examples come from: functions from a split to arrays, and DATASETS, the one list of them."""

from jaxce.data.bundled import digits, iris, tumor
from jaxce.data.split import Dataset, Examples, LabelKind, Split

DATASETS = {"digits": digits, "tumor": tumor, "iris": iris}

__all__ = ["DATASETS", "Dataset", "Examples", "LabelKind", "Split", "digits", "iris", "tumor"]
