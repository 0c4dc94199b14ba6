"""Fashion-MNIST, 28x28 pictures of clothes in ten classes: the network of `mnist`, a little longer.

    pip install tensorflow              (to prepare the data, once; it is downloaded: 30 MB)
    python train.py fashion_mnist

Its numbers are not given here: where these configs were measured there is no network to fetch the data from.
"""

from jaxce.lab.config import Config

config = Config(
    data="fashion_mnist", model="cnn", widths=(32, 64, 256), label_smoothing=0.1, learning_rate=2e-3, epochs=15
)
