"""Update rules by name, as `adamw:lr=0.001,weight_decay=0.01`, which recorded steps are held to.

With `clip=1`, gradients are clipped by their global norm first, so that a recording has them as they were found.
"""

import inspect
from difflib import get_close_matches

import autodiff.optimizers
from compare.errors import BadInput

NAMES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")
# What others call the constants.
ALIASES = {"lr": "learning_rate", "eps": "epsilon", "wd": "weight_decay", "betas1": "beta1", "betas2": "beta2"}
CLIP = "clip"


def update_rule(text: str) -> autodiff.optimizers.Optimizer:
    """The optimizer that is named, with its constants. Raises BadInput, a ValueError."""
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
