"""Evaluates the hand-written side and the reference, at the caller's point and at perturbed points."""
