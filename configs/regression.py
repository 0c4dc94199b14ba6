"""Diabetes, how it went on within a year: ridge regression with squared error.

WIP
"""

from jaxce.config import Config

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
