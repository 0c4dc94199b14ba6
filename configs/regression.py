"""Diabetes, how it went on within a year: ridge regression with squared error.

Shows the loss for real numbers, for which there is no cross-entropy: full batches, and an L2 penalty of
1/N times the squared norm of the weights, intercept free, which is scikit-learn's Ridge(1) on the same
N = 310 training examples; `--weight-decay 0` is its LinearRegression. A test compares coefficients and R².

    python train.py regression

Test R² 0.3347, RMSE 58.15, those of Ridge. 4 s on 2 cores. Nothing in it is random but the
split. `house_prices` is the same on Californian house prices, where a network lets it download them.
"""

from jaxce.lab.config import Config

config = Config(
    data="regression",
    model="linear",
    loss="squared_error",
    optimizer="momentum",
    momentum=0.9,
    learning_rate=0.2,
    schedule="constant",
    weight_decay=2 / 310,
    batch_size=None,
    epochs=500,
)
