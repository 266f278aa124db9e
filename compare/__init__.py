"""Says whether gradients and training by hand agree with JAX's, where they first part, why, and who is wrong."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Where each name lives. It is imported when first used, so that --help is answered without loading JAX.
_HOMES = {
    "Diagnosis": "agreement",
    "Row": "agreement",
    "Verdict": "agreement",
    "assert_gradients_agree": "gradients",
    "check_gradients": "gradients",
    "tap": "localize",
    "ONE_EXAMPLE": "probes",
    "Probe": "probes",
    "GradientMismatch": "report",
    "GradientReport": "report",
    "assert_trajectory_agrees": "trajectories",
    "check_trajectory": "trajectories",
    "TrajectoryMismatch": "trajectory_report",
    "TrajectoryReport": "trajectory_report",
    "assert_vjp_agrees": "vjp",
    "check_vjp": "vjp",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"compare.{_HOMES[name]}"), name)
