"""Where networks compute, and in which precision."""

import torch

from xclip_cli.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """Return the device that `auto|cpu|cuda|cuda:N|mps` means here. Raises UsageError for one that is absent."""
    count, has_mps = torch.cuda.device_count() if torch.cuda.is_available() else 0, torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if count else "mps" if has_mps else "cpu")
    present = ["cpu", *["cuda"] * bool(count), *(f"cuda:{i}" for i in range(count)), *["mps"] * has_mps]
    if name not in present:
        raise UsageError(f"device {name!r} is not available on this machine", f"use --device {' or '.join(present)}")
    return torch.device(name)


def precision(device: torch.device, dtype: str) -> torch.autocast:
    """The context in which a network computes in `dtype`, one of settings.DTYPES; float32 changes nothing."""
    return torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32")
