"""Says whether gradients and training by hand agree with JAX's, where they part, and by how much."""

from compare.agreement import Row, Verdict
from compare.gradients import GradientMismatch, GradientReport, assert_gradients_agree, check_gradients
from compare.trajectories import (
    TrajectoryMismatch,
    TrajectoryReport,
    assert_trajectory_agrees,
    check_trajectory,
)

__all__ = [
    "GradientMismatch",
    "GradientReport",
    "Row",
    "TrajectoryMismatch",
    "TrajectoryReport",
    "Verdict",
    "assert_gradients_agree",
    "assert_trajectory_agrees",
    "check_gradients",
    "check_trajectory",
]
