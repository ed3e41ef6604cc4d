"""A name with options, as a sweep's configuration gives it, and what it stands for."""

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from fragile_utils._base import schema
from fragile_utils._base.code import Code, is_function
from fragile_utils.saliency import Method

DEEPEST = 5  # choices and lists within options
LONGEST = 200  # characters of a name, or of text in an option
MOST = 1000  # entries of a field or of a list in an option
SHORT = {"ig": "integrated-gradients", "mass-centre": "mass-center"}  # what a command line may write for a name


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
    def of(cls, given: "Choice | str | Mapping[str, Any]", field: str, longest: int = LONGEST) -> "Choice":
        """Return the choice that JSON, or a caller, describes; `field` is what an error calls it."""
        return _choice(given, field, DEEPEST, longest)

    @classmethod
    def parse(cls, text: str, field: str) -> "Choice":
        """Return the choice that a command line names: ``integrated-gradients:steps=50,baseline=0.5``.

        A value is a number, true, false, null, or text; [1, 2] is a list, and (smoothgrad:samples=5) another choice.
        Names may be those of `SHORT`: ``ig:steps=50``.
        """
        return _choice(_parsed(text, field, DEEPEST), field, DEEPEST)

    def to_json(self) -> "str | dict[str, Any]":
        """Return what `of` makes the same choice from."""
        return (
            {"name": self.name, **{key: _thawed(value) for key, value in self.options}} if self.options else self.name
        )

    def functions(self) -> list[str]:
        """Return the functions of the reader's own among its names; see `code`."""
        own = [self.name] if is_function(self.name) else []
        return own + [name for choice in _inside(self.options) for name in choice.functions()]

    def check(self, registry: Mapping[str, Callable], field: str, **defaults: Any) -> None:
        """Refuse unknown names and options, and values of the wrong type or out of range. Nothing is imported.

        What consists of the registry's names is built, to see whether it can be; a function of the reader's own, and
        what it is a part of, is not.
        """
        if not self.functions():
            self.build(registry, field, **defaults)
            return
        if self.name in registry:
            _check_options(self, registry[self.name], field)
        for choice in _inside(self.options):
            choice.check(registry, field)

    def build(self, registry: Mapping[str, Callable], field: str, code: Code | None = None, **defaults: Any) -> Any:
        """Return what the name stands for, made with the options; functions of the reader's own are those of `code`."""
        made = named(self.name, registry, field, code)
        _check_options(self, made, field)
        options = {
            key: value.build(registry, field, code) if isinstance(value, Choice) else value
            for key, value in self.options
        }
        return call(made, f"{field}: {self}", **defaults | options)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}({options})" if options else self.name


def check_name(name: str, registry: Mapping[str, Callable], field: str) -> None:
    """Refuse a name that is neither an entry of `registry` nor of the form ``package.module:function``."""
    if name not in registry and not is_function(name):
        got = schema.shown(name)
        raise ValueError(f"{field}: expected one of {', '.join(registry)}, or package.module:function; got {got}")


def named(name: str, registry: Mapping[str, Callable], field: str, code: Code | None = None) -> Callable:
    """Return what a name stands for: an entry of `registry`, or a function of the reader's own that `code` allows."""
    check_name(name, registry, field)
    return registry[name] if name in registry else (code or Code()).find(name, field)


def call(function: Callable, what: str, **options: Any) -> Any:
    """Call a function and return what it returns; what goes wrong in it is an error that begins with `what`."""
    try:
        return function(**options)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{what}: {error}") from error


def several(given: Any, field: str) -> tuple:
    """Return the parts of a field: a single one counts as a list of one."""
    if isinstance(given, (str, Mapping, Choice, int, float)) and not isinstance(given, bool):
        return (given,)
    if not isinstance(given, Sequence) or not given:
        raise ValueError(f"{field}: expected a list with at least one entry, got {schema.shown(given)}")
    if len(given) > MOST:
        raise ValueError(f"{field}: expected at most {MOST:,} entries, got {len(given):,}")
    return tuple(given)


# --- From the command line --------------------------------------------------------------------------------------------


def _parsed(text: str, field: str, depth: int) -> dict[str, Any]:
    """Return the name and the options in ``name:option=value,option=value``, where the name may hold a colon itself."""
    if not depth:
        raise ValueError(f"{field}: expected options nested at most {DEEPEST} deep")
    before, equals, _ = text.partition("=")
    if not equals:
        return {"name": SHORT.get(text, text)}
    name, colon, _ = before.rpartition(":")
    given = {"name": SHORT.get(name, name)}
    if not colon or not name:
        raise ValueError(f"{field}: expected NAME:OPTION=VALUE,OPTION=VALUE, got {schema.shown(text)}")
    for part in _split(text[len(name) + 1 :]):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier() or key == "name":
            raise ValueError(f"{field}: {name}: expected OPTION=VALUE, got {schema.shown(part)}")
        if key in given:
            raise ValueError(f"{field}: {name}: expected each option once, got {schema.shown(key)} twice")
        given[key] = _value(value.strip(), f"{field}: {name}: {key}", depth)
    return given


def _value(text: str, field: str, depth: int) -> Any:
    if not text:
        raise ValueError(f"{field}: expected a value, got ''")
    if text[0] == "(" and text[-1] == ")":
        return _parsed(text[1:-1], field, depth - 1)
    if text[0] == "[" and text[-1] == "]":
        if depth <= 1:
            raise ValueError(f"{field}: expected options nested at most {DEEPEST} deep")
        return [_value(part.strip(), field, depth - 1) for part in _split(text[1:-1])] if text[1:-1].strip() else []
    if text in _WORDS:
        return _WORDS[text]
    if re.fullmatch(r"[+-]?\d{1,100}", text, re.ASCII):
        return int(text)
    try:
        return float(text) if re.match(r"[+-]?[\d.]", text) else text
    except ValueError:
        return text


_WORDS = {"true": True, "false": False, "null": None}


def _split(text: str) -> list[str]:
    """Return the parts between commas that are within no brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


# --- From JSON and back ----------------------------------------------------------------------------------------------


def _choice(given: Any, field: str, depth: int, longest: int = LONGEST) -> Choice:
    if isinstance(given, Choice):
        try:
            given = {**dict(given.options), "name": given.name}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{field}: expected options as pairs of a name and a value: {error}") from error
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise ValueError(f'{field}: expected a name, or {{"name": ..., options}}, got {schema.shown(given)}')
    if not all(isinstance(key, str) for key in given):
        raise ValueError(f"{field}: expected names of options, got {schema.shown(list(given))}")
    name = schema.label(given["name"], field, longest)
    options = {schema.label(key, f"{field}: {name}", LONGEST): value for key, value in given.items() if key != "name"}
    if len(options) > MOST:
        raise ValueError(f"{field}: {name}: expected at most {MOST:,} options, got {len(options):,}")
    frozen = ((key, _frozen(value, f"{field}: {name}: {key}", depth)) for key, value in options.items())
    return Choice(name, tuple(frozen))


def _frozen(value: Any, field: str, depth: int) -> Any:
    """Return a JSON value as one that cannot change; an object with a name is a `Choice`."""
    if not depth:
        raise ValueError(f"{field}: expected options nested at most {DEEPEST} deep")
    if isinstance(value, (Mapping, Choice)):
        return _choice(value, field, depth - 1)
    if isinstance(value, (list, tuple)):
        if len(value) > MOST:
            raise ValueError(f"{field}: expected at most {MOST:,} entries, got {len(value):,}")
        return tuple(_frozen(part, field, depth - 1) for part in value)
    if isinstance(value, str):
        return schema.text(value, field, LONGEST)
    if isinstance(value, int) and not isinstance(value, bool):
        return schema.whole(value, field, -schema.LARGEST)
    if isinstance(value, float) and value - value != 0:
        raise ValueError(f"{field}: expected a finite number, got {value}")
    if value is not None and not isinstance(value, (bool, float)):
        raise ValueError(f"{field}: expected what JSON can hold, got {type(value).__name__}")
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, Choice):
        return value.to_json() if value.options else {"name": value.name}
    return [_thawed(part) for part in value] if isinstance(value, tuple) else value


def _inside(value: Any) -> list[Choice]:
    """Return the choices among options, in lists too."""
    if isinstance(value, Choice):
        return [value]
    return [choice for part in value for choice in _inside(part)] if isinstance(value, tuple) else []


# --- Options by name and type ----------------------------------------------------------------------------------------


def _check_options(choice: Choice, made: Callable, field: str) -> None:
    """Refuse options that a function has no parameter for, or whose type is not that of the parameter."""
    parameters = _parameters(made)
    if parameters is None:
        return
    if unknown := [key for key, _ in choice.options if key not in parameters]:
        expected = f"expected some of {', '.join(parameters)}" if parameters else "it has no options"
        raise ValueError(f"{field}: {choice.name}: unknown option {schema.listed(unknown)}; {expected}")
    for key, value in choice.options:
        kind = parameters[key].annotation
        if not _fits(value, kind):
            got = schema.shown(str(value) if isinstance(value, Choice) else value)
            raise ValueError(f"{field}: {choice.name}: {key}: expected {_in_words(kind)}, got {got}")


def _parameters(function: Callable) -> dict[str, inspect.Parameter] | None:
    """Return a function's parameters by name, or None if it takes any, or does not say."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return {name: p for name, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value of JSON is of the type that a parameter is annotated with, as far as that is a type."""
    if get_origin(kind) in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return isinstance(value, str)  # which one, the method says
    if not isinstance(kind, type) or kind is inspect.Parameter.empty:
        return True
    if isinstance(value, Choice):
        return issubclass(kind, Method)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _in_words(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(_in_words, get_args(kind)))
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", types.NoneType: "null"}
    return words.get(kind) or ("text" if get_origin(kind) is Literal else f"a {getattr(kind, '__name__', kind)}")
