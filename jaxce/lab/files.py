"""Files that are whole at any moment, whenever the process is killed or the disk is full."""

import os
from pathlib import Path

PART = ".part"


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file: all of it, or what stood there before.

    Raises:
        OSError: It could not be written, and nothing is left of the attempt.
    """
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
