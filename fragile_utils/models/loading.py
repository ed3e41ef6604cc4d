"""A network from wherever it is: one line of text that names it, to a `Classifier`.

======================================= ==============================================================================
``squeezenet``                          a name of `MODELS`
``torchvision:NAME``, ``timm:NAME``     a network of these libraries, with their weights, downloaded on first use
``hf:FOLDER``                           a classifier of transformers in a local folder
``package.module:function``             what a function of the reader's own returns: a `Classifier` or a plain module
``file.py:function``                    the same, from a file
``NAME@weights.pt``                     any of these, with the weights of a state_dict
``network.pt2``                         a program of torch.export
``network.pt``                          a pickle of a whole network, which has to be trusted
======================================= ==============================================================================
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from fragile_utils._base import checks, schema
from fragile_utils._base.code import PROGRAM, Code, is_function
from fragile_utils.models import files
from fragile_utils.models.adapter import Adapter
from fragile_utils.models.classifier import Classifier
from fragile_utils.models.huggingface import huggingface
from fragile_utils.models.pretrained import MODELS
from fragile_utils.models.published import from_timm, from_torchvision
from fragile_utils.models.wrapping import Wrapped, wrap


def _with_its_own(make: Callable[[str], Classifier]) -> Callable[..., Classifier]:
    """Return a maker that refuses the options of `wrap`: networks of these libraries bring their own."""

    def made(text: str, **options: Any) -> Classifier:
        if options:
            raise ValueError(f"model: {text} has its own {', '.join(options)}; leave them out")
        return make(text)

    return made


# From a prefix to what makes a network of the text after it; it takes the options of `wrap`.
PREFIXES: dict[str, Callable[..., Classifier]] = {
    "torchvision": _with_its_own(from_torchvision),
    "timm": _with_its_own(from_timm),
    "hf": huggingface,
}

FORMS = (
    "package.module:function, file.py:function, a .pt2 of torch.export, any of these names with weights, NAME@FILE, or "
    "a prefix"
)


def load(
    name: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    classes: Sequence[str] | str | Path = (),
    allow_code: "bool | Code" = False,
    trust: bool = False,
) -> Classifier:
    """Return the network that a name stands for, in evaluation mode, its parameters frozen.

    Parameters
    ----------
    name : str
        See the table above.
    mean, std, size : optional
        As for `wrap`, which adapts a plain module. A `Classifier` has its own.
    classes : sequence of str or path, optional
        Names, or a file of them (`files.read_classes`).
    allow_code : bool or Code
        Import and call functions of your own, open programs of torch.export: True, or exactly these.
    trust : bool
        Unpickle what holds more than numbers, which executes whatever it names.

    Raises
    ------
    ValueError
        If there is no such network; code or pickles are not allowed; it cannot be attacked exactly.
    """
    check_name(name)
    options = {"mean": mean, "std": std, "size": size, "classes": _names(classes) or None}
    options = {key: value for key, value in options.items() if value is not None}
    code = allow_code if isinstance(allow_code, Code) else Code.allow(code_of(name) if allow_code else ())
    trust = trust or code.pickles
    maker, _, weights = name.rpartition("@") if has_weights(name) else (name, "", "")
    made = _made(maker, options, code, trust, bool(weights))
    if isinstance(made, Wrapped) and not options and not weights:
        return made.requires_grad_(False)
    if weights:
        _load_weights(made, Path(weights).expanduser(), trust)
    made.requires_grad_(False)
    if isinstance(made, Classifier):
        checks.evaluation_mode(made)
        if options and maker.partition(":")[0] not in PREFIXES:
            raise ValueError(f"model: {name} is a Classifier, with its own {', '.join(options)}; leave them out")
        return made
    return wrap(made, **options)


def check_name(name: str, field: str = "model") -> None:
    """Refuse what names no network. Nothing is imported, opened or called.

    Raises
    ------
    ValueError
        With the way out where it is a file that cannot be attacked exactly.
    """
    checks.instance(name, str, field, "'squeezenet'")
    maker = name.rpartition("@")[0] if has_weights(name) else name
    prefix, _, rest = maker.partition(":")
    if maker in MODELS or (prefix in PREFIXES and rest) or is_function(maker) or maker.endswith(PROGRAM):
        return
    if (ending := Path(maker).suffix.lower()) in files.REFUSED:
        raise ValueError(f"{field}: {schema.shown(maker)}: {files.REFUSED[ending]}")
    if ending not in files.WEIGHTS or "\0" in maker:
        prefixes = ", ".join(f"{prefix}:..." for prefix in PREFIXES)
        forms = f"expected one of {', '.join(MODELS)}, or {FORMS} ({prefixes})"
        raise ValueError(f"{field}: {forms}; got {schema.shown(name)}")


def has_weights(name: str) -> bool:
    """Return whether a name consists of another and a file of weights."""
    maker, _, weights = name.rpartition("@")
    return bool(maker) and Path(weights).suffix.lower() in files.WEIGHTS


def code_of(name: str) -> tuple[str, ...]:
    """Return what has to be allowed of the code that a name stands for: nothing, or one of `Code`'s names."""
    maker = name.rpartition("@")[0] if has_weights(name) else name
    if maker in MODELS or maker.partition(":")[0] in PREFIXES:
        return ()
    return (maker,) if is_function(maker) or maker.endswith(PROGRAM) else ()


def _made(maker: str, options: dict[str, Any], code: Code, trust: bool, has_weights: bool) -> nn.Module:
    """Return the network that a name without weights stands for."""
    prefix, _, rest = maker.partition(":")
    if maker in MODELS:
        return MODELS[maker]()
    if prefix in PREFIXES:
        return PREFIXES[prefix](rest, **options)
    if is_function(maker):
        try:
            made = code.find(maker, "model")()
        except TypeError as error:
            raise ValueError(f"model: {maker}: {error}") from error
        if not isinstance(made, nn.Module):
            raise ValueError(f"model: expected {maker} to return a torch.nn.Module, got {type(made).__name__}")
        return _evaluating(made) if has_weights else made
    path = Path(maker).expanduser()
    if maker.endswith(PROGRAM):
        files.exists(path)
        code.check(maker, "model")
        return files.exported(path, trust)
    made = files.unpickled(path, trust) if path.suffix != ".safetensors" else files.read_weights(path)
    if not isinstance(made, nn.Module):
        raise ValueError(
            f"model: {maker} holds weights without their network; give the function that makes it: FUNCTION@{maker}"
        )
    return _evaluating(made)


def _evaluating(made: nn.Module) -> nn.Module:
    """Return a network in evaluation mode; a program of torch.export stays what it was exported as."""
    return made if checks.is_program(made) else made.eval()


def _load_weights(made: nn.Module, path: Path, trust: bool) -> None:
    """Load weights into a network, or into that within a classifier."""
    inside = made
    while isinstance(inside, (Classifier, Adapter)):
        inside = inside.network
    files.load_weights(inside, path, trust)


def _names(classes: Sequence[str] | str | Path) -> Sequence[str]:
    return files.read_classes(Path(classes).expanduser()) if isinstance(classes, (str, Path)) else tuple(classes)
