"""What models may take, and which go: plain arithmetic."""

from __future__ import annotations

import pytest

from tunix_rt.evaluator.memory import (
    NoRoomError,
    Share,
    given_up,
    machine_bytes,
    memory_limit,
    size_text,
    total_bytes,
)

A, B, C = (Share(name, 100, 10) for name in "abc")
ON_A = Share("a", 100, 5)


def test_a_shared_base_counts_once() -> None:
    assert total_bytes([A, ON_A, B]) == 100 + 10 + 5 + 100 + 10


def test_the_first_idle_models_go_until_the_rest_fits() -> None:
    assert given_up({"a": A, "b": B}, [C], 330) == []
    assert given_up({"a": A, "b": B}, [C], 329) == ["a"]
    assert given_up({"a": A, "b": B}, [C], 110) == ["a", "b"]


def test_a_base_in_use_is_not_freed_by_giving_up_another_user() -> None:
    assert given_up({"a": A, "b": B}, [ON_A], 224) == ["a"]
    assert given_up({"a": A, "b": B}, [ON_A], 214) == ["a", "b"]


def test_nothing_goes_where_it_would_not_be_enough() -> None:
    with pytest.raises(NoRoomError):
        given_up({"a": A}, [B, C], 219)


def test_the_limit_is_the_setting_or_a_share_of_the_memory() -> None:
    assert memory_limit({"TUNIX_RT_ENGINE_MEMORY_BYTES": "123"}) == 123
    assert memory_limit({}) == int(0.6 * machine_bytes())


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 bytes"), (538_060_000, "538 MB"), (12_345_678_901, "12.3 GB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
