"""Times implementations of the same work, called contestants, in alternating rounds and in separate processes.

A workload (`workloads`) is some work of a given size, such as training steps of a network. `shallow`, `models` and
`ops` implement its contestants, each of which runs in a process of its own (`process`). `turns` times them in
alternating rounds, and `run` does so for one size after another. `gemm_bound` measures a lower bound of the time: that
of the matrix products alone. `results` presents the results, and `changes` compares them with an older run.
"""
