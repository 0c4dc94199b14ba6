"""MNIST, 28x28 handwritten digits: the network of the benchmark's second step, and the softmax loss.

    pip install tensorflow              (to prepare the data, once; it is downloaded: 11 MB)
    python train.py mnist

Its numbers are not given here: where these configs were measured there is no network to fetch the data from.
"""

from jaxce.lab.config import Config

config = Config(
    data="mnist", model="cnn", widths=(32, 64, 256), label_smoothing=0.1, learning_rate=2e-3, epochs=10
)
