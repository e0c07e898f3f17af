"""The root of Stockade's errors: each says what happened, what was kept, and what to do next."""


class StockadeError(Exception):
    """What happened; ``kept`` says what stays as it was; ``remedy`` what to do next."""

    def __init__(self, message: str, *, kept: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kept = kept
        self.remedy = remedy
