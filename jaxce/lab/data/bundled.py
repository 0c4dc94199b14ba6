"""Data sets that come with scikit-learn, there without a network; and one that it downloads."""

import numpy as np

from jaxce.lab.data.examples import Examples
from jaxce.lab.data.split import Dataset, Split
from jaxce.lab.data.tfds import answers
from jaxce.lab.errors import TrainingError

# scikit-learn takes a second to import, so each function imports it when it runs.


def digits(split: Split) -> Dataset:
    """1,797 handwritten digits, 8x8 grey levels scaled to [0, 1], inputs [N, 8, 8, 1], ten classes.

    Source:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (1998), UCI repository.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = (raw.images / 16.0).astype(np.float32)[..., None]
    return Dataset(*split.divide(Examples(images, raw.target.astype(np.int32))), classes=tuple("0123456789"))


def tumor(split: Split) -> Dataset:
    """569 breast tumours, 30 measured features [N, 30] standardised, class 0 malignant and 1 benign.

    Source:
        W. Wolberg, O. Mangasarian, N. Street and W. Street, Breast Cancer Wisconsin (Diagnostic) (1993), UCI.
    """
    from sklearn.datasets import load_breast_cancer

    raw = load_breast_cancer()
    parts = split.divide(Examples(raw.data, raw.target.astype(np.int32)))
    return Dataset(*standardize(*parts), classes=tuple(map(str, raw.target_names)))


def iris(split: Split) -> Dataset:
    """150 iris flowers, 4 lengths and widths [N, 4] standardised, three species.

    Source:
        R. Fisher, The use of multiple measurements in taxonomic problems (1936).
    """
    from sklearn.datasets import load_iris

    raw = load_iris()
    parts = split.divide(Examples(raw.data, raw.target.astype(np.int32)))
    return Dataset(*standardize(*parts), classes=tuple(map(str, raw.target_names)))


def regression(split: Split) -> Dataset:
    """442 diabetes patients, 10 measured features [N, 10] standardised; the label is the disease a year later.

    Source:
        B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least Angle Regression (2004).
    """
    from sklearn.datasets import load_diabetes

    raw = load_diabetes(scaled=False)
    parts = split.divide(Examples(raw.data, raw.target.astype(np.float32)))
    return Dataset(*standardize(*parts), classes=(), labels="number")


HOUSE_PRICES_URL = "https://ndownloader.figshare.com/files/5976036"  # where scikit-learn has them from


def house_prices(split: Split) -> Dataset:
    """20,640 Californian districts, 8 features [N, 8] standardised; the label is the median price in $100,000.

    Downloaded on first use to scikit-learn's data folder.

    Raises:
        TrainingError: It is not there and cannot be fetched.

    Source:
        R. Pace and R. Barry, Sparse Spatial Autoregressions (1997).
    """
    from sklearn.datasets import fetch_california_housing

    try:
        try:
            raw = fetch_california_housing(download_if_missing=False)
        except OSError:
            if not answers(HOUSE_PRICES_URL):
                raise OSError("nobody answers at ndownloader.figshare.com") from None
            raw = fetch_california_housing()
    except OSError as error:
        raise TrainingError(
            f"cannot download the Californian house prices: {error}; connect to a network, or train "
            f"`regression`, which needs none"
        ) from error
    parts = split.divide(Examples(raw.data, raw.target.astype(np.float32)))
    return Dataset(*standardize(*parts), classes=(), labels="number")


def standardize(train: Examples, valid: Examples, test: Examples) -> tuple[Examples, Examples, Examples]:
    """Each feature less its mean, over its deviation, both of the train part: the others must stay unseen."""
    mean, deviation = train.inputs.mean(0), train.inputs.std(0)

    def scale(part: Examples) -> Examples:
        return part._replace(inputs=((part.inputs - mean) / deviation).astype(np.float32))

    return scale(train), scale(valid), scale(test)
