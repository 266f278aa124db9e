"""The exceptions for unusable input and for errors of the code under test."""


class BadInput(ValueError):
    """The input cannot be used. The message says what was received, what was expected and what to do."""


class CodeUnderTestFailed(Exception):
    """The code under test raised an exception or returned something unusable; `error` says what.

    At the caller's own point, `error` itself is raised. At a perturbed point it becomes a note, because the code may
    reject values that its caller never uses. An exception in the judge's own code is never wrapped in this class.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error
