"""The device of PyTorch in a bench: the one that JAX uses, so that libraries are compared and not processors."""

import time
from importlib import import_module
from typing import Any

from compare.bench.workloads import Workload


class Device:
    """A GPU if that is the workload's platform, else the CPU. Raises RuntimeError if PyTorch cannot use a GPU.

    `transfer` is the total time in seconds of the transfer of tensors to the GPU; None on the CPU.
    """

    def __init__(self, workload: Workload) -> None:
        self._torch: Any = import_module("torch")
        self._on_gpu = workload.platform == "gpu"
        self.transfer: float | None = None
        if self._on_gpu:
            if not self._torch.cuda.is_available():
                raise RuntimeError("PyTorch finds no GPU that it can use; install a build of PyTorch for this GPU.")
            self.put(self._torch.zeros(1))  # initializes the device, which does not count as transfer
            self.transfer = 0.0

    def put(self, tensor: Any) -> Any:
        """The tensor on the device."""
        begin = time.perf_counter()
        placed = tensor.to("cuda" if self._on_gpu else "cpu")
        self.wait()
        if self.transfer is not None:
            self.transfer += time.perf_counter() - begin
        return placed

    def wait(self) -> None:
        """Wait until the GPU has finished all work."""
        if self._on_gpu:
            self._torch.cuda.synchronize()
