"""How a training job fails in a way that is known and explained."""


class TrainingFailure(Exception):
    """The job cannot go on, and why: `reason` is one of `docs/errors.md`, the message says what to do."""

    def __init__(self, reason: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable
