"""What the cases of every module are held to."""

import inspect

import numpy as np

from compare import Verdict
from compare.suite.cases import all_cases
from compare.suite.ops import DTYPES, catalog, verify_op

CATALOG, CASES = catalog(), all_cases()


def ops_of(module):
    return [name for name, op in CATALOG.items() if op.module == module]


def numbered(module):
    """(op, number of its case) for every case of a module."""
    return [(name, i) for name in ops_of(module) for i in range(len(CASES[name]))]


def assert_agree(name, number):
    """Both sides, in both dtypes, against JAX and finite differences."""
    for dtype in DTYPES:
        report = verify_op(CATALOG[name], CASES[name][number], dtype)
        assert report.verdict is Verdict.AGREE, f"{dtype}, {CASES[name][number]}\n{report}"


def assert_covered(name):
    """The cases of an op have two shapes at least, and change every option."""
    cases = CASES[name]
    assert len({tuple(np.shape(x) for x in case.inputs) for case in cases}) >= 2
    for option, parameter in inspect.signature(CATALOG[name].forward).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            values = {str(case.options.get(option, parameter.default)) for case in cases}
            assert len(values) >= 2, f"{name}: no case changes {option}"
