"""A million classes: a network on made-up features, and a softmax over the classes that each step samples.

Shows a head whose logits, 2 GiB for a batch, are never there at once. Class c is a direction in space, an
example of it that direction and noise; 4,096 classes have examples, and the test asks of new ones which of all
the million they are. A step sees the classes of its batch and others at random, 8,192 in all (partial_fc);
valid and test see all of them. The second command has no sample: all classes in every step, spread over eight
virtual devices of the CPU.

    python train.py many_classes
    python train.py many_classes --num-sampled None --class-devices 8

Test: the first names every one of 1,024 examples, seed 0, in 1 min 27 s on 2 cores and 1.09 GB, of which the
class vectors and Adam's two moments of them are .77. The second names 99.8 % in 9 min 22 s, with 596 MB a
device. After one epoch they name 84 and 78 % of valid.
"""

from jaxce.lab.config import Config

config = Config(
    data="many_classes",
    model="mlp",
    widths=(128,),
    head="cosface",
    margin=0.2,
    scale=16.0,
    embedding_width=64,
    num_sampled=8192,
    learning_rate=1e-2,
    batch_size=512,
    epochs=4,
)
