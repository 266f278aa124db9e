"""Says whether gradients and training by hand agree with JAX's, where they first part, why, and who is wrong."""

from compare.agreement import Diagnosis, Row, Verdict
from compare.gradients import assert_gradients_agree, check_gradients
from compare.localize import tap
from compare.probes import ONE_EXAMPLE, Probe
from compare.report import GradientMismatch, GradientReport
from compare.trajectories import assert_trajectory_agrees, check_trajectory
from compare.trajectory_report import TrajectoryMismatch, TrajectoryReport
from compare.vjp import assert_vjp_agrees, check_vjp

__all__ = [
    "ONE_EXAMPLE",
    "Diagnosis",
    "GradientMismatch",
    "GradientReport",
    "Probe",
    "Row",
    "TrajectoryMismatch",
    "TrajectoryReport",
    "Verdict",
    "assert_gradients_agree",
    "assert_trajectory_agrees",
    "assert_vjp_agrees",
    "check_gradients",
    "check_trajectory",
    "check_vjp",
    "tap",
]
