"""Clocks and meters say what can be known otherwise."""

import sys
import time

import pytest
import torch

from xclip_cli.benchmark.measure import Timing, clock, machine, matrix_product, peak_bytes, repeat

CPU = torch.device("cpu")


def test_a_timing_knows_its_percentiles_and_spread():
    timing = Timing([1.0, 2.0, 3.0, 4.0, 5.0])
    assert timing.median == 3 and timing.percentile(95) == pytest.approx(4.8)
    assert timing.spread == pytest.approx((4 - 2) / 2 / 3)


def test_a_call_is_timed_and_warmed_up_first():
    calls = []
    timing = repeat(lambda: calls.append(time.sleep(0.01)), CPU, times=3)
    assert len(calls) == 4 and len(timing.seconds) == 3
    assert min(timing.seconds) >= 0.01 > min(clock(lambda: None, CPU) for _ in range(5))


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_clock_waits_until_the_device_is_done(monkeypatch, device):
    waited = []
    monkeypatch.setattr(getattr(torch, device), "synchronize", lambda *where: waited.append(len(calls)))
    calls = []
    clock(lambda: calls.append(1), torch.device(device))
    assert waited == [0, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory was in use at most")
def test_the_peak_is_what_a_call_needs():
    size = 200 * 2**20
    assert size * 0.9 < peak_bytes(lambda: torch.ones(size, dtype=torch.uint8), CPU) < size * 1.2
    assert peak_bytes(lambda: None, CPU) < size / 10  # not that of the call before


def test_the_machine_has_a_name_and_multiplies():
    product, gigamacs = matrix_product(CPU, torch.float32)
    assert machine(CPU) and product().shape == (2048, 2048) and gigamacs == pytest.approx(2.048**3)
