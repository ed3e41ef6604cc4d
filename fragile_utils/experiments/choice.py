"""A name with options, as a sweep's configuration gives it, and what it stands for."""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A name with options: ``Choice.of({"name": "integrated-gradients", "steps": 100})``, or without: ``"gradient"``.

    Attributes
    ----------
    name : str
    options : tuple of pairs
        Of a name and a value; lists are held as tuples, and what has a name of its own as another `Choice`.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, given: "Choice | str | Mapping[str, Any]", field: str) -> "Choice":
        """Return the choice that JSON, or a caller, describes; `field` is what an error calls it."""
        if isinstance(given, Choice):
            return given
        if isinstance(given, str):
            return cls(given)
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise ValueError(f'{field}: expected a name, or {{"name": ..., options}}, got {given!r}')
        return cls(given["name"], tuple((key, _frozen(value)) for key, value in given.items() if key != "name"))

    def to_json(self) -> "str | dict[str, Any]":
        """Return what `of` makes the same choice from."""
        return (
            {"name": self.name, **{key: _thawed(value) for key, value in self.options}} if self.options else self.name
        )

    def build(self, registry: Mapping[str, Callable], field: str, **defaults: Any) -> Any:
        """Return what the name stands for, made with the options."""
        options = {
            key: value.build(registry, field) if isinstance(value, Choice) else value for key, value in self.options
        }
        made = find(self.name, registry, field)
        known = _parameters(made)
        if unknown := [key for key in options if known is not None and key not in known]:
            expected = f"expected some of {', '.join(known)}" if known else "it has no options"
            raise ValueError(f"{field}: {self.name}: unknown option {', '.join(map(repr, unknown))}; {expected}")
        try:
            return made(**defaults | options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{field}: {self}: {error}") from error

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}({options})" if options else self.name


def find(name: str, registry: Mapping[str, Callable], field: str, load: bool = True) -> Callable:
    """Return what a name stands for: an entry of `registry`, or a function ``package.module:function``.

    Raises
    ------
    ValueError
        If there is none; with ``load=False``, only if the name has neither form.
    """
    if name in registry:
        return registry[name]
    if not is_function(name):
        raise ValueError(f"{field}: expected one of {', '.join(registry)}, or package.module:function; got {name!r}")
    if not load:
        return lambda: None
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{field}: cannot find {name!r}: {error}") from error
    if not callable(found):
        raise ValueError(f"{field}: expected {name!r} to be a function, got {type(found).__name__}")
    return found


def _parameters(function: Callable) -> list[str] | None:
    """Return the names of a function's parameters, or None if it takes any."""
    parameters = inspect.signature(function).parameters.values()
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return None if anything else [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]


def is_function(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


def several(given: Any, field: str) -> tuple:
    """Return the parts of a field: a single one counts as a list of one."""
    if isinstance(given, (str, Mapping, Choice, int, float)) and not isinstance(given, bool):
        return (given,)
    if not isinstance(given, Sequence) or not given:
        raise ValueError(f"{field}: expected a list with at least one entry, got {given!r}")
    return tuple(given)


def _frozen(value: Any) -> Any:
    """Return a JSON value as one that cannot change; an object with a name is a `Choice`."""
    if isinstance(value, Mapping):
        return Choice.of(value, "options")
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError(f"options: expected what JSON can hold, got {type(value).__name__}")
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, Choice):
        return value.to_json() if value.options else {"name": value.name}
    return [_thawed(part) for part in value] if isinstance(value, tuple) else value
