"""Items in parts."""

from __future__ import annotations

from collections.abc import Iterator

from tunix_rt.evaluator.chunks import chunks
from tunix_rt.evaluator.messages import Item


def items(count: int, size: int = 1) -> list[Item]:
    return [Item(number, ({"role": "user", "content": "x" * size},)) for number in range(count)]


def parts(given: list[Item], **limits: int) -> list[tuple[list[int], bool]]:
    return [([item.number for item in part], more) for part, more in chunks(given, **limits)]


def test_parts_have_at_most_so_many_items() -> None:
    assert parts(items(5), most_items=2) == [([0, 1], True), ([2, 3], True), ([4], False)]


def test_the_last_part_may_be_full() -> None:
    assert parts(items(4), most_items=2) == [([0, 1], True), ([2, 3], False)]


def test_parts_have_at_most_so_many_bytes() -> None:
    assert parts(items(3, size=100), most_bytes=250) == [([0, 1], True), ([2], False)]


def test_an_item_that_is_too_large_is_a_part_of_its_own() -> None:
    assert parts(items(3, size=100), most_bytes=50) == [([0], True), ([1], True), ([2], False)]


def test_token_ids_count_as_bytes() -> None:
    given = [Item(number, tokens=(1,) * 10) for number in range(2)]
    assert parts(given, most_bytes=100) == [([0], True), ([1], False)]


def test_no_items_are_one_empty_part() -> None:
    assert parts([]) == [([], False)]


def test_items_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def source() -> Iterator[Item]:
        for item in items(10):
            read.append(item.number)
            yield item

    next(chunks(source(), most_items=3))
    assert read == [0, 1, 2, 3]
