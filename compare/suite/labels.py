"""Converts a column of labels into outputs of 0 and 1, and rejects columns with targets of a regression."""

from typing import NamedTuple

import numpy as np

from compare.errors import BadInput

MOST_CLASSES = 100
FEW = 10  # up to this many different labels are accepted as classes, even if most of them occur once only


class Labels(NamedTuple):
    """Labels as outputs.

    `y` has the shape (examples, outputs) and holds 0 and 1. `classes` are the names of the classes in the order of the
    outputs. Two classes have one output, which is 1 for the second.
    """

    y: np.ndarray
    classes: list[str]


def labels(name: str, y: np.ndarray) -> Labels:
    """Convert the labels of a file into outputs of the network.

    Two classes become one output. Three or more classes have an output each. Labels that are 0 and 1 are not changed.

    Args:
        name: the name of the data, for messages.
        y: numbers or texts of shape (examples,) or (examples, 1).

    Returns:
        The labels with the names of the classes. Labels that are 0 and 1 have no names.

    Raises:
        BadInput: if they are not classes, or there is one class only.
    """
    values = y.reshape(len(y))
    numbers = values.dtype.kind in "biuf"
    if numbers and np.isin(values, (0, 1)).all():
        return Labels(values[:, np.newaxis].astype(float), [])
    if numbers:
        _refuse_targets(name, values)
    found, places = np.unique(values, return_inverse=True)
    if len(found) > MOST_CLASSES or (len(found) > FEW and 2 * len(found) > len(values)):
        kind = "numbers: these look like targets of a regression" if numbers else "texts, too many for classes"
        raise BadInput(f"{name}: y has {len(found)} different {kind}. {_CURE if numbers else 'Choose another column.'}")
    names = [f"{value:g}" if numbers else str(value) for value in found]
    if len(names) == 1:
        raise BadInput(
            f"{name}: every label is {names[0]}, so there is nothing to learn. Give examples of two classes."
        )
    table = places.reshape(-1, 1) if len(names) == 2 else np.eye(len(names))[places.reshape(-1)]
    return Labels(table.astype(float), names)


def told(found: Labels) -> list[str]:
    """Sentences on how the labels were converted; none if they are 0 and 1."""
    if not found.classes:
        return []
    if len(found.classes) == 2:
        return [f"the label {found.classes[0]} is 0, and {found.classes[1]} is 1"]
    told = [f"each of the {len(found.classes)} classes has an output: {', '.join(found.classes)}"]
    if len(found.classes) > FEW and all(map(is_number, found.classes)):
        told.append("if y is a quantity and no class, this network does not suit it: it cannot learn a regression")
    return told


def is_number(text: str) -> bool:
    """Whether Python reads the text as a floating-point number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


_CURE = (
    "This network has sigmoid outputs and a cross-entropy loss, and cannot learn a regression. Give classes, for "
    "example 0 and 1 for values below and above a limit."
)


def _refuse_targets(name: str, values: np.ndarray) -> None:
    for i, value in enumerate(values.astype(float)):
        if np.isfinite(value) and value != round(value):
            raise BadInput(
                f"{name}: y is {value:g} at example {i} (counted from 0), which looks like the target of a regression. "
                f"{_CURE}"
            )
        if not np.isfinite(value):
            raise BadInput(
                f"{name}: y is {value} at example {i}, column 0 (counted from 0). Remove it, or fill in a value."
            )
