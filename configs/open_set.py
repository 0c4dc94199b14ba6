"""Classes never seen in training: margin losses against softmax, by verification of unseen numbers.

Shows what margins are for. A network learns 70 numbers of two handwritten digits; then, are two pictures of
the same number, for 20 numbers it has never seen? By the cosine of their features. Margin and scale were
chosen on the ten unseen numbers of valid, with one or two seeds.

    python train.py open_set            (ArcFace; and --seed 1, 2, 3, 4)
    python train.py open_set --head cosface --margin 0.35
    python train.py open_set --head large_margin_softmax --margin 2 --scale None --margin-epochs 10
    python train.py open_set --head soft_margin_softmax --margin 2 --scale None
    python train.py open_set --head None --margin None --scale None

Equal-error rate on the 20 unseen numbers, mean and standard deviation of seeds 0 to 4: L-Softmax 3.56 ± .33 %,
ArcFace 4.88 ± .43, AM-Softmax (cosface) 5.08 ± .33, SM-Softmax 8.13 ± 1.23, softmax 8.60 ± 1.25; AUC .9945,
.9905, .9899, .9758, .9732. Each margin beats softmax with every one of the seeds, SM-Softmax by a little. A run
takes 7 s on 2 cores.
"""

from jaxce.lab.config import Config

config = Config(data="open_set", head="arcface", margin=0.5, scale=16.0, learning_rate=2e-3, epochs=15)
