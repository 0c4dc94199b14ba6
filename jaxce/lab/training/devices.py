"""Which devices a run is spread over, and how; and where programs compiled for them are kept."""

import contextlib
import os
import warnings

import jax
import numpy as np
import platformdirs
from jax.sharding import AxisType, Mesh

from jaxce.lab.errors import ConfigError


def make_cpu_devices(count: int) -> None:
    """Have JAX make that many devices of a CPU, unless it has its devices already or XLA_FLAGS has a number."""
    option = "jax_num_cpu_devices"
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not chosen and count > max(getattr(jax.config, option), 1):
        with contextlib.suppress(RuntimeError):  # a program that has used JAX before has its devices already
            jax.config.update(option, count)


def make_mesh(batch_size: int, class_devices: int = 1) -> Mesh:
    """Axes `batch`, over as many devices as divide a batch evenly, and `classes`; as many of each process.

    Raises:
        ConfigError: A process has fewer than `class_devices`, or not even one of each process divides a batch.
    """
    by_process = [jax.local_devices(process_index=process) for process in range(jax.process_count())]
    fewest = min(map(len, by_process))
    if fewest < class_devices:
        raise ConfigError(
            f"class_devices is {class_devices}, but a process has {fewest} of {jax.devices()[0].device_kind}: "
            f"take {fewest} or fewer"
        )
    counts = range(1, fewest // class_devices + 1)
    count = max((n for n in counts if batch_size % (n * len(by_process)) == 0), default=0)
    if not count:
        raise ConfigError(
            f"a batch of {batch_size} examples cannot be divided evenly over {len(by_process)} processes: "
            f"give a --batch-size that {len(by_process)} divides"
        )
    devices = np.array([local[: count * class_devices] for local in by_process]).reshape(-1, class_devices)
    return Mesh(devices, ("batch", "classes"), axis_types=(AxisType.Auto, AxisType.Auto))


def cache_compilations() -> None:
    """Keep compiled programs in the user's cache folder, so that the next run need not compile them.

    A program that cannot be kept there, or that was cut short as its process was killed, is compiled again
    without a warning.
    """
    warnings.filterwarnings("ignore", r"Error (reading|writing) persistent compilation cache")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        with contextlib.suppress(OSError):  # no such folder to be had: then every run compiles
            folder = platformdirs.user_cache_dir("jaxce", ensure_exists=True)
            jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
