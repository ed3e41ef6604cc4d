"""Which device computes, and what it is called."""

import platform

import torch


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
        raise ValueError(f"{field}: {name!r} is not available here: {str(error).splitlines()[0]}") from error
    return device


def processor() -> str:
    """Return the kind of processor, and how many of its threads PyTorch uses."""
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {threads} thread{'s' * (threads > 1)}"
