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
    learning_rate=2e-3,
    warmup_epochs=1.0,
    epochs=5,
)
