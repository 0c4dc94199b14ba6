"""Handwritten digits: a small convolutional network and the softmax loss.

Shows the main job end to end: 1,797 real images of 8x8 pixels, ten classes that exclude each other, so
softmax. Settings were chosen on the valid part; the test part has 360 images, one of them 0.28 points.

    python train.py                     (and --seed 1, 2, 3, 4)

Test accuracy for seeds 0 to 4: 99.72, 98.89, 99.72, 99.44, 99.72 %, median 99.72 %. On 2 cores the whole
process takes 10 s, and 6 s from the second time on, when the compiled programs are in the cache.
"""

from jaxce.lab.config import Config

config = Config(data="digits", model="cnn", label_smoothing=0.005, learning_rate=3e-3, epochs=100)
