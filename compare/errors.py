"""What is raised for input that cannot be worked with, and around the code under test."""


class BadInput(ValueError):
    """What the user gave cannot be worked with; the message says what came, what was expected, what to do."""


class CodeUnderTestFailed(Exception):
    """The code under test raised, or returned what it should not. `error` says what.

    At the caller's own point, `error` itself is raised; elsewhere the code may refuse what its caller never gave it.
    An exception of the judge's own is never one of these.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error
