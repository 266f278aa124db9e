"""The possible causes of a wrong gradient, one function for each.

Each yields a diagnosis if the actual values are, to within rounding, those that its cause predicts. A similarity is not
enough. The last functions describe what is wrong where no cause is known.
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
    line_factors,
    missing_mask,
    otherwise,
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

# The simplest explanations come first. The last ones describe rather than explain.
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
    otherwise,
    weight_decay,
    missing_term,
    weighted_term_of_a_norm,
    another_array,
    another_factor,  # after another_array, because dy itself in the place of dy c would be explained by a factor
    broadcast,
    edited,
    other_number,
    missing_unnamed_term,
    weighted_term,
    another_quantity,
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
# Hypotheses about which entries are wrong; there are none if a leaf is wrong as a whole only.
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
