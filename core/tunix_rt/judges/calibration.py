"""A calibration: what a judge is asked about each item, and what its verdicts say of it; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunix_rt.judges.corruption import Rules, corrupted
from tunix_rt.judges.requests import Case
from tunix_rt.stats.agreement import bootstrap_kappa, kappa
from tunix_rt.traces.trace import Trace

MIN_ITEMS = 30  # with fewer the bootstrap says too little
DEFAULT_THRESHOLD = 0.4
PADDING = (
    "Before I begin, I read the question again from its first word to its last. It states what is given and "
    "what is asked for. I write down each part in the order in which it comes. I take care to leave nothing "
    "out and to add nothing. Then I look over what I have written once more, calmly and without haste."
)
_SEED = 0  # of the resampling, so that figures are a function of the verdicts


@dataclass(frozen=True)
class Judging:
    """One thing that a judge is asked. `truth`: whether the output, or the first of the pair, is right."""

    case: Case
    truth: bool

    @property
    def shown(self) -> str:
        """The text that is judged."""
        if self.case.second is None:
            return self.case.output
        return f"A:\n{self.case.output}\n\nB:\n{self.case.second}"


RIGHT, WRONG = 0, 1
RIGHT_AGAIN, WRONG_AGAIN = 2, 3
RIGHT_PADDED, WRONG_PADDED = 4, 5
RIGHT_FIRST, WRONG_FIRST = 6, 7


def judgings(
    trace: Trace,
    others: Sequence[str],
    *,
    rubric: str,
    format: str,  # noqa: A002
    seed: int,
    rules: Rules,
) -> tuple[Judging, ...]:
    """The JUDGINGS of an item, in the order of the constants above.

    The right and the corrupted output; both in a second wording of the request; both after a paragraph
    that says nothing; and as a pair in both orders. Raises ValueError for an item that cannot be
    corrupted.
    """
    made = corrupted(trace, others, format=format, seed=seed, rules=rules)

    def judging(output: str, truth: bool, **more: object) -> Judging:
        case = Case(trace.prompt, trace.final_answer, output, rubric, **more)  # type: ignore[arg-type]
        return Judging(case, truth)

    return (
        judging(made.right, True),
        judging(made.wrong, False),
        judging(made.right, True, wording=1),
        judging(made.wrong, False, wording=1),
        judging(f"{PADDING}\n{made.right}", True),
        judging(f"{PADDING}\n{made.wrong}", False),
        judging(made.right, True, second=made.wrong),
        judging(made.wrong, False, second=made.right),
    )


@dataclass(frozen=True)
class Figures:
    """What the verdicts add up to; lists of 0 and 1 whose means are the shares."""

    count: int
    agreement: tuple[float, ...]
    kappa: float
    kappa_low: float
    kappa_high: float
    accepted_right: tuple[float, ...]
    not_accepted_wrong: tuple[float, ...]
    flips: tuple[float, ...]
    consistent: tuple[float, ...]
    length_bias: float
    undecided_count: int


def figures(verdicts: Sequence[Sequence[bool | None]]) -> Figures:
    """The figures of the verdicts of each item, JUDGINGS an item, None where there is none.

    Without a verdict an output is not accepted, agrees with nothing and is consistent with nothing; a
    pair without one in either order is left out of the flips. Raises ValueError for no items.
    """
    if not verdicts:
        raise ValueError("no item was judged.")
    pairs = [(own[RIGHT], own[WRONG]) for own in verdicts]
    tables = [_table(right, wrong) for right, wrong in pairs]
    summed = [[sum(table[r][c] for table in tables) for c in range(3)] for r in range(3)]
    interval = bootstrap_kappa(tables, seed=_SEED)
    found = kappa(summed)
    outputs = [(own[at], own[again]) for own in verdicts for at, again in ((0, 2), (1, 3))]
    padded = [own[RIGHT_PADDED] is True for own in verdicts] + [own[WRONG_PADDED] is True for own in verdicts]
    accepted = [right is True for right, _ in pairs] + [wrong is True for _, wrong in pairs]
    orders = [(own[RIGHT_FIRST], own[WRONG_FIRST]) for own in verdicts]
    return Figures(
        count=2 * len(verdicts),
        agreement=tuple(float(x) for right, wrong in pairs for x in (right is True, wrong is False)),
        kappa=found,
        kappa_low=min(interval.low, found),
        kappa_high=max(interval.high, found),
        accepted_right=tuple(float(right is True) for right, _ in pairs),
        not_accepted_wrong=tuple(float(wrong is not True) for _, wrong in pairs),
        flips=tuple(float(a == b) for a, b in orders if a is not None and b is not None),
        consistent=tuple(float(first is not None and first == again) for first, again in outputs),
        length_bias=(sum(padded) - sum(accepted)) / len(accepted),
        undecided_count=sum(verdict is None for pair in pairs for verdict in pair),
    )


def refusal(kappa_low: float, items: int, threshold: float) -> str:
    """Why a judge of these figures may not rank; empty if it may."""
    if items < MIN_ITEMS:
        return f"it was calibrated on {items} items, and {MIN_ITEMS} are needed"
    if kappa_low < threshold:
        return f"the lower end of its kappa is {kappa_low:.2f}, and {threshold:.2f} is needed"
    return ""


def _table(right: bool | None, wrong: bool | None) -> list[list[int]]:
    """Counts of one item: right, wrong and undecided, the truth as rows and the verdict as columns."""

    def row(verdict: bool | None) -> list[int]:
        return [int(verdict is True), int(verdict is False), int(verdict is None)]

    return [row(right), row(wrong), [0, 0, 0]]
