"""Classes never seen in training: margin losses against softmax, by verification of unseen digits.

WIP
"""

from jaxce.config import Config

config = Config(data="open_set", head="arcface", margin=0.5, scale=16.0, learning_rate=2e-3, epochs=15)
