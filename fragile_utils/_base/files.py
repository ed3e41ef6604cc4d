"""Files that are whole or not there: written aside, and renamed. Whatever the package writes goes through here."""

import contextlib
import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".part"  # the ending of files and folders that are being written
LEFT_BEHIND = 3600  # seconds: no file takes so long to write


def write_bytes(path: Path, contents: bytes) -> None:
    """Write a file, which appears whole or not at all, and outlives a power cut.

    Raises
    ------
    ValueError
        If it cannot be written: a full disk, for instance. Nothing is left behind.
    """
    with whole_file(path) as file:
        file.write(contents)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Within it, a file is written piece by piece; it appears at `path` when all went well, as for `write_bytes`."""
    with _aside(path) as unfinished:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Within it, a new folder is filled; it appears at `path` when all went well. Errors as for `write_bytes`."""
    with _aside(path) as unfinished:
        unfinished.mkdir()
        yield unfinished
        unfinished.replace(path)


def make_folder(path: Path) -> None:
    """Make a folder, and those it is in, where there are none; ValueError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {path}: {error.strerror or error}") from error


def is_unfinished(path: Path) -> bool:
    """Return whether this is what a process that was killed has left half written."""
    return path.name.startswith(".") and path.suffix == UNFINISHED


def sweep_up(folder: Path) -> None:
    """Remove what processes that were killed have left half written in `folder`, more than an hour ago."""
    for path in folder.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                _remove(path)


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Within it, something is made under another name in the same folder; afterwards nothing of that name is left."""
    unfinished = path.with_name(f".{uuid.uuid4().hex}{UNFINISHED}")  # short: the name of `path` may be a long one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
    except OSError as error:
        hint = "; free some and start again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise ValueError(f"cannot write {path}: {error.strerror or error}{hint}") from error
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a renaming durable, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
