"""The chunked passes on a mesh: examples spread over some of its axes, classes over another."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from jaxce.heads import passes
from jaxce.heads.passes import OfRows
from jaxce.losses.numerics import spec_of


class ClassParallel(NamedTuple):
    """Which axes of a mesh the classes and the examples of a head are spread over.

    Each device forms the logits of its own examples and its own classes, a chunk at a time; of a row, devices
    exchange sums, maxima and arg-maxima alone. The examples are cut up by jax.shard_map, the
    classes by XLA's partitioner, which knows how to cut any reduction: so a loss needs no second definition
    for it. tests/heads/test_mesh.py asserts, on the compiled program of every loss, that no device holds a full
    row; a loss of your own that does something else with a row than reduce it (sort it, say) may gather it.

    Attributes:
        mesh: The devices; its axes of type Auto.
        classes: The axis over which the kernel's columns are spread.
        batch: The axis, or axes, over which the examples are; None: every device has them all.

    >>> import jax.numpy as jnp
    >>> from jaxce import linear_softmax_cross_entropy
    >>> mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
    >>> parallel = ClassParallel(mesh, classes="model", batch="data")
    >>> features, kernel, labels = jnp.ones((2, 1)), jnp.zeros((1, 4)), jnp.array([0, 3])
    >>> print(linear_softmax_cross_entropy(features, kernel, labels, parallel=parallel))
    1.3862944
    """

    mesh: Mesh
    classes: str
    batch: str | tuple[str, ...] | None = None

    @property
    def batch_axes(self) -> tuple[str, ...]:
        """The names in `batch`, as many as they are, of axes that have more than one device."""
        return tuple(axis for axis in self._named if self.mesh.shape[axis] > 1)

    @property
    def class_axes(self) -> tuple[str, ...]:
        """The name in `classes`, if that axis has more than one device."""
        return (self.classes,) if self.mesh.shape[self.classes] > 1 else ()

    @property
    def _named(self) -> tuple[str, ...]:
        if self.batch is None:
            return ()
        return (self.batch,) if isinstance(self.batch, str) else tuple(self.batch)

    def share(self, num_rows: int, num_classes: int) -> tuple[int, int]:
        """How many examples and classes each device has.

        Raises:
            ValueError: An axis that the mesh does not have, or is not Auto, or numbers that it does not divide.
        """
        sizes = dict(self.mesh.shape)
        if any(kind != AxisType.Auto for kind in self.mesh.axis_types):
            raise ValueError(
                f"the mesh has axes of types {self.mesh.axis_types}: make it with axis_types="
                "(jax.sharding.AxisType.Auto, ...), for XLA's partitioner spreads the classes"
            )
        for axis in (*self._named, self.classes):
            if axis not in sizes:
                raise ValueError(f"parallel names the axis {axis!r}, but the mesh has {tuple(sizes)}")
        if self.classes in self._named:
            raise ValueError(
                f"parallel has {self.classes!r} for classes and batch: give each an axis of its own"
            )
        over_batch = math.prod(sizes[axis] for axis in self._named)
        if num_rows % over_batch:
            raise ValueError(
                f"there are {num_rows} examples for {over_batch} devices along {self.batch!r}: add some up to "
                "a multiple, and leave them out (where=, or weights=)"
            )
        if num_classes % sizes[self.classes]:
            raise ValueError(
                f"there are {num_classes} classes for {sizes[self.classes]} devices along {self.classes!r}: "
                "add columns to the kernel up to a multiple, and mask them (where=, or −inf inside your loss)"
            )
        return num_rows // over_batch, num_classes // sizes[self.classes]

    def place(self, tree: Any, num_classes: int, *leading: Any) -> Any:
        """`tree` with the classes spread out of each array whose last axis has them; `leading` is its first."""

        def place(leaf: Array) -> Array:
            if leaf.ndim <= len(leading) or leaf.shape[-1] != num_classes:
                return leaf
            spec = (*leading, *(None,) * (leaf.ndim - 1 - len(leading)), self.classes)
            return jax.lax.with_sharding_constraint(leaf, NamedSharding(self.mesh, P(*spec)))

        return jax.tree.map(place, tree)


def local_shape(parallel: ClassParallel | None, features: Array, num_classes: int) -> tuple[int, int]:
    """The logits that one device forms, if it formed them at once."""
    if parallel is not None:
        return parallel.share(len(features), num_classes)
    sizes = jax.typeof(features).sharding.mesh.shape
    return len(features) // math.prod(sizes[axis] for axis in _explicit_axes(features)), num_classes


def weighted_sum(parallel: ClassParallel | None, loss: OfRows, chunk: int, *arrays: Any) -> Array:
    """`passes.weighted_sum` of all devices' examples."""
    if parallel is None:
        return _of_own_rows((passes.weighted_sum, loss, chunk, True), True, *arrays)
    return _spread(parallel, (passes.weighted_sum, loss, chunk, False), True, *arrays)


def map_rows(parallel: ClassParallel | None, function: OfRows, chunk: int, *arrays: Any) -> Any:
    """`passes.map_rows` of all devices' examples."""
    if parallel is None:
        return _of_own_rows((passes.map_rows, function, chunk), False, *arrays)
    return _spread(parallel, (passes.map_rows, function, chunk), False, *arrays)


def _explicit_axes(features: Array) -> tuple[str, ...]:
    """The axes that rows are spread over, where a mesh has explicit ones."""
    over = spec_of(features)[0]
    return () if over is None else (over,) if isinstance(over, str) else tuple(over)


def _of_own_rows(call: tuple[Any, ...], total: bool, features: Array, *rest: Any) -> Any:
    """A function of passes.py, where rows are spread over explicit axes on each device's own rows."""
    function, *static = call
    if not _explicit_axes(features):
        return function(*static, features, *rest)
    return _over_explicit(call, total, features, *rest)


@partial(jax.jit, static_argnums=(0, 1))
def _over_explicit(call: tuple[Any, ...], total: bool, features: Array, *rest: Any) -> Any:
    function, *static = call
    axes = _explicit_axes(features)

    def of_device(features: Array, *rest: Any) -> Any:
        found = function(*static, features, *rest)
        return jax.lax.psum(found, axes) if total else found

    kernel, bias, *by_row, shared = rest
    by_row = jax.tree.map(lambda leaf: jax.sharding.reshard(leaf, P(axes, *spec_of(leaf)[1:])), by_row)
    spread = jax.shard_map(
        of_device,
        mesh=jax.typeof(features).sharding.mesh,
        in_specs=(P(axes), P(), P(), *(P(axes) for _ in by_row), P()),
        out_specs=P() if total else P(axes),
        axis_names=set(axes),
    )
    return spread(features, kernel, bias, *by_row, shared)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _spread(
    parallel: ClassParallel,
    call: tuple[Any, ...],
    total: bool,
    features: Array,
    kernel: Array,
    bias: Array | None,
    *rest: Any,
) -> Any:
    """A function of passes.py, `call`, on each device's examples; `total`: added up over the devices."""
    (function, *static), (*by_row, shared) = call, rest
    batch, num_classes = P(parallel.batch_axes), kernel.shape[1]
    kernel, bias, shared = parallel.place((kernel, bias, shared), num_classes)
    by_row = parallel.place(by_row, num_classes, parallel.batch_axes)

    def of_device(*arrays: Any) -> Any:
        found = function(*static, *arrays)
        return jax.lax.psum(found, parallel.batch_axes) if total and parallel.batch_axes else found

    in_specs = (batch, P(), P(), *(batch for _ in by_row), P())
    spread = manual(parallel, parallel.batch_axes, of_device, in_specs, P() if total else batch)
    return spread(features, kernel, bias, *by_row, shared)


def manual(
    parallel: ClassParallel | None, axes: tuple[str, ...], function: Any, in_specs: Any, out_specs: Any
) -> Any:
    """jax.shard_map over these axes alone, of more than one device each, or `function` itself without any."""
    if parallel is None or not axes:
        return function
    return jax.shard_map(
        function,
        mesh=parallel.mesh,
        in_specs=in_specs,
        out_specs=out_specs,
        axis_names=set(axes),
        check_vma=False,
    )
