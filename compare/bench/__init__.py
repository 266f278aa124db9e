"""Times implementations of the same work, called contestants, in alternating rounds and in separate processes.

A workload (`workloads`) is some work of a given size. `shallow`, `models` and `ops` have its contestants. `turns`
runs and times them; `gemm_bound` is a lower bound of the time, that of the matrix products alone; `results` has the
results, and `changes` compares them with an older run.
"""
