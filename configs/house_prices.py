"""House prices of Californian districts: ridge regression with squared error, the sibling of `regression`.

Full batches, and the penalty of scikit-learn's Ridge(1) on N = 14,448 training examples.

    python train.py house_prices        (downloads 0.4 MB)

Its numbers are not given here: where these configs were measured there is no network to fetch the data from.
A test runs these settings on features as correlated as these and compares the coefficients with Ridge's.
"""

from jaxce.lab.config import Config

config = Config(
    data="house_prices",
    model="linear",
    loss="squared_error",
    optimizer="momentum",
    momentum=0.95,
    learning_rate=0.2,
    schedule="constant",
    weight_decay=2 / 14_448,
    batch_size=None,
    epochs=1000,
)
