"""Every loss at every setting of its options, and random arguments of the kind that it takes."""

import functools

import jax
import numpy as np
import pytest

from jaxce import LOSSES

# for comparisons of formulas and layouts; digits and extremes are tested as users compile
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

CLASSES, FEATURES = 4, 3  # the cases of the records have four classes


def settings(names=LOSSES):
    """Parameters (name, options): the default options, and each case of the record."""
    return [
        pytest.param(name, options, id=f"{name}-{options}" if options else name)
        for name in names
        for options in ({}, *LOSSES[name].cases)
    ]


def every_option(loss):
    """The cases of a loss together, so that each option does something."""
    return as_arrays({option: value for case in loss.cases for option, value in case.items()})


def as_arrays(options):
    """Options with one number per class as arrays; Python numbers stay."""
    return {name: np.asarray(v) if isinstance(v, tuple) else v for name, v in options.items()}


def is_by_component(loss):
    """Whether each component is an example, and not each row."""
    return loss.labels in ("binary", "real")


def arguments(loss, rng, batch=(2, 3), dtype=np.float32, num_classes=CLASSES):
    """Inputs; a kernel where they are features; labels where the loss takes any."""
    shape = (*batch, num_classes)
    probs, targets = (rng.dirichlet(np.ones(num_classes), batch).astype(dtype) for _ in range(2))
    inputs = {
        "probs": probs,
        "log_probs": np.log(probs),
        "cosines": rng.uniform(-0.95, 0.95, shape).astype(dtype),
        "features": rng.normal(size=(*batch, FEATURES)).astype(dtype),
    }
    labels = {
        "integer": rng.integers(0, num_classes, batch),
        "distribution": targets,
        "log_distribution": np.log(targets),
        "binary": rng.uniform(0.05, 0.95, shape).astype(dtype),
        "real": rng.normal(size=shape).astype(dtype),
    }
    found = [inputs.get(loss.inputs, rng.normal(scale=2, size=shape).astype(dtype))]
    if loss.inputs == "features":
        found.append(rng.normal(size=(FEATURES, num_classes)).astype(dtype))
    if loss.labels != "none":
        found.append(labels[loss.labels])
    return found


def examples(loss, args):
    """The same arguments with one example per entry of the first axis: a row, or a component."""

    def flat(array):
        return array.reshape(-1, *([] if is_by_component(loss) else array.shape[-1:]))

    inputs, *rest = args
    kernel = rest[:1] if loss.inputs == "features" else []
    labels = [y.reshape(-1) if loss.labels == "integer" else flat(y) for y in rest[len(kernel) :]]
    return [flat(inputs), *kernel, *labels]


def over_examples(loss, function):
    """A function of one example as one of many along the first axis, with the same kernel for all."""
    axes = (0, None, 0) if loss.inputs == "features" else (0, 0)
    return lambda *args: jax.vmap(function, axes[: len(args)])(*args)
