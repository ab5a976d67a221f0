"""The error for model files that cannot be used."""


class ModelError(ValueError):
    """A model file is missing, broken or of a kind that is not supported.

    `field` names the place ("config.json: rope_scaling"), `remedy` says what to do; the message holds both.
    """

    def __init__(self, field: str, problem: str, *, remedy: str) -> None:
        super().__init__(f"{field}: {problem} {remedy}")
        self.field = field
        self.problem = problem
        self.remedy = remedy
