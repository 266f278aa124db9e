"""Reads update rules from the command line, such as `adamw:lr=0.001,weight_decay=0.01`, to check recorded updates.

With `clip=1`, the rule clips gradients by their global norm first. The recording then has the gradients before
clipping.
"""

import inspect
from difflib import get_close_matches

import autodiff.optimizers
from compare.errors import BadInput

NAMES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")
# Names of the hyperparameters in other libraries.
ALIASES = {"lr": "learning_rate", "eps": "epsilon", "wd": "weight_decay", "betas1": "beta1", "betas2": "beta2"}
CLIP = "clip"


def update_rule(text: str) -> autodiff.optimizers.Optimizer:
    """An optimizer by its name and hyperparameters.

    Args:
        text: `NAME:OPTION=VALUE,...`.

    Returns:
        The optimizer of `autodiff.optimizers`.

    Raises:
        BadInput: a ValueError, for an unknown name or option, or an invalid value.
    """
    name, _, rest = text.partition(":")
    if name not in NAMES:
        near = get_close_matches(name, NAMES, 1)
        hint = f" Is it {near[0]}?" if near else ""
        raise BadInput(f"--optimizer knows {', '.join(NAMES)}, got {name!r}.{hint}")
    make = getattr(autodiff.optimizers, name)
    known = [*inspect.signature(make).parameters, CLIP]
    options: dict[str, float] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        key = ALIASES.get(key.strip(), key.strip())
        if not equals or key not in known:
            raise BadInput(f"--optimizer {name} takes {', '.join(known)}, each as NAME=VALUE, got {part!r}.")
        try:
            options[key] = float(value)
        except ValueError:
            raise BadInput(f"--optimizer {name}: {key} must be a number, got {value!r}.") from None
    if "learning_rate" not in options:
        raise BadInput(f"--optimizer {name} needs lr=VALUE.")
    maximum = options.pop(CLIP, None)
    try:
        return make(**options) if maximum is None else autodiff.optimizers.clipped(make(**options), maximum)
    except ValueError as error:
        raise BadInput(f"--optimizer {name}: {error}") from None
