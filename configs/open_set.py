"""Classes never seen in training: margin losses against softmax, by verification of unseen digits.

WIP
"""

from jaxce.config import Config

config = Config(data="open_set", head="arcface", margin=0.3, scale=16.0, epochs=30)
