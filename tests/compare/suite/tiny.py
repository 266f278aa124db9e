"""Every model of the command as small as it can be."""

SMALL = {"batch": 3, "hidden": 4, "iterations": 2}
TINY = {
    "mlp": SMALL | {"layers": 1},
    "convnet": SMALL,
    **dict.fromkeys(("rnn", "lstm", "gru"), SMALL | {"length": 5}),
    "gpt": SMALL | {"length": 5, "layers": 1, "heads": 2},
}
