"""A million classes: a network on made-up features, and the softmax over the classes that a step samples."""

from jaxce.config import Config

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
