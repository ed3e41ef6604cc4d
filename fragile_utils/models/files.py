"""Files that hold a network: weights, programs of torch.export, pickles; and those that are refused, with a way out.

Weights are read as numbers and nothing else. What executes code when it is opened, a pickle of a whole network, is
refused unless it is trusted.
"""

import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from fragile_utils._base import schema
from fragile_utils.models.wrapping import NO_TORCHSCRIPT

WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".tar")
REFUSED = {
    ".onnx": "ONNX holds no network that can be differentiated twice; give the function that makes it in PyTorch, "
    "FUNCTION@WEIGHTS, or save it with torch.export as .pt2",
    **dict.fromkeys((".ts", ".torchscript", ".ptl"), NO_TORCHSCRIPT),
    **dict.fromkeys(
        (".h5", ".keras", ".pb", ".tflite"),
        "this is no file of PyTorch; give a function that makes the network in PyTorch, FUNCTION@WEIGHTS",
    ),
}
INSIDE = ("state_dict", "model_state_dict", "model", "net")  # where training scripts keep the weights in their files
PICKLE = (
    "{}: this is a pickle of more than numbers, and to open it is to execute what it holds; save model.state_dict() "
    "and give FUNCTION@{}, or trust it (--trust, in Python trust=True)"
)


def read_weights(path: Path, trust: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a state_dict by name.

    Parameters
    ----------
    path : path
        Of a .safetensors, or of what torch.save has written: a state_dict, alone or beside other things. What
        ``DataParallel`` puts before the names is left out.
    trust : bool
        Unpickle whatever the file holds.

    Raises
    ------
    ValueError
        If it cannot be read, is a pickle of more than numbers, or holds no weights.
    """
    if path.suffix == ".safetensors":
        exists(path)
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(f"cannot read {path}: {error}") from error
    found = unpickled(path, trust)
    found = found.state_dict() if isinstance(found, nn.Module) else found
    while isinstance(found, Mapping) and (inside := next((name for name in INSIDE if _is_dict(found, name)), None)):
        found = found[inside]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path}: expected a state_dict, tensors by name, got {type(found).__name__}")
    names = {name: name.removeprefix("module.") for name in found}
    return {names[name]: value for name, value in found.items()}


def _is_dict(found: Mapping, name: str) -> bool:
    return isinstance(found.get(name), Mapping)


def load_weights(module: nn.Module, path: Path, trust: bool = False) -> None:
    """Load a state_dict into a network, which has to have exactly these parameters and buffers."""
    weights = read_weights(path, trust)
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    missing, foreign = [name for name in own if name not in weights], [name for name in weights if name not in own]
    if missing or foreign:
        said = [
            f"{schema.listed(names)} {what}" for names, what in ((missing, "missing"), (foreign, "unknown")) if names
        ]
        raise ValueError(f"{path}: these are not the weights of {type(module).__name__}: {'; '.join(said)}")
    for name, shape in own.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"{path}: {name}: expected shape {shape}, got {tuple(weights[name].shape)}")
    module.load_state_dict(weights)


def unpickled(path: Path, trust: bool = False) -> Any:
    """Return what torch.save has written: numbers, or whatever it is if it is to be trusted.

    Raises
    ------
    ValueError
        If it cannot be read, is TorchScript, or holds more than numbers and is not to be trusted.
    """
    exists(path)
    if is_torchscript(path):
        raise ValueError(f"{path}: {NO_TORCHSCRIPT}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols that another program has used
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust:
            raise ValueError(PICKLE.format(path, path)) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise ValueError(f"cannot read {path}: {schema.reason(error)}") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever it executes
        raise ValueError(f"cannot unpickle {path}: {type(error).__name__}: {error}") from error


def exists(path: Path) -> None:
    """Refuse a path without a file."""
    if not path.is_file():
        raise ValueError(f"no such file: {path}")


def is_torchscript(path: Path) -> bool:
    """Return whether a file is an archive of TorchScript."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name or name.endswith("/bytecode.pkl") for name in archive.namelist())


# --- Programs of torch.export ----------------------------------------------------------------------------------------


def exported(path: Path, trust: bool = False) -> nn.Module:
    """Return the module of a program that torch.export.save has written.

    To open such a file is to evaluate expressions that it holds: whoever calls this has allowed it. Pickles in it are
    refused unless they are trusted.

    Raises
    ------
    ValueError
        If it cannot be read, or holds pickles.
    """
    exists(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: expected what torch.export.save writes, got another file")
    if not trust:
        _check_pickles(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions
            return torch.export.load(path).module()
    except Exception as error:  # whatever another version of PyTorch has written
        raise ValueError(f"cannot read {path} as a program of torch.export: {schema.reason(error)}") from error


def _check_pickles(path: Path) -> None:
    """Refuse a program beside whose graph there are pickles of more than numbers."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            parts = name.split("/")
            content = archive.read(name) if name.endswith((".json", ".pt")) else b""
            if parts[-1].startswith("custom_obj") or "aotinductor" in parts:
                raise ValueError(PICKLE.format(path, "WEIGHTS"))
            if name.endswith("_config.json") and b'"use_pickle": true' in content:
                raise ValueError(PICKLE.format(path, "WEIGHTS"))
            if name.endswith(".pt") and not _only_numbers(content):
                raise ValueError(PICKLE.format(path, "WEIGHTS"))


def _only_numbers(content: bytes) -> bool:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        return False
    return True


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the names of classes in a file: one in a line, or JSON with a list or an object of numbers to names.

    Raises
    ------
    ValueError
        If it cannot be read, or is neither.
    """
    exists(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix.lower() != ".json":
        names: Any = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        names = schema.parse(text)
        if isinstance(names, dict):
            names = in_order(names, str(path))
    names = schema.entries(names, f"{path}")
    return tuple(schema.label(name, f"{path}", 1000) for name in names)


def in_order(names: Mapping[str, str], what: str) -> list[str]:
    """Return the names of a mapping from "0", "1", ... in order."""
    if set(names) != {str(i) for i in range(len(names))}:
        raise ValueError(f"{what}: expected the numbers from 0 to {len(names) - 1} with names")
    return [names[str(i)] for i in range(len(names))]
