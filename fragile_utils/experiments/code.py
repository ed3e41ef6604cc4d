"""The reader's own functions in a sweep, ``package.module:function``: found when it runs, and only when allowed.

Reading a configuration or a folder of results never comes here. A function is known by the SHA-256 of the file that it
is in, which is looked up without importing anything; what that file imports in its turn is not covered.
"""

import functools
import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def is_function(name: str) -> bool:
    """Return whether a name has the form of a function of the reader's own."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


@dataclass(frozen=True)
class Code:
    """The functions that a sweep may import and call. By default there are none.

    Attributes
    ----------
    files : tuple of pairs
        Of a name and the SHA-256 of the file that the function is in.
    """

    files: tuple[tuple[str, str], ...] = ()

    @classmethod
    def allow(cls, names: Iterable[str]) -> "Code":
        """Return the permission to call these functions as their files are now. Nothing is imported.

        Raises
        ------
        ValueError
            If there is no such file.
        """
        return cls(tuple((name, sha256(name)) for name in sorted(set(names))))

    def find(self, name: str, field: str) -> Callable:
        """Import a function and return it; `field` is what an error calls it.

        Raises
        ------
        ValueError
            If it is not allowed, its file is another one, or it is no function.
        """
        allowed = dict(self.files)
        if name not in allowed:
            raise ValueError(f"{field}: {REFUSED.format(name)}")
        if sha256(name) != allowed[name]:
            raise ValueError(f"{field}: the file of {name} is not the one that the sweep was begun with")
        module, _, function = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), function)
        except (Exception, SystemExit) as error:  # whatever its file does when it is imported
            raise ValueError(f"{field}: cannot import {name}: {type(error).__name__}: {error}") from error
        if not callable(found):
            raise ValueError(f"{field}: expected {name!r} to be a function, got {type(found).__name__}")
        return _guarded(found)


REFUSED = "{} is code of your own, which is imported only with allow_code=True (on the command line --allow-code)"


def sha256(name: str) -> str:
    """Return the SHA-256 of the file that a function is in, without importing it."""
    module = name.partition(":")[0]
    path = _file(module)
    if path is None:
        raise ValueError(f"cannot find a file of the module {module}, for {name}")
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {path}, for {name}: {error.strerror}") from error


def _file(module: str) -> Path | None:
    """Return the file of a module, or None. `importlib.util.find_spec` would import the packages that it is in."""
    if module in sys.modules:
        found = getattr(sys.modules[module], "__file__", None)
        return None if found is None else Path(found)
    importlib.invalidate_caches()
    places, spec, parts = None, None, module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(name, places) for finder in finders)), None)
        if spec is None:
            return None
        places = spec.submodule_search_locations
        if places is None and depth < len(parts):
            return None
    return Path(spec.origin) if spec.has_location and spec.origin else None


def _guarded(function: Callable) -> Callable:
    """Return a function whose mistakes are errors in a line, and which cannot end the program."""

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except ValueError:
            raise
        except (Exception, SystemExit) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    return called
