"""CIFAR-10, 32x32 colour photographs of ten kinds of things: a network with group norm, and the softmax loss.

    pip install tensorflow              (to prepare the data, once; it is downloaded: 162 MB)
    python train.py cifar10

Its numbers are not given here: where these configs were measured there is no network to fetch the data from.
"""

from jaxce.lab.config import Config

config = Config(
    data="cifar10",
    model="group_norm_cnn",
    widths=(64, 128, 256, 256),
    label_smoothing=0.1,
    optimizer="adamw",
    weight_decay=0.05,
    learning_rate=2e-3,
    warmup_epochs=1.0,
    epochs=20,
)
