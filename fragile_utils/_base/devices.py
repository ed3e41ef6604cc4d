"""Which device computes, what it is called, and what is written down of it beside results."""

import platform
import time
from importlib import metadata
from typing import Any

import torch

from fragile_utils import __version__
from fragile_utils._base import schema


def pick_device(name: str, field: str = "device") -> torch.device:
    """Return the device of that name; "auto" is a GPU where there is one.

    Raises
    ------
    ValueError
        If there is no such device here; the message begins with `field`.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # "meta" has no values
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"{field}: {name!r} is not available here: {schema.reason(error)}") from error
    return device


def environment(device: torch.device, *packages: str) -> dict[str, Any]:
    """Return on what, and with what, this process computes, as JSON can hold it.

    ``device`` and ``hardware``, ``versions`` (`versions`, of these packages too), and the time as ``finished``.
    """
    return {
        "device": device.type,
        "hardware": hardware(device),
        "versions": versions("torch", *packages),
        "finished": now(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of this package, of Python, and of these packages."""
    ours = {"fragile_utils": __version__, "python": platform.python_version()}
    return ours | {name: metadata.version(name) for name in packages}


def now() -> str:
    """Return the time, in UTC: ``2025-01-31T12:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def hardware(device: torch.device) -> str:
    """Return the name of a GPU, or else what `processor` returns."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """Return the kind of processor, and how many of its threads PyTorch uses."""
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {threads} thread{'s' * (threads > 1)}"
