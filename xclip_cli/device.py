"""Where networks compute, and in which precision."""

import torch

from xclip_cli.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """The device that `auto|cpu|cuda|cuda:N|mps` means here. Raises UsageError for one that is absent."""
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    device = torch.device(name)
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[device.type]:
        raise UsageError(f"device {name!r} is not available on this machine", "use --device auto or --device cpu")
    return device


def precision(device: torch.device, dtype: str) -> torch.autocast:
    """The context in which a network computes in `dtype`, one of settings.DTYPES; float32 changes nothing."""
    return torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32")
