"""draft"""
from compare.exercise import activations, layers, losses, normalization, sequences, training, windows
from compare.exercise.entry import Exercise

EXERCISES: dict[str, Exercise] = {
    name: exercise
    for module in (layers, activations, losses, normalization, windows, sequences, training)
    for name, exercise in module.EXERCISES.items()
}
