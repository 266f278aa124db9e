"""Where PyTorch works: on the GPU if JAX does, and never on the CPU in its place."""

import sys
from types import SimpleNamespace

import pytest

from compare.bench.torch_device import Device
from compare.bench.workloads import Workload


class FakeTorch:
    """As much of PyTorch as a device needs: what is put on the GPU takes `seconds` by a clock that only that moves."""

    def __init__(self, available):
        self.now, self.waited, self.seconds = 0.0, 0, 1.0
        self.cuda = SimpleNamespace(is_available=lambda: available, synchronize=self.synchronize)

    def zeros(self, count):
        return self

    def to(self, place):
        self.now += self.seconds if place == "cuda" else 0.0
        return place

    def synchronize(self):
        self.waited += 1


def device_of_fake_torch(monkeypatch, platform, *, available):
    fake = FakeTorch(available)
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr("compare.bench.torch_device.time.perf_counter", lambda: fake.now)
    return fake, Device(Workload("shallow", "2x3x4", platform=platform))


def test_pytorch_works_on_the_gpu_where_jax_does(monkeypatch):
    torch, device = device_of_fake_torch(monkeypatch, "gpu", available=True)
    assert device.transfer == 0.0  # the first tensor, which finds the GPU, is not counted
    before = torch.waited
    assert [device.put(torch), device.put(torch)] == ["cuda", "cuda"]
    assert (device.transfer, torch.waited - before) == (2.0, 2)


def test_pytorch_stays_on_the_cpu_otherwise(monkeypatch):
    torch, device = device_of_fake_torch(monkeypatch, "cpu", available=True)
    assert device.put(torch) == "cpu"
    device.wait()
    assert (device.transfer, torch.waited) == (None, 0)


def test_a_pytorch_without_a_gpu_says_so_and_does_not_take_the_cpu_instead(monkeypatch):
    with pytest.raises(RuntimeError, match="PyTorch finds no GPU that it can use"):
        device_of_fake_torch(monkeypatch, "gpu", available=False)
