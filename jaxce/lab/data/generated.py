"""Examples that a program draws: in parallel, with progress, once; then they lie in the user's cache folder."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs

Arrays = dict[str, np.ndarray]
# More than this is worth the second that worker processes take to start.
EXAMPLES_A_TASK = 500


def generate(
    name: str,
    draw: Callable[[range], Arrays],
    count: int,
    settings: Mapping[str, object],
    cache: Path | None = None,
) -> Arrays:
    """`count` examples by `draw`, or the same from the cache folder when they were drawn before.

    Args:
        name: What they are, in one word.
        draw: From a range of example numbers to arrays with a row for each. A row must depend on its number
            alone, so that neither the tasks nor the processes they run in matter; a function that pickle knows.
        count: Examples wanted.
        settings: Everything that the rows depend on, as JSON can write it: another value is another file.
        cache: Where the files lie; None for the user's cache folder. Where none can be made, every run draws.
    """
    described = json.dumps({**settings, "count": count}, sort_keys=True)
    cache = cache or platformdirs.user_cache_path("jaxce") / "data"
    file = cache / f"{name}-{hashlib.sha256(described.encode()).hexdigest()[:16]}.npz"
    # A file that cannot be read, because it is not there or was damaged, is drawn and written again.
    with contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile), file.open("rb") as stream:
        return dict(np.load(stream))
    arrays = draw_all(name, draw, count)
    with contextlib.suppress(OSError):
        write(file, arrays)
    return arrays


def draw_all(name: str, draw: Callable[[range], Arrays], count: int) -> Arrays:
    """Rows 0 to `count` − 1, in tasks that run side by side where there are several."""
    tasks = [range(i, min(i + EXAMPLES_A_TASK, count)) for i in range(0, count, EXAMPLES_A_TASK)]
    if len(tasks) == 1:
        return draw(tasks[0])
    from rich.progress import track

    # Spawned, not forked: a fork of a process in which JAX has threads can hang.
    workers = min(os.cpu_count() or 1, len(tasks))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = list(track(pool.map(draw, tasks), f"drawing {count:,} {name}", len(tasks)))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def write(file: Path, arrays: Arrays) -> None:
    """Write all of the file or nothing: under another name first, so that a kill leaves no half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its stub takes a name for an option
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
