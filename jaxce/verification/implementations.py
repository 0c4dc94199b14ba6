"""Anybody's implementation of a loss, in JAX or in torch: found by its name, called with NumPy arrays."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxce.verification.engine import SECOND


@dataclass(frozen=True)
class Implementation:
    """A function `loss(inputs, labels)` of one framework's arrays.

    Attributes:
        name: What it was found by.
        function: The function.
        framework: `jax` or `torch`.
    """

    name: str
    function: Callable[[Any, Any], Any]
    framework: str = "jax"

    @property
    def label_dtype(self) -> Any:
        """The dtype in which the framework's documentation has class numbers."""
        return np.int32 if self.framework == "jax" else np.int64

    @property
    def transforms(self) -> Any:
        """The module with the framework's `grad`, `jvp`, `vjp` and `vmap`."""
        return jax if self.framework == "jax" else importlib.import_module("torch.func")

    @cached_property
    def compiled(self) -> "Implementation":
        """The same under jax.jit; in torch, as it is."""
        return Implementation(self.name, jax.jit(self.function)) if self.framework == "jax" else self

    @cached_property
    def versions(self) -> str:
        """The package that the function is of, and the framework that it runs in, with versions."""
        package = getattr(self.function, "__module__", "").partition(".")[0]
        found = dict.fromkeys([*packages_distributions().get(package, ()), self.framework])
        return ", ".join(f"{name} {_version(name)}" for name in found)

    def run(self, program: Callable[..., Any], x: np.ndarray, *rest: Any) -> Any:
        """What a program of the framework's arrays gives for NumPy's, as NumPy's."""
        with warnings.catch_warnings(), jax.enable_x64(x.dtype == np.float64):
            warnings.simplefilter("ignore")  # what is wrong is in the numbers
            if self.framework == "jax":
                return jax.tree.map(np.asarray, program(*map(jnp.asarray, (x, *rest))))
            return jax.tree.map(_of_tensor, program(*map(_as_tensor, (x, *rest))))

    def value(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The losses."""
        return self.run(self.function, x, self.labelled(y))

    def labelled(self, y: np.ndarray) -> np.ndarray:
        """Labels as the framework's documentation has them."""
        return y.astype(self.label_dtype) if np.issubdtype(y.dtype, np.integer) else y

    def reverse(self, x: np.ndarray, y: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """The cotangents pulled back to the inputs."""
        y = self.labelled(y)
        dtype = self.run(self.function, x, y).dtype

        def pulled_back(x: Any, y: Any, cotangents: Any) -> Any:
            return self.transforms.vjp(lambda x: self.function(x, y), x)[1](cotangents)[0]

        return self.run(pulled_back, x, y, cotangents.astype(dtype))

    def forward(self, x: np.ndarray, y: np.ndarray, tangents: np.ndarray) -> np.ndarray:
        """The slopes of the losses along the tangents."""

        def pushed_forward(x: Any, y: Any, tangents: Any) -> Any:
            return self.transforms.jvp(lambda x: self.function(x, y), (x,), (tangents,))[1]

        return self.run(pushed_forward, x, self.labelled(y), tangents.astype(x.dtype))

    def second(
        self, way: str, x: np.ndarray, y: np.ndarray, cotangents: np.ndarray, v: np.ndarray
    ) -> np.ndarray:
        """The Hessian of Σ cotangents·loss along v, by one of SECOND."""

        def along(x: Any, y: Any, cotangents: Any, v: Any) -> Any:
            return SECOND[way](self.transforms, lambda x: (self.function(x, y) * cotangents).sum(), x, v)

        return self.run(along, x, self.labelled(y), cotangents.astype(x.dtype), v.astype(x.dtype))


def find_function(name: str) -> Callable[[Any, Any], Any]:
    """The function of MODULE:FUNCTION; a module is one that can be imported, or the path of a .py file.

    Raises:
        ValueError: There is none, or its module cannot be imported.

    >>> find_function("math:comb")(4, 2)
    6
    """
    where, colon, attributes = name.rpartition(":")
    if not (where and colon and attributes):
        raise ValueError(
            f"{name!r} is no MODULE:FUNCTION: give two names, as optax.losses:l2_loss, or a file and a name, "
            "as my_losses.py:loss"
        )
    try:
        module = _module(where)
    except Exception as error:
        raise ValueError(f"cannot import {where}: {type(error).__name__}: {error}") from error
    try:
        function: Any = reduce(getattr, attributes.split("."), module)
    except AttributeError as error:
        raise ValueError(f"{where} has no {attributes}") from error
    if not callable(function):
        raise ValueError(f"{name} is no function but {type(function).__name__}")
    return function


def _module(where: str) -> ModuleType:
    path = Path(where)
    if path.suffix != ".py":
        sys.path.insert(0, "")  # modules of the folder that one works in
        try:
            return importlib.import_module(where)
        finally:
            sys.path.remove("")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{where} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickle look for it there
    spec.loader.exec_module(module)
    return module


def implementation_of(name: str, x: np.ndarray, y: np.ndarray, shape: tuple[int, ...]) -> Implementation:
    """The implementation of this name, of the framework whose arrays it takes.

    Args:
        name: MODULE:FUNCTION.
        x: Inputs that every implementation takes.
        y: Their labels.
        shape: Of the losses that it should give.

    Raises:
        ValueError: There is no such function, it raises for arrays of JAX and, where it is installed, of torch,
            or its losses have another shape.
    """
    function = find_function(name)
    problem: Exception | None = None
    for framework in ("jax", "torch"):
        if framework == "torch" and not find_spec("torch"):
            continue
        found = Implementation(name, function, framework)
        try:
            value = found.value(x, y)
        except Exception as error:
            problem = problem or error
            continue
        if value.shape != shape:
            raise ValueError(
                f"{name} gives losses of shape {value.shape} for inputs of shape {x.shape} and labels of shape "
                f"{y.shape}, where {shape} fits, neither summed nor averaged; if that takes an option, write a "
                "function that sets it, def loss(logits, labels), and give FILE.py:loss"
            )
        return found
    first_line = (str(problem).splitlines() or [""])[0]
    raise ValueError(
        f"{name} raises for inputs of shape {x.shape} and {y.dtype} labels of shape {y.shape}; is it another "
        f"kind of loss, for --like? {type(problem).__name__}: {first_line}"
    ) from problem


def _as_tensor(array: np.ndarray) -> Any:
    torch: Any = importlib.import_module("torch")
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(array))


def _of_tensor(tensor: Any) -> np.ndarray:
    torch: Any = importlib.import_module("torch")
    if tensor.dtype == torch.bfloat16:
        return tensor.detach().float().numpy().astype(jnp.bfloat16)
    return tensor.detach().numpy()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
