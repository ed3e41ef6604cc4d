"""Files that are whole or not there: written aside, and renamed."""

import contextlib
import errno
import os
import time
import uuid
from pathlib import Path

UNFINISHED = ".part"  # the ending of files that are being written
LEFT_BEHIND = 3600  # seconds: no file takes so long to write


def write_bytes(path: Path, contents: bytes) -> None:
    """Write a file, which appears whole or not at all, and outlives a power cut.

    Raises
    ------
    ValueError
        If it cannot be written: a full disk, for instance. Nothing is left behind.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("xb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        hint = "; free some and start again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise ValueError(f"cannot write {path}: {error.strerror}{hint}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def sweep_up(folder: Path) -> None:
    """Remove what processes that were killed have left half written in `folder`, more than an hour ago."""
    for path in folder.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a renaming durable, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
