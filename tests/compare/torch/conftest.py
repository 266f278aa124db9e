"""Kernels are run on one thread: arrays are small, and several threads would mostly wait for each other."""

# pyright: basic, reportMissingImports=false

import pytest


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
