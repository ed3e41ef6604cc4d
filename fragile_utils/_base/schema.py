"""Values that anybody may have written: JSON that is read strictly, and checks of types, ranges and sizes.

A file that is read is checked before anything is made of it. What passes here is small, finite and of the type that
was asked for; every error says, in a line, which field it is, what was expected and what was got.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

LARGEST = 2**53  # the largest whole number that every reader of JSON takes for the same
MOST_DIGITS = 100  # of a whole number
DEEPEST = 20  # objects and lists within each other
LONGEST = 80  # characters of a value that an error shows


def parse(text: str) -> Any:
    """Return the value of JSON text.

    Raises
    ------
    ValueError
        If it is no JSON, an object has a key twice, a number is not finite or has more than `MOST_DIGITS` digits,
        something is nested more than `DEEPEST` deep, or a text is no Unicode.
    """
    hooks = {"object_pairs_hook": _object, "parse_int": _whole, "parse_float": _finite, "parse_constant": _constant}
    try:
        value = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"this is no JSON: {error}") from error
    _check_parts(value)
    return value


def load(path: str | Path, make: Callable[[Any], T], what: str = "") -> T:
    """Return what `make` makes of the JSON in a file; `what` may say what it ought to be, "the settings of a sweep".

    Raises
    ------
    ValueError
        If the file cannot be read, is no JSON (`parse`), or `make` refuses what it holds; the message names the file.
    """
    try:
        return make(parse(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {f'these are not {what}: ' if what else ''}{error}") from error


def whole(value: Any, name: str, low: int = 1, high: int = LARGEST) -> int:
    """Return `value` if it is a whole number from `low` to `high`, and of Python: JSON does not hold NumPy's."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if is_whole and low <= value <= high:
        return value
    if high < LARGEST or (is_whole and abs(value) > LARGEST):
        limit = f" from {low} to {high}"
    else:
        limit = f" at least {low}" if low > 0 else ", 0 or above" if low == 0 else ""
    hint = "; convert with int()" if isinstance(value, Integral) and not isinstance(value, int) else ""
    raise ValueError(f"{name}: expected a whole number{limit}, got {shown(value)}{hint}")


def number(value: Any, name: str, *, zero: bool = False, below: float = math.inf) -> float:
    """Return `value` as a float if it is a finite number above 0, or with `zero` also 0 itself, and below `below`."""
    try:
        made = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number that no float holds
        made = math.nan
    if not (math.isfinite(made) and (made > 0 or (zero and made == 0)) and made < below):
        limit = ", 0 or above" if zero else " above 0"
        end = "" if below == math.inf else f" and below {below:g}"
        raise ValueError(f"{name}: expected a number{limit}{end}, got {shown(value)}")
    return made


def text(value: Any, name: str, longest: int) -> str:
    """Return `value` if it is text of at most `longest` characters."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text, got {shown(value)}")
    if len(value) > longest:
        raise ValueError(f"{name}: expected at most {longest:,} characters, got {len(value):,}")
    return value


def label(value: Any, name: str, longest: int) -> str:
    """Return `value` if it is text of 1 to `longest` characters that names something: a file, a class, a network."""
    if not text(value, name, longest) or "\0" in value:
        raise ValueError(f"{name}: expected a name, got {shown(value)}")
    return value


def flag(value: Any, name: str) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, got {shown(value)}")
    return value


def fields(value: Any, name: str, needed: Iterable[str]) -> Mapping[str, Any]:
    """Return `value` if it is an object with the fields `needed`, and perhaps others."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected an object with its fields, got {shown(value)}")
    if missing := [field for field in needed if field not in value]:
        raise ValueError(f"{name}: expected {', '.join(missing)}")
    return value


def entries(value: Any, name: str, length: int | None = None) -> list:
    """Return `value` if it is a list with at least one entry, or with exactly `length`."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name}: expected a list with at least one entry, got {shown(value)}")
    if length is not None and len(value) != length:
        raise ValueError(f"{name}: expected {length:,} entries, got {len(value):,}")
    return value


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words which of the settings `now` were others `before`."""
    return [f"{name} {before.get(name)} (now {now[name]})" for name in now if before.get(name) != now[name]]


def shown(value: Any) -> str:
    """Return `value` as an error shows it, in a line that is not too long."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "one of more than 30 digits"
    if isinstance(value, str):
        value = value if len(value) <= LONGEST else f"{value[: LONGEST // 2]}...{value[-LONGEST // 4 :]}"
        return repr(value)
    try:
        said = " ".join(repr(value).split())  # a tensor's has several lines
    except (ValueError, RecursionError):  # digits without end; lists within lists
        said = type(value).__name__
    return said if len(said) <= 2 * LONGEST else f"{said[:LONGEST]}..."


def printable(text: str) -> str:
    """Return text in which what is no visible character is written as its code.

    Line breaks, codes that a terminal obeys, and marks of direction, after which other text would be read backwards.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def listed(values: Iterable[Any]) -> str:
    """Return the first three of some values as an error shows them."""
    values = list(values)
    return ", ".join(map(shown, values[:3])) + (", ..." if len(values) > 3 else "")


def reason(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


# --- Hooks of the parser ---------------------------------------------------------------------------------------------

_TOO_DEEP = f"expected objects and lists nested at most {DEEPEST} deep"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"expected each key once, got {shown(twice)} twice")
    return made


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"expected numbers of at most {MOST_DIGITS} digits, got one of {len(digits.lstrip('-')):,}")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"expected finite numbers, got {shown(digits)}")
    return value


def _constant(name: str) -> None:
    raise ValueError(f"expected finite numbers, got {name}")


def _check_parts(value: Any) -> None:
    """Refuse what is nested too deep, and text that is no Unicode; without recursion."""
    level = [value]
    for depth in range(DEEPEST + 1):
        inside = []
        for part in level:
            if isinstance(part, str) and not part.isascii() and any("\ud800" <= c <= "\udfff" for c in part):
                raise ValueError(f"expected Unicode text, got {ascii(part)[:LONGEST]}")
            if isinstance(part, (dict, list)) and depth == DEEPEST:
                raise ValueError(_TOO_DEEP)
            if isinstance(part, dict):
                inside += [*part, *part.values()]
            elif isinstance(part, list):
                inside += part
        level = inside
