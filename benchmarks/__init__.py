"""How well the judge judges: planted faults, correct networks, and other people's checkers beside it."""
