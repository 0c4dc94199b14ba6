"""Several digits on a canvas: which are there? Sigmoid, focal and asymmetric loss on sets of labels.

WIP
"""

from jaxce.config import Config

config = Config(
    data="multilabel",
    model="group_norm_cnn",
    widths=(16, 32, 64, 128),
    loss="sigmoid_binary_cross_entropy",
    learning_rate=3e-3,
    warmup_epochs=1.0,
    epochs=15,
)
