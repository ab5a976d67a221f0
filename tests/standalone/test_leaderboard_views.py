"""Leaderboards and verifications in the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from tunix_rt.standalone.leaderboard_views import is_filtered, leaderboard_view, verification_view
from tunix_rt.v1 import evaluation_pb2, registry_service_pb2

Leaderboard = registry_service_pb2.Leaderboard
Verified = registry_service_pb2.VerifyEvaluationResponse


def rendered(view) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(view)
    return stream.getvalue()


def board(*entries, **fields) -> Leaderboard:
    spec = evaluation_pb2.EvaluationSpec(split="test", scorer="exact-answer@2", format="tags")
    made = Leaderboard.Board(split="test", spec=spec, entries=entries, **fields)
    return Leaderboard(dataset="datasets/sums", boards=[made])


def entry(rank: int, subject: str, mean: float, **fields) -> Leaderboard.Entry:
    score = evaluation_pb2.Score(mean=mean, low=mean - 0.1, high=mean + 0.1, count=100)
    return Leaderboard.Entry(rank=rank, subject=subject, score=score, **fields)


def cells(text: str, subject: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if subject in line]
    return [cell.strip() for cell in line.strip("│").split("│")]


TIED = (
    entry(1, "runs/best", 0.8),
    entry(1, "runs/near", 0.7, tie_p_value=0.0625, override_reason="3 of 100 items contaminated"),
    entry(3, "predictors/far", 0.3),
)


def test_ties_are_shown_as_ties_with_their_p_value() -> None:
    text = rendered(leaderboard_view(board(*TIED)))
    assert [cells(text, each.subject)[0] for each in TIED] == ["1=", "1=", "3"]
    assert [cells(text, name)[4] for name in ("runs/best", "runs/near")] == ["", "0.062"]
    assert "the paired test does not separate it from the first of its rank" in text


def test_what_does_not_count_fully_is_marked() -> None:
    text = rendered(leaderboard_view(board(*TIED)))
    assert cells(text, "runs/near")[-1] == "3 of 100 items contaminated"
    assert cells(text, "predictors/far")[-1] == "contamination not checked"


def test_a_board_without_ties_says_nothing_of_them() -> None:
    assert "does not separate" not in rendered(leaderboard_view(board(entry(1, "runs/a", 0.5))))


def test_entries_without_a_rank_have_a_dash() -> None:
    text = rendered(leaderboard_view(board(entry(0, "runs/a", 0.5), unranked_reason="No judge.")))
    assert cells(text, "runs/a")[0] == "–"
    assert "Not ranked. No judge." in text


def test_an_empty_leaderboard_says_whether_it_was_filtered() -> None:
    request = registry_service_pb2.GetLeaderboardRequest(dataset="datasets/sums")
    assert not is_filtered(request)
    request.section = "x"
    assert is_filtered(request)
    empty = Leaderboard(dataset="datasets/sums")
    assert "passes these filters" in rendered(leaderboard_view(empty, filtered=True))
    assert "`tunix-rt evaluate` makes one" in rendered(leaderboard_view(empty))


def test_a_verification_is_told_in_a_sentence() -> None:
    name = "evaluations/e"
    found = Verified(verified=True, item_count=6, scorer="exact-answer@2")
    assert rendered(verification_view(name, found)) == (
        "evaluations/e is verified: its 6 outputs, scored again by exact-answer@2, give the stored result.\n"
    )
    changed = Verified(difference="item `t1`: outcome is CORRECT, made again WRONG")
    assert "not what its items give: item `t1`" in rendered(verification_view(name, changed))
    unknown = Verified(unverifiable_reason="The judge `endpoints/e` made the scores.")
    assert "cannot be verified here. The judge" in rendered(verification_view(name, unknown))
