"""Captchas of four digits: a convolutional network and four softmaxes, one for each position.

WIP

    python train.py captcha
"""

from jaxce.config import Config

config = Config(
    data="captcha",
    valid_fraction=0.05,
    test_fraction=0.1,
    model="group_norm_cnn",
    widths=(16, 48, 96, 256),
    learning_rate=2e-3,
    warmup_epochs=1.0,
    epochs=6,
)
