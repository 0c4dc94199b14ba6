"""Captchas of four digits, by one softmax over all forty outputs: the wrong tool, to show why.

WIP
"""

from jaxce.config import Config

config = Config(
    data="captcha",
    valid_fraction=0.05,
    test_fraction=0.1,
    model="group_norm_cnn",
    loss="softmax_cross_entropy",
    joint_softmax=True,
    learning_rate=2e-3,
    warmup_epochs=1.0,
    epochs=5,
)
