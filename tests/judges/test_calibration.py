"""What verdicts on known outputs say of a judge."""

import pytest

from tunix_rt.judges.calibration import PADDING, figures, judgings, refusal
from tunix_rt.judges.corruption import PureRules
from tunix_rt.judges.requests import JUDGINGS
from tunix_rt.traces.trace import Step, Trace

ITEM = Trace("t", "What is 2 + 2?", (Step(0, "compute", "2 + 2 = 4"),), "4")
PERFECT = (True, False, True, False, True, False, True, False)


def test_an_item_is_judged_in_eight_ways() -> None:
    found = judgings(ITEM, [], rubric="", format="answer-line", seed=1, rules=PureRules())
    assert len(found) == JUDGINGS
    assert [each.truth for each in found] == list(PERFECT)
    assert [each.case.wording for each in found] == [0, 0, 1, 1, 0, 0, 0, 0]
    assert found[4].shown == f"{PADDING}\n{found[0].shown}"
    assert (found[6].case.output, found[6].case.second) == (found[0].shown, found[1].shown)
    assert (found[7].case.output, found[7].case.second) == (found[1].shown, found[0].shown)
    assert {each.case.expected for each in found} == {"4"}


def test_a_perfect_judge() -> None:
    found = figures([PERFECT] * 40)
    assert (found.count, found.kappa, found.kappa_low, found.undecided_count) == (80, 1.0, 1.0, 0)
    assert set(found.agreement) | set(found.accepted_right) | set(found.not_accepted_wrong) == {1.0}
    assert (set(found.flips), set(found.consistent), found.length_bias) == ({0.0}, {1.0}, 0.0)


def test_a_judge_that_accepts_everything_knows_nothing() -> None:
    found = figures([(True,) * JUDGINGS] * 40)
    assert (sum(found.agreement), found.kappa) == (40, 0.0)
    assert (sum(found.accepted_right), sum(found.not_accepted_wrong)) == (40, 0)
    assert set(found.flips) == {1.0}  # A is right whichever output it is


def test_a_judge_that_prefers_length() -> None:
    found = figures([(False, False, False, False, True, True, True, False)] * 10)
    assert found.length_bias == 1.0


def test_without_a_verdict_an_output_agrees_with_nothing() -> None:
    found = figures([(None,) * JUDGINGS] * 10)
    assert (found.undecided_count, sum(found.agreement), found.kappa, found.flips) == (20, 0, 0.0, ())
    assert (sum(found.accepted_right), sum(found.not_accepted_wrong)) == (0, 10)
    assert sum(found.consistent) == 0


def test_a_known_mixture() -> None:
    some = (True, True, True, False, True, True, True, True)
    found = figures([PERFECT] * 30 + [some] * 10)
    assert found.kappa == pytest.approx(0.75)  # agree 70 of 80, by chance a half
    assert sum(found.not_accepted_wrong) == 30
    assert sum(found.flips) == 10
    assert sum(found.consistent) == 70
    assert found.kappa_low < 0.75 < found.kappa_high


def test_who_may_rank() -> None:
    assert refusal(0.4, 30, 0.4) == ""
    assert refusal(1.0, 29, 0.4) == "it was calibrated on 29 items, and 30 are needed"
    assert refusal(0.39, 30, 0.4) == "the lower end of its kappa is 0.39, and 0.40 is needed"


def test_no_items_have_no_figures() -> None:
    with pytest.raises(ValueError, match="no item"):
        figures([])
