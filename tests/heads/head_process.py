"""Trains a head in one of several processes; `head_process.py PROCESS OF PORT` prints its losses."""

import json
import sys
from functools import partial

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxce import ClassParallel, linear_softmax_cross_entropy, partial_fc, sampled_softmax

N, D, C = 16, 8, 64
KEY = 3


def main(process, count, port):
    if count > 1:
        jax.config.update("jax_num_cpu_devices", 4 // count)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", count, process)
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(N, D)).astype(np.float32), rng.normal(size=(D, C)).astype(np.float32)
    y = rng.integers(0, C, N)
    parallel = None
    if count > 1:
        # classes across processes, and examples within each: what crosses between them is the harder part
        devices = np.array(jax.devices()).reshape(count, -1).T
        parallel = ClassParallel(jax.sharding.Mesh(devices, ("data", "model")), "model", "data")
        x, w, y = (
            jax.make_array_from_callback(
                a.shape, NamedSharding(parallel.mesh, spec), partial(np.ndarray.__getitem__, a)
            )
            for a, spec in ((x, P("data")), (w, P(None, "model")), (y, P("data")))
        )

    def loss(w, x, y, key):
        options = {"parallel": parallel}
        full = linear_softmax_cross_entropy(x, w, y, label_smoothing=0.1, z_loss=1e-2, chunk_size=3, **options)
        # with every class in the sample it does not matter which process draws what
        return full + partial_fc(x, w, y, key, num_sampled=C, **options)

    @jax.jit
    def step(w, x, y, key):
        value, grad = jax.value_and_grad(loss)(w, x, y, key)
        estimate = sampled_softmax(x, w, y, key, num_sampled=2**16, parallel=parallel)
        return w - 0.5 * grad, value, estimate

    found = []
    for i in range(5):
        w, value, estimate = step(w, x, y, jax.random.key(i))
        found.append([float(value), float(estimate)])
    if process == 0:
        print(json.dumps({"processes": jax.process_count(), "devices": jax.device_count(), "losses": found}))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
