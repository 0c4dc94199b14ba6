"""Captchas of four digits, by forty sigmoids: each digit at each position is a question of its own.

Shows the sigmoid loss where softmax fits too: that of ten answers for a position one is right, the network
has to learn. Its loss is larger at first, 40 log 2 = 28 against 4 log 10 = 9.

    python train.py captcha_sigmoid

Test: 97.25 % of whole captchas, 99.23 % of digits (seed 0). 264 s of processor time; the 2 cores were so busy
with other work that it took 1,727 s.
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
