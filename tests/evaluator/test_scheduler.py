"""Which waiting prompts start next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.evaluator.scheduler import Prompt, Scheduler


def prompts(request: str, *lengths: int) -> list[Prompt]:
    return [Prompt(request, number, (1,) * length) for number, length in enumerate(lengths)]


def numbers(taken: list[Prompt]) -> list[tuple[str, int]]:
    return [(prompt.request, prompt.number) for prompt in taken]


def test_longest_prompts_start_first() -> None:
    scheduler = Scheduler()
    scheduler.add("a", prompts("a", 2, 5, 3))
    assert numbers(scheduler.take(8)) == [("a", 1), ("a", 2), ("a", 0)]


def test_a_short_request_does_not_wait_for_a_long_one() -> None:
    scheduler = Scheduler()
    scheduler.add("long", prompts("long", *[1] * 10))
    scheduler.take(4)
    scheduler.retire("long")
    scheduler.add("short", prompts("short", 1))
    assert numbers(scheduler.take(1)) == [("short", 0)]


def test_rows_are_shared_between_requests() -> None:
    scheduler = Scheduler()
    scheduler.add("a", prompts("a", 1, 1, 1, 1))
    scheduler.add("b", prompts("b", 1, 1, 1, 1))
    assert [request for request, _ in numbers(scheduler.take(4))] == ["a", "b", "a", "b"]


def test_a_request_ends_with_its_last_row() -> None:
    scheduler = Scheduler()
    scheduler.add("a", prompts("a", 1, 1))
    scheduler.take(2)
    assert [scheduler.retire("a"), scheduler.retire("a")] == [False, True]
    assert scheduler.requests == ()


def test_a_dropped_request_has_no_prompts_left() -> None:
    scheduler = Scheduler()
    scheduler.add("a", prompts("a", 1, 1))
    scheduler.drop("a")
    assert scheduler.take(2) == []


def test_a_request_is_queued_once() -> None:
    scheduler = Scheduler()
    scheduler.add("a", prompts("a", 1))
    with pytest.raises(ValueError, match="queued already"):
        scheduler.add("a", prompts("a", 1))


@given(
    st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=5),
    st.lists(st.integers(1, 6), min_size=1, max_size=40),
)
def test_every_prompt_runs_exactly_once(requests: list[list[int]], frees: list[int]) -> None:
    scheduler = Scheduler()
    expected = []
    for index, lengths in enumerate(requests):
        scheduler.add(f"r{index}", prompts(f"r{index}", *lengths))
        expected += [(f"r{index}", number) for number in range(len(lengths))]
    seen = []
    while scheduler.requests:
        taken = scheduler.take(frees[len(seen) % len(frees)])
        seen += numbers(taken)
        for prompt in taken:
            scheduler.retire(prompt.request)
    assert sorted(seen) == sorted(expected)


def test_a_request_that_goes_on_does_not_end_with_its_last_row() -> None:
    scheduler = Scheduler()
    scheduler.add("a", prompts("a", 1), more=True)
    scheduler.take(1)
    assert not scheduler.retire("a")
    assert not scheduler.working
    assert scheduler.add("a", [])
    assert scheduler.requests == ()


def test_later_prompts_of_a_request_are_sorted_among_those_that_wait() -> None:
    scheduler = Scheduler()
    scheduler.add("a", prompts("a", 2, 5), more=True)
    scheduler.add("a", [Prompt("a", 7, (1,) * 3)])
    assert numbers(scheduler.take(8)) == [("a", 1), ("a", 7), ("a", 0)]


def test_a_prompt_that_does_not_fit_yet_is_not_overtaken() -> None:
    scheduler = Scheduler()
    scheduler.add("a", prompts("a", 3, 9))
    assert scheduler.take(8, lambda taken: all(len(prompt.tokens) < 9 for prompt in taken)) == []
    assert numbers(scheduler.take(8, lambda taken: len(taken) < 2)) == [("a", 1)]
    assert numbers(scheduler.take(8)) == [("a", 0)]
