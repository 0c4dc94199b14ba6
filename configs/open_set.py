"""Classes never seen in training: margin losses against softmax, by verification of unseen numbers.

Shows what margins are for. A network learns 70 numbers of two handwritten digits; then, are two pictures of
the same number, for 20 numbers it has never seen? By the cosine of their features. Margin and scale were
chosen on the ten unseen numbers of valid, with one or two seeds.

    python train.py open_set            (ArcFace; and --seed 1, 2, 3, 4)
    python train.py open_set --head cosface --margin 0.35
    python train.py open_set --head large_margin_softmax --margin 2 --scale None --margin-epochs 10
    python train.py open_set --head soft_margin_softmax --margin 2 --scale None
    python train.py open_set --head None --margin None --scale None

Equal-error rate on the 20 unseen numbers, mean and standard deviation of seeds 0 to 4: L-Softmax 3.56 ± .34 %,
ArcFace 4.79 ± .39, AM-Softmax (cosface) 5.09 ± .35, SM-Softmax 8.11 ± 1.19, softmax 8.60 ± 1.30; AUC .9944,
.9909, .9898, .9758, .9731. Each margin beats softmax with every one of the seeds, SM-Softmax by a little. 6 s
of processor time a run, about a minute on 2 cores that four other people were using.
"""

from jaxce.config import Config

config = Config(data="open_set", head="arcface", margin=0.5, scale=16.0, learning_rate=2e-3, epochs=15)
