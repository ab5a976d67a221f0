"""What is known of a judge, and what it said, in sentences."""

from __future__ import annotations

from typing import Protocol


class Share(Protocol):
    """A share with its interval, such as a `Score`."""

    @property
    def mean(self) -> float:
        """The share."""

    @property
    def low(self) -> float:
        """The lower end of its interval."""

    @property
    def high(self) -> float:
        """The upper end of its interval."""

    @property
    def count(self) -> int:
        """Of how many."""


class Calibration(Protocol):
    """What a calibration has found, such as a `JudgeCalibration`."""

    count: int
    kappa: float
    kappa_low: float
    kappa_high: float
    length_bias: float
    undecided_count: int
    threshold: float
    may_rank: bool

    @property
    def agreement(self) -> Share:
        """Verdicts that agree with the truth."""

    @property
    def sensitivity(self) -> Share:
        """Right outputs that are accepted."""

    @property
    def specificity(self) -> Share:
        """Corrupted outputs that are not accepted."""

    @property
    def flip_rate(self) -> Share:
        """Pairs whose preferred output changes with the order."""

    @property
    def self_consistency(self) -> Share:
        """Outputs with the same verdict in other words."""


def calibration_verdict(found: Calibration) -> str:
    """Whether the judge may rank, and by what."""
    kappa = f"kappa {found.kappa:.2f} [{found.kappa_low:.2f}, {found.kappa_high:.2f}]"
    rule = f"its lower end must reach {found.threshold:.2f}"
    if found.may_rank:
        return f"This judge may rank: {kappa}; {rule}."
    if found.kappa_low >= found.threshold:
        return f"This judge may not rank yet: {kappa} is enough, but {found.count // 2} items are too few."
    return f"This judge may not rank: {kappa}; {rule}."


def calibration_rows(found: Calibration) -> list[tuple[str, Share, str]]:
    """The shares of a calibration: name, value, what it is the share of."""
    rows = [
        ("Agreement", found.agreement, "verdicts that agree with the truth"),
        ("Sensitivity", found.sensitivity, "right outputs that are accepted"),
        ("Specificity", found.specificity, "corrupted outputs that are not accepted"),
        ("Self-consistency", found.self_consistency, "same verdict when asked in other words"),
        ("Flips", found.flip_rate, "pairs whose preferred output changes with the order"),
    ]
    return [row for row in rows if row[1].count]


def calibration_sentences(found: Calibration) -> list[str]:
    """What the shares do not say."""
    bias = f"{found.length_bias * 100:+.0f} points"
    told = [f"A paragraph that says nothing changes the share that is accepted by {bias}."]
    if found.undecided_count:
        told.append(f"{found.undecided_count:,} of {found.count:,} outputs got no readable verdict.")
    if not found.flip_rate.count:
        told.append("No pair was decided in both orders.")
    return told
