"""Both sides at one point, at others, and what can be measured there."""
