"""Compares hand-written gradients and training with JAX: do they agree, and if not, where, why and which is wrong?"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compare.judge.custom_rules import RulesReport, assert_custom_rules_agree, check_custom_rules
    from compare.judge.evaluation.intermediates import tap
    from compare.judge.evaluation.perturbed_points import ONE_EXAMPLE, Probe
    from compare.judge.gradients import assert_gradients_agree, check_gradients
    from compare.judge.hessian import assert_hessian_agrees, assert_hvp_agrees, check_hessian, check_hvp
    from compare.judge.jacobian import assert_jacobian_agrees, check_jacobian
    from compare.judge.jvp import assert_jvp_agrees, check_jvp
    from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
    from compare.judge.reports.trajectory_report import TrajectoryMismatch, TrajectoryReport
    from compare.judge.reports.verdict import Diagnosis, Row, Verdict
    from compare.judge.trajectory import assert_trajectory_agrees, check_trajectory
    from compare.judge.vjp import assert_vjp_agrees, check_vjp

__all__ = [
    "ONE_EXAMPLE",
    "Diagnosis",
    "GradientMismatch",
    "GradientReport",
    "Probe",
    "Row",
    "RulesReport",
    "TrajectoryMismatch",
    "TrajectoryReport",
    "Verdict",
    "assert_custom_rules_agree",
    "assert_gradients_agree",
    "assert_hessian_agrees",
    "assert_hvp_agrees",
    "assert_jacobian_agrees",
    "assert_jvp_agrees",
    "assert_trajectory_agrees",
    "assert_vjp_agrees",
    "check_custom_rules",
    "check_gradients",
    "check_hessian",
    "check_hvp",
    "check_jacobian",
    "check_jvp",
    "check_trajectory",
    "check_vjp",
    "tap",
]

# The module of each public name. A module is imported at the first use of a name, so that --help does not load JAX.
_HOMES = {
    "Diagnosis": "judge.reports.verdict",
    "Row": "judge.reports.verdict",
    "Verdict": "judge.reports.verdict",
    "assert_gradients_agree": "judge.gradients",
    "check_gradients": "judge.gradients",
    "tap": "judge.evaluation.intermediates",
    "ONE_EXAMPLE": "judge.evaluation.perturbed_points",
    "Probe": "judge.evaluation.perturbed_points",
    "GradientMismatch": "judge.reports.gradient_report",
    "GradientReport": "judge.reports.gradient_report",
    "assert_trajectory_agrees": "judge.trajectory",
    "check_trajectory": "judge.trajectory",
    "TrajectoryMismatch": "judge.reports.trajectory_report",
    "TrajectoryReport": "judge.reports.trajectory_report",
    "assert_vjp_agrees": "judge.vjp",
    "check_jvp": "judge.jvp",
    "assert_jvp_agrees": "judge.jvp",
    "check_hvp": "judge.hessian",
    "assert_hvp_agrees": "judge.hessian",
    "check_hessian": "judge.hessian",
    "assert_hessian_agrees": "judge.hessian",
    "check_jacobian": "judge.jacobian",
    "assert_jacobian_agrees": "judge.jacobian",
    "check_custom_rules": "judge.custom_rules",
    "assert_custom_rules_agree": "judge.custom_rules",
    "RulesReport": "judge.custom_rules",
    "check_vjp": "judge.vjp",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"compare.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
