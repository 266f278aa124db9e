"""How fast each way is: contestants doing the same work in processes of their own, timed in turns.

A workload (`workloads`) is some work of a given size; `shallow`, `models` and `ops` say who can do it, and how. `turns`
runs and times them, `floor` is the least that it could take, the matrix products alone, `results` is what came of it,
and `changes` what is different from an older run.
"""
