"""Handwritten digits: a small convolutional network and the softmax loss."""

from jaxce.config import Config

config = Config(data="digits", model="cnn", epochs=60, ema_decay=0.99)
