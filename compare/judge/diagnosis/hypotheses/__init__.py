"""The possible causes of a wrong gradient, with one function for each.

Each function computes what its cause predicts, and yields a diagnosis if the hand-written values equal the prediction
up to rounding errors. The last functions of the list only describe the error. In docstrings and messages, "it" is the
wrong quantity.
"""

from collections.abc import Callable, Iterator

from compare.judge.diagnosis.evidence import Evidence
from compare.judge.diagnosis.hypotheses.arrangement import (
    copied,
    misplaced,
    permutation,
    shift,
    symmetric,
    transpose,
    triangle,
)
from compare.judge.diagnosis.hypotheses.constants import common_factor, conjugated, constant_factor, factor_of_a_part
from compare.judge.diagnosis.hypotheses.edited import edited, other_mask, other_number
from compare.judge.diagnosis.hypotheses.entries import (
    clipping,
    few_entries,
    lost_repeats,
    masked,
    overwritten,
    precision,
    ties,
    zeros,
)
from compare.judge.diagnosis.hypotheses.factors import (
    along_another_axis,
    another_factor,
    elementwise_factor,
    error_upstream,
    line_factors,
    missing_mask,
    ratio,
    weight_decay,
)
from compare.judge.diagnosis.hypotheses.routes import (
    another_array,
    another_quantity,
    missing_path,
    missing_term,
    missing_unnamed_term,
    weighted_path,
    weighted_term,
    weighted_term_of_a_norm,
)
from compare.judge.diagnosis.hypotheses.sums import (
    accumulator,
    broadcast,
    broadcast_in_part,
    missing_sum,
    one_value,
    wrong_axis,
)
from compare.judge.reports.verdict import Diagnosis

# The simplest explanations come first, descriptions of the error last.
HYPOTHESES: list[Callable[[Evidence], Iterator[Diagnosis]]] = [
    triangle,
    zeros,
    accumulator,
    conjugated,
    constant_factor,
    common_factor,
    symmetric,
    transpose,
    shift,
    missing_sum,
    wrong_axis,
    elementwise_factor,
    along_another_axis,
    missing_mask,
    missing_path,
    weighted_path,
    error_upstream,
    weight_decay,
    missing_term,
    weighted_term_of_a_norm,
    another_array,
    another_factor,  # after another_array: if the gradient is dy instead of dy c, a factor would explain that, too
    broadcast,
    edited,
    other_number,
    missing_unnamed_term,
    weighted_term,
    another_quantity,
    ratio,
    permutation,
    ties,
    lost_repeats,
    copied,
    broadcast_in_part,
    other_mask,
    masked,
    overwritten,
    line_factors,
    one_value,
    misplaced,
    clipping,
    few_entries,
    precision,
    factor_of_a_part,
]

# Hypotheses that explain the actual values by the expected ones, rearranged or multiplied.
OF_RIGHT_VALUES = {
    constant_factor,
    common_factor,
    symmetric,
    transpose,
    shift,
    permutation,
    line_factors,
    broadcast,
    broadcast_in_part,
    one_value,
    copied,
    misplaced,
}
# Hypotheses about wrong entries. They do not apply if only the leaf as a whole exceeds its tolerance.
OF_WRONG_ENTRIES = {
    zeros,
    other_mask,
    copied,
    broadcast_in_part,
    missing_mask,
    masked,
    ties,
    overwritten,
    clipping,
    few_entries,
    precision,
}
# Hypotheses that apply to complex numbers.
OF_COMPLEX = {zeros, conjugated, constant_factor}
