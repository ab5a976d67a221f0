"""Log lines through the API."""

from __future__ import annotations

import asyncio

from google.protobuf.duration_pb2 import Duration

from tunix_rt.v1 import job_service_pb2, registry_service_pb2


async def send(registry, job, lines, offset=0, *, size=1000):
    async def messages():
        for first in range(0, len(lines), size):
            yield job_service_pb2.StreamLogsRequest(
                name=job.name,
                attempt=job.status.attempt,
                offset=offset + first,
                lines=lines[first : first + size],
            )

    return [response.committed async for response in registry.jobs.StreamLogs(messages())]


async def list_logs(registry, name, token="", **fields):
    request = registry_service_pb2.ListLogsRequest(name=name, resume_token=token, **fields)
    return await registry.registry.ListLogs(request)


async def test_lines_of_all_attempts_come_back_in_order(registry):
    first = await registry.running()
    assert await send(registry, first, ["a", "NUL \0", "", "ü"], size=2) == [0, 2, 4]
    released = job_service_pb2.FinishJobRequest(
        name=first.name, attempt=1, released=job_service_pb2.Released()
    )
    await registry.jobs.FinishJob(released)
    second = await registry.claim()
    assert await send(registry, second, ["b"]) == [0, 1]
    lines = (await list_logs(registry, first.name)).lines
    assert [(line.attempt, line.offset, line.text) for line in lines] == [
        (1, 0, "a"), (1, 1, "NUL \0"), (1, 2, ""), (1, 3, "ü"), (2, 0, "b"),
    ]  # fmt: skip
    failure = await registry.failure_of(send(registry, first, ["late"], 4))
    assert failure.reason == "LEASE_LOST"


async def test_repeated_lines_are_stored_once_and_gaps_are_refused(registry):
    job = await registry.running()
    await send(registry, job, ["a", "b"])
    assert await send(registry, job, ["b", "c"], 1) == [2, 3]
    assert [line.text for line in (await list_logs(registry, job.name)).lines] == ["a", "b", "c"]
    failure = await registry.failure_of(send(registry, job, ["x"], 4))
    assert failure.reason == "STREAM_GAP"


async def test_pages_resume_in_the_middle_of_a_message(registry):
    job = await registry.running()
    await send(registry, job, [f"line {i}" for i in range(25)], size=10)
    texts, token = [], ""
    while lines := (page := await list_logs(registry, job.name, token, page_size=7)).lines:
        texts += [line.text for line in lines]
        token = page.resume_token
    assert texts == [f"line {i}" for i in range(25)]


async def test_large_lines_are_paged_by_bytes_and_limited(registry):
    job = await registry.running()
    await send(registry, job, ["x" * 1_000_000] * 9, size=1)
    counts, token = [], ""
    while lines := (page := await list_logs(registry, job.name, token)).lines:
        counts.append(len(lines))
        token = page.resume_token
    assert sum(counts) == 9
    assert max(counts) <= 5
    failure = await registry.failure_of(send(registry, job, ["x" * (1 << 20), "y"], 9))
    assert failure.reason == "LIMIT_EXCEEDED"


async def test_lines_are_searched_over_chunks_and_pages(registry):
    job = await registry.running()
    await send(registry, job, [f"step {i}{' saved' * (i % 10 == 0)}" for i in range(1, 41)], size=3)
    found, token = [], ""
    while lines := (page := await list_logs(registry, job.name, token, contains="saved", page_size=3)).lines:
        found += [line.text for line in lines]
        token = page.resume_token
    assert found == ["step 10 saved", "step 20 saved", "step 30 saved", "step 40 saved"]


async def test_a_search_goes_beyond_pages_without_a_match(registry):
    job = await registry.running()
    await send(registry, job, ["x" * 1_000_000] * 9 + ["needle"], size=1)
    assert [line.offset for line in (await list_logs(registry, job.name, contains="needle")).lines] == [9]


async def test_a_long_search_text_is_refused(registry):
    job = await registry.running()
    failure = await registry.failure_of(list_logs(registry, job.name, contains="x" * 1001))
    assert list(failure.fields) == ["contains"]


async def test_a_list_waits_for_a_line(registry):
    job = await registry.running()
    waiting = asyncio.create_task(list_logs(registry, job.name, wait=Duration(seconds=20)))
    await send(registry, job, ["now"])
    assert [line.text for line in (await waiting).lines] == ["now"]
