"""Captchas of four digits, by forty sigmoids: each digit at each position is a question of its own.

WIP
"""

from jaxce.config import Config

config = Config(
    data="captcha",
    valid_fraction=0.05,
    test_fraction=0.1,
    model="group_norm_cnn",
    loss="sigmoid_binary_cross_entropy",
    learning_rate=2e-3,
    warmup_epochs=1.0,
    epochs=5,
)
