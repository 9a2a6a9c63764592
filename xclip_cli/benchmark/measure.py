"""Clocks and meters: how long a call takes, how much memory it needs, how fast this machine multiplies."""

import ctypes
import platform
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

_MATRIX = {"cpu": 2048, "cuda": 8192}
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CPU_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


@dataclass
class Timing:
    """Seconds of repeated calls."""

    seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Seconds that ``share`` percent of the calls stay within; NaN before the first."""
        return float(np.percentile(self.seconds, share)) if self.seconds else float("nan")

    @property
    def median(self) -> float:
        return self.percentile(50)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        return (self.percentile(75) - self.percentile(25)) / 2 / self.median


def clock(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until the device is done."""
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - started


def repeat(call: Callable[[], object], device: torch.device, times: int = 3) -> Timing:
    """One call to warm up, then ``times`` that count."""
    call()
    return Timing([clock(call, device) for _ in range(times)])


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that one call needs beyond what was in use before it; None where the system does not say."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # memory kept from earlier calls would hide what this one needs
    try:
        _CLEAR.write_text("5")  # sets the peak back to what is in use now
        before = _status_bytes("VmRSS")
        call()
        return max(0, _status_bytes("VmHWM") - before)
    except (OSError, LookupError):
        call()
        return None


def matrix_product(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """One large square matrix product and its multiply-adds, 1e9: their rate is the most a network can hope for."""
    side = _MATRIX.get(device.type, _MATRIX["cpu"])
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, side**3 / 1e9


def machine(device: torch.device) -> str:
    """The device's name, as its maker gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        if found := _CPU_MODEL.search(Path("/proc/cpuinfo").read_text()):
            return found[1].strip()
    return platform.processor() or platform.machine()


def _status_bytes(name: str) -> int:
    line = next((line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:")), None)
    if line is None:
        raise LookupError(name)
    return int(line.split()[1]) * 1024


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
