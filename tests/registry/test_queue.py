from __future__ import annotations


async def test_first(registry):
    job = await registry.running()
    assert job.status.attempt == 1
    done = await registry.succeed_run(job)
    assert done.status.state == 3
