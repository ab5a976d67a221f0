"""The scorer and its worker processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tunix_rt.judges.corruption import corrupted
from tunix_rt.rpc.errors import Reason, Unavailable
from tunix_rt.scoring.formula_process import Limits
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.traces.trace import Trace

LONG = "+".join(rf"\sin({n}x)" for n in range(1, 75))  # takes a tenth of a second


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    made = Scorer(workers=1)
    yield made
    made.close()


def root(scorer: Scorer) -> str:
    return scorer.score(r"Answer: 2\sqrt{2}", r"\sqrt{8}").outcome


def long(scorer: Scorer) -> tuple[str, bool]:
    outcome = scorer.score(f"Answer: {LONG}", f"0+{LONG}", "expression")
    return outcome.outcome, outcome.timed_out


def test_formulas_are_scored_like_other_answers(scorer: Scorer) -> None:
    outcome = scorer.score("So \\(\\sqrt8\\).\nAnswer: 2\\sqrt{2}", r"\sqrt{8}", format="answer-line")
    assert (outcome.outcome, outcome.score, outcome.strict_score) == ("correct", 1.0, 1.0)
    assert (outcome.extracted, outcome.rule, outcome.timed_out) == (r"2\sqrt{2}", "answer_line", False)
    assert scorer.score(r"Answer: 3\sqrt{2}", r"\sqrt{8}").outcome == "wrong"
    assert scorer.equivalent(r"\sin 30^\circ", r"\frac12", "expression")


def test_a_worker_is_started_when_a_formula_needs_one(scorer: Scorer) -> None:
    scorer.score("Answer: 2(x + 1)", "2x + 2")
    assert scorer.pids == set()
    root(scorer)
    assert len(scorer.pids) == 1


def test_a_worker_serves_many_comparisons(scorer: Scorer) -> None:
    root(scorer)
    before = scorer.pids
    assert {root(scorer) for _ in range(20)} == {"correct"}
    assert scorer.pids == before


def test_a_comparison_past_its_deadline_has_failed_and_the_next_one_has_not() -> None:
    scorer = Scorer(Limits(cpu_seconds=0.02), workers=1)
    root(scorer)
    before = scorer.pids
    assert long(scorer) == ("failed", True)
    assert not scorer.equivalent(LONG, f"0+{LONG}", "expression")
    assert root(scorer) == "correct"
    assert not scorer.pids & before
    scorer.close()


def test_the_deadline_begins_with_the_work_and_not_in_the_queue() -> None:
    scorer = Scorer(Limits(cpu_seconds=1.0), workers=1)
    with ThreadPoolExecutor(12) as threads:
        assert set(threads.map(lambda _: long(scorer), range(12))) == {("correct", False)}
    scorer.close()


def test_no_more_workers_run_than_are_allowed() -> None:
    scorer = Scorer(workers=2)
    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(lambda _: root(scorer), range(30))) == {"correct"}
    assert len(scorer.pids) <= 2
    scorer.close()


def test_a_killed_worker_is_replaced(scorer: Scorer) -> None:
    root(scorer)
    (pid,) = scorer.pids
    os.kill(pid, signal.SIGKILL)
    assert root(scorer) == "correct"
    assert scorer.pids != {pid}


def test_a_worker_that_hangs_is_replaced() -> None:
    scorer = Scorer(Limits(wall_seconds=3.0), workers=1)
    root(scorer)
    (pid,) = scorer.pids
    os.kill(pid, signal.SIGSTOP)
    assert root(scorer) == "correct"
    assert pid not in scorer.pids
    scorer.close()


def test_a_worker_that_cannot_run_is_an_error_and_no_score() -> None:
    scorer = Scorer(Limits(wall_seconds=0.001), workers=1)
    with pytest.raises(Unavailable, match="ended twice") as caught:
        root(scorer)
    assert caught.value.reason == Reason.SCORER_FAILED
    assert scorer.pids == set()
    scorer.close()


def test_a_comparison_beyond_its_memory_has_failed() -> None:
    scorer = Scorer(Limits(memory_bytes=16 << 20), workers=1)
    outcome = scorer.score("." * 10_000_000 + "\nAnswer: 2√2", "√8")
    assert (outcome.outcome, outcome.timed_out, outcome.extracted) == ("failed", False, "2√2")
    assert scorer.pids == set()
    scorer.close()


def test_a_closed_scorer_has_no_worker_and_starts_none(scorer: Scorer) -> None:
    root(scorer)
    (pid,) = scorer.pids
    scorer.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(Unavailable, match="is stopping"):
        root(scorer)


def test_a_worker_has_limits_and_nothing_of_the_server(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNIX_RT_BLOBS", "s3://key:secret@store/bucket")
    root(scorer)
    (pid,) = scorer.pids
    process = Path(f"/proc/{pid}")
    limits = [line.split() for line in (process / "limits").read_text().splitlines()]
    assert ["Max", "address", "space", "1073741824", "1073741824", "bytes"] in limits
    assert b"TUNIX_RT_BLOBS" not in (process / "environ").read_bytes()
    files = {int(each.name): str(each.readlink()) for each in (process / "fd").iterdir()}
    assert files[0] == "/dev/null"
    assert files[1] == files[2]  # standard error
    assert [name.split(":")[0] for number, name in sorted(files.items()) if number > 2] == ["pipe", "pipe"]


def test_a_formula_is_made_wrong_by_the_rules_for_formulas(scorer: Scorer) -> None:
    item = Trace("t", "What is the square root of 8?", (), r"2\sqrt{2}")
    made = corrupted(item, [], format="answer-line", seed=0, rules=scorer)
    assert scorer.score(made.right, item.final_answer).outcome == "correct"
    assert scorer.score(made.wrong, item.final_answer).outcome == "wrong"
