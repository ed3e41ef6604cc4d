"""The reader's own functions, ``package.module:function`` or ``file.py:function``: found when allowed, and only then.

Reading a configuration or a folder of results never comes here. A function is known by the SHA-256 of the file that it
is in, which is looked up without importing anything; what that file imports in its turn is not covered.
"""

import functools
import hashlib
import importlib
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fragile_utils._base import schema


def is_function(name: str) -> bool:
    """Return whether a name has the form of a function of the reader's own."""
    return re.fullmatch(r"([A-Za-z_][\w.]*|[^\0:]*\.py):[A-Za-z_]\w*", name) is not None


def is_code(name: str) -> bool:
    """Return whether a name stands for code of the reader's own: a function, or a program of torch.export."""
    return is_function(name) or (name.endswith(PROGRAM) and "\0" not in name)


PROGRAM = ".pt2"  # PyTorch evaluates expressions that such a file holds


@dataclass(frozen=True)
class Code:
    """The functions that may be imported and called, and the programs that may be opened. By default there are none.

    Attributes
    ----------
    files : tuple of pairs
        Of a name (`is_code`) and the SHA-256 of the file that it is in.
    pickles : bool
        Whether files may be unpickled that hold more than numbers: whatever they name is then called.
    """

    files: tuple[tuple[str, str], ...] = ()
    pickles: bool = False

    @classmethod
    def allow(cls, names: Iterable[str], pickles: bool = False) -> "Code":
        """Return the permission to use these names (`is_code`) as their files are now. Nothing is imported.

        Raises
        ------
        ValueError
            If there is no such file.
        """
        return cls(tuple((name, sha256(name)) for name in sorted(set(names))), pickles)

    def check(self, name: str, field: str) -> None:
        """Refuse what is not allowed, and what has another file than when it was allowed."""
        allowed = dict(self.files)
        if name not in allowed:
            raise ValueError(f"{field}: {REFUSED.format(name)}")
        if sha256(name) != allowed[name]:
            raise ValueError(f"{field}: the file of {name} is not the one that was allowed")

    def find(self, name: str, field: str) -> Callable:
        """Import a function and return it; `field` is what an error calls it.

        Raises
        ------
        ValueError
            If it is not allowed, its file is another one, or it is no function.
        """
        self.check(name, field)
        module, _, function = name.rpartition(":")
        try:
            made = _imported(module, sha256(name))
            found = getattr(made, function, None)
        except (Exception, SystemExit) as error:  # whatever its file does when it is imported
            raise ValueError(f"{field}: cannot import {name}: {type(error).__name__}: {error}") from error
        if found is None:
            own = [key for key, value in vars(made).items() if getattr(value, "__module__", "") == made.__name__]
            raise ValueError(f"{field}: cannot find {name}; in {module} are {schema.listed(own) or 'no functions'}")
        if not callable(found):
            raise ValueError(f"{field}: expected {name!r} to be a function, got {type(found).__name__}")
        return _guarded(found)


def _imported(module: str, sha256: str) -> types.ModuleType:
    """Import a module by its name, or the file of a path; the file finds what lies beside it, as a script does."""
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = _file(module)
    name = f"_own_{hashlib.sha256(f'{path.resolve()} {sha256}'.encode()).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    if (beside := str(path.resolve().parent)) not in sys.path:
        sys.path.append(beside)
    sys.modules[name] = made  # dataclasses look their module up while it is made
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    return made


REFUSED = "{} is code of your own, which is imported only with allow_code=True (on the command line --allow-code)"
FILES = (".py", PROGRAM)  # the endings of names that are paths


def sha256(name: str) -> str:
    """Return the SHA-256 of the file that a name stands for, without importing it."""
    module = name.rpartition(":")[0] if is_function(name) else name
    path = _file(module)
    if path is None:
        what = f"no such file: {module}" if module.endswith(FILES) else f"cannot find a file of the module {module}"
        raise ValueError(f"{what}, for {name}")
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {path}, for {name}: {error.strerror}") from error


def _file(module: str) -> Path | None:
    """Return the file of a module, or None. `importlib.util.find_spec` would import the packages that it is in."""
    if module.endswith(FILES):
        path = Path(module).expanduser()
        return path if path.is_file() else None
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
