"""Handwritten digits: a small convolutional network and the softmax loss.

Shows the main job end to end: 1,797 real images of 8x8 pixels, ten classes that exclude each other, so
softmax. Smoothing the labels by a tenth was worth a point of accuracy on the valid parts of ten splits;
shifting or distorting the images was worth no more than that.

    python train.py
"""

from jaxce.config import Config

config = Config(data="digits", model="cnn", label_smoothing=0.1, learning_rate=3e-3, epochs=100)
