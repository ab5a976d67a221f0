"""What is wrong with a large file: the first faults in full, and the number of the others."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.traces.trace import TraceError, Violation

MAX_VIOLATIONS = 100


class Faults:
    """Keeps the first MAX_VIOLATIONS faults of the records of a file and counts all."""

    def __init__(self) -> None:
        self.kept: list[Violation] = []
        self.count = 0
        self.records = 0

    def add(self, violations: Sequence[Violation]) -> None:
        """Notes the faults of one record."""
        self.kept += violations[: MAX_VIOLATIONS - len(self.kept)]
        self.count += len(violations)
        self.records += 1

    def raise_any(self) -> None:
        """Raises TraceError if there is a fault; one more violation counts those that are not shown."""
        if not self.count:
            return
        hidden = self.count - len(self.kept)
        text = f"and {hidden} more faults; {self.records} records have some. Correct these first."
        raise TraceError([*self.kept, Violation("…", text)] if hidden else self.kept)
