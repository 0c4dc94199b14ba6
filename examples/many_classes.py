"""A million classes on one CPU: the softmax over the classes that a step samples, and the rest left alone.

Features are made up: class c has a random direction, an example of it is that direction and noise. What is to
be learned is the kernel, 64 numbers for each of a million classes: the direction of each that has examples.
The test asks of new examples which of all the million classes they are.

    python examples/many_classes.py                 partial_fc's sample, one device
    python examples/many_classes.py --devices 8     every class in every step, spread over 8 virtual devices

It prints what a step takes in time and compiled memory, and the accuracy before and after. On 2 cores with five
times as much other work to do, a sampled step took 0.4 s and 52 MiB, and after 60 of them every one of 128 new
examples was named; a step with all classes took about 19 s and 184 MiB a device, and 16 of them named 83 %.
"""

import argparse
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxce
from jaxce import ClassParallel, linear_loss, linear_token_statistics, sample_classes

FEATURES, BATCH, SEEN, SCALE, RATE = 64, 512, 4096, 16.0, 0.5


def cosface(cosines: Array, labels: Array) -> Array:
    """Softmax cross-entropy with a margin."""
    logits = jaxce.cosface(cosines, labels, margin=0.2, scale=SCALE)
    return jaxce.softmax_cross_entropy_with_integer_labels(logits, labels)


def sampled_step(num_sampled: int, kernel: Array, key: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """One step of SGD on the columns of the sampled classes."""
    found = sample_classes(key, y, kernel.shape[1], num_sampled)

    def loss(columns: Array) -> Array:
        return linear_loss(cosface, x, jaxce.unit_vectors(columns, axis=0), found.labels)

    value, grad = jax.value_and_grad(loss)(kernel[:, found.classes])
    return kernel.at[:, found.classes].add(-RATE * BATCH * grad), value


def full_step(parallel: ClassParallel, kernel: Array, key: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """One step of SGD on all columns, each device its own."""

    def loss(kernel: Array) -> Array:
        directions = jaxce.unit_vectors(kernel, axis=0)
        # fewer examples at a time than the rule for true devices has, as eight virtual ones share one memory
        return linear_loss(cosface, x, directions, y, parallel=parallel, chunk_size=64)

    value, grad = jax.value_and_grad(loss)(kernel)
    return kernel - RATE * BATCH * grad, value


def main() -> None:
    """Train, and say how well and at what cost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, default=10**6)
    parser.add_argument("--sample", type=int, default=8192, help="classes in a step, on one device")
    parser.add_argument(
        "--devices", type=int, default=1, help="virtual ones; more than 1: all classes in a step"
    )
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.devices)

    rng = np.random.default_rng(0)
    num_seen = min(SEEN, options.classes // 2)
    seen = rng.choice(options.classes, num_seen, replace=False).astype(np.int32)
    directions = rng.standard_normal((num_seen, FEATURES), np.float32)

    def examples(count: int) -> tuple[Array, Array]:
        which = rng.integers(0, num_seen, count)
        x = directions[which] + 0.5 * rng.standard_normal((count, FEATURES), np.float32)
        return jaxce.unit_vectors(x), jnp.asarray(seen[which])

    parallel = None
    step = partial(sampled_step, options.sample)
    # not zero, where no class has a direction; small, so that the first step turns it
    kernel = 0.1 * jax.random.normal(jax.random.key(0), (FEATURES, options.classes))
    if options.devices > 1:
        mesh = jax.make_mesh((1, options.devices), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
        parallel = ClassParallel(mesh, classes="model", batch="data")
        step = partial(full_step, parallel)
        kernel = jax.device_put(kernel, NamedSharding(mesh, P(None, "model")))

    test = examples(128)

    @jax.jit
    def accuracy(kernel: Array) -> Array:
        found = linear_token_statistics(test[0], jaxce.unit_vectors(kernel, axis=0), test[1], parallel=parallel)
        return (found.argmax == test[1]).mean()

    keys = jax.random.split(jax.random.key(1), options.steps)
    program = jax.jit(step, donate_argnums=0).lower(kernel, keys[0], *examples(BATCH)).compile()
    memory = program.memory_analysis()
    given, temporary = memory.argument_size_in_bytes >> 20, memory.temp_size_in_bytes >> 20
    print(
        f"{options.classes:,} classes on {options.devices} device(s), each with {given} MiB of arguments and "
        f"{temporary} MiB of temporary memory; a batch's logits are {4 * BATCH * options.classes >> 20} MiB"
    )
    print(f"accuracy before: {accuracy(kernel):.1%}")
    seconds = []
    for i, key in enumerate(keys):
        batch = examples(BATCH)
        start = time.perf_counter()
        kernel, loss = program(kernel, key, *batch)
        loss.block_until_ready()
        seconds.append(time.perf_counter() - start)
        if i % max(1, options.steps // 5) == 0:
            print(f"step {i}: loss {loss:.3f}, {seconds[-1]:.2f} s", flush=True)
    print(f"loss {loss:.3f}; accuracy after {options.steps} steps: {accuracy(kernel):.1%}")
    print(f"a step takes {np.median(seconds):.2f} s (median)")


if __name__ == "__main__":
    main()
