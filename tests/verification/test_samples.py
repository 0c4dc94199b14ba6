"""The points at which losses are tried."""

import numpy as np

import jaxce
from jaxce.verification import samples


def test_points_cover_every_kind_of_input_and_label(rng):
    for loss in jaxce.LOSSES.values():
        rows = np.concatenate([samples.tame(loss.inputs, rng, 4, 4), samples.hostile(loss.inputs, rng, 2, 4)])
        x, y = samples.with_labels(loss, rows, rng, np.float32)
        assert len(x) == len(y)
        assert np.isfinite(x).all()
