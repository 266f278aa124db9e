"""What is raised for input that cannot be worked with."""


class BadInput(ValueError):
    """What the user gave cannot be worked with; the message says what came, what was expected, what to do."""
