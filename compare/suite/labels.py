"""What a column of labels says: classes, as outputs of 0 and 1. Targets of a regression are told from them."""

from typing import NamedTuple

import numpy as np

from compare.errors import BadInput

MOST_CLASSES = 100
FEW = 10  # classes that whole numbers may always stand for, however few the examples


class Labels(NamedTuple):
    """`y` is (examples, outputs), 0 or 1. `classes` are named in the order of the outputs: of two, the second is 1."""

    y: np.ndarray
    classes: list[str]


def labels(name: str, y: np.ndarray) -> Labels:
    """Labels as a file has them, in the form in which the network learns them.

    Two classes become one output, more of them an output each. 0 and 1 stay what they are.

    Args:
        name: What the data is called, for messages.
        y: (examples,) or (examples, 1): numbers or texts.

    Returns:
        The labels, and the names of the classes; of 0 and 1, no names.

    Raises:
        BadInput: If they are no classes, or one class only.
    """
    values = y.reshape(len(y))
    numbers = values.dtype.kind in "biuf"
    if numbers and np.isin(values, (0, 1)).all():
        return Labels(values[:, np.newaxis].astype(float), [])
    if numbers:
        _refuse_targets(name, values)
    found, places = np.unique(values, return_inverse=True)
    if len(found) > MOST_CLASSES or (len(found) > FEW and 2 * len(found) > len(values)):
        kind = "numbers: these are no classes but targets of a regression" if numbers else "texts: these are no classes"
        raise BadInput(f"{name}: y has {len(found)} different {kind}. {_CURE if numbers else 'Choose another column.'}")
    names = [f"{value:g}" if numbers else str(value) for value in found]
    if len(names) == 1:
        raise BadInput(
            f"{name}: every label is {names[0]}, so there is nothing to learn. Give examples of two classes."
        )
    table = places.reshape(-1, 1) if len(names) == 2 else np.eye(len(names))[places.reshape(-1)]
    return Labels(table.astype(float), names)


def told(found: Labels) -> list[str]:
    """What was made of them, in a sentence."""
    if not found.classes:
        return []
    if len(found.classes) == 2:
        return [f"the label {found.classes[0]} is 0, and {found.classes[1]} is 1"]
    return [f"{len(found.classes)} classes have an output each: {', '.join(found.classes)}"]


_CURE = (
    "This network has sigmoid outputs and cross-entropy, and does not learn by mean squared error: give classes, "
    "0 or 1 for below or above a limit, say."
)


def _refuse_targets(name: str, values: np.ndarray) -> None:
    for i, value in enumerate(values.astype(float)):
        if np.isfinite(value) and value != round(value):
            raise BadInput(
                f"{name}: y is {value:g} at example {i} (counted from 0), which is no class but a target of a "
                f"regression. {_CURE}"
            )
        if not np.isfinite(value):
            raise BadInput(
                f"{name}: y holds {value} at example {i}, column 0 (counted from 0). Remove or fill in what is missing."
            )
