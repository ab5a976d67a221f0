"""Requests that have come so far are given together; an error drops the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.rpc.streams import read_ahead


async def numbers(count: int, sent: list[int]) -> AsyncIterator[int]:
    for number in range(count):
        sent.append(number)
        yield number


async def test_what_comes_during_the_work_is_given_together_and_in_order() -> None:
    sizes: list[int] = []
    found: list[int] = []
    async with read_ahead(numbers(10, []), 4) as groups:
        async for group in groups:
            found += group
            sizes.append(len(group))
            for _ in range(20):
                await asyncio.sleep(0)
    assert found == list(range(10))
    assert max(sizes) == 4


async def test_no_more_is_read_than_the_limit_ahead() -> None:
    sent: list[int] = []
    async with read_ahead(numbers(100, sent), 4) as groups:
        async for _ in groups:
            for _ in range(50):
                await asyncio.sleep(0)
            break
    assert len(sent) <= 4 + 4 + 1


async def test_an_error_reads_what_is_still_sent() -> None:
    sent: list[int] = []
    with pytest.raises(InvalidArgument):
        async with read_ahead(numbers(100, sent), 4) as groups:
            async for _ in groups:
                raise InvalidArgument.of("field", "is wrong.")
    assert len(sent) == 100


async def test_an_error_of_the_stream_reaches_the_reader() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("cut")

    found: list[int] = []
    with pytest.raises(ConnectionError):
        async with read_ahead(broken(), 4) as groups:
            async for group in groups:
                found += group
    assert found == [1]
