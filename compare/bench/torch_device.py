"""Where PyTorch works in a bench: where JAX does, so that the two are compared and not their processors."""

import time
from importlib import import_module
from typing import Any

from compare.bench.workloads import Workload


class Device:
    """A GPU if that is the workload's platform, else the CPU. Raises RuntimeError if PyTorch can use no GPU.

    `transfer` is the seconds that tensors have taken to the GPU, None if there is none.
    """

    def __init__(self, workload: Workload) -> None:
        self._torch: Any = import_module("torch")
        self._on_gpu = workload.platform == "gpu"
        self.transfer: float | None = None
        if self._on_gpu:
            if not self._torch.cuda.is_available():
                raise RuntimeError("this PyTorch has no GPU that it can use; install one that is made for it.")
            self.put(self._torch.zeros(1))  # finding the device is not transfer
            self.transfer = 0.0

    def put(self, tensor: Any) -> Any:
        """The tensor, where the work is done."""
        begin = time.perf_counter()
        placed = tensor.to("cuda" if self._on_gpu else "cpu")
        self.wait()
        if self.transfer is not None:
            self.transfer += time.perf_counter() - begin
        return placed

    def wait(self) -> None:
        """Until all is done that was asked for."""
        if self._on_gpu:
            self._torch.cuda.synchronize()
