"""Files replaced in one piece: whoever reads one, even after a kill, sees the old content or the new."""

import os
from collections.abc import Callable
from pathlib import Path


def replace_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, see it on the disk, and put it in place; returns `path`."""
    partial = path.with_name(path.name + ".part")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Replace a file, UTF-8 where it is text; returns `path`."""
    data = content.encode() if isinstance(content, str) else content
    return replace_atomically(path, lambda partial: partial.write_bytes(data))
