"""Many workers on several registries fail, die and answer twice; each attempt is given and ended once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from google.protobuf.duration_pb2 import Duration
from google.rpc import status_pb2
from grpc.aio import AioRpcError

from tunix_rt.rpc.status import reason_of, status_of
from tunix_rt.v1 import artifact_pb2, job_service_pb2, registry_service_pb2
from tunix_rt.v1.job_pb2 import JobState

JOBS, WORKERS = 30, 12
OUTCOMES = ("result", "error", "retryable", "released", "dies", "dies")
OPEN = (JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_RUNNING)


class Race:
    """What the workers were given, and which ends of attempts were acknowledged to them."""

    def __init__(self, registries, clock):
        self.registries, self.clock, self.dice = registries, clock, random.Random(1)
        self.given: list[tuple[str, int]] = []
        self.ended: list[tuple[str, int, str]] = []

    async def states(self):
        listed = await self.registries[0].registry.ListRuns(registry_service_pb2.ListRunsRequest())
        return {run.name: run.status for run in listed.runs}

    async def work(self, number):
        """Claims as a new worker each time, until all jobs have ended."""
        registry = self.registries[number % len(self.registries)]
        for turn in range(100):
            job = await registry.claim(worker=f"{number}-{turn}", lease=Duration(seconds=10))
            if job.name:
                self.given.append((job.name, job.status.attempt))
                await self.end(job, self.dice.choice(OUTCOMES))
            elif all(status.state not in OPEN for status in (await self.states()).values()):
                return
            else:
                self.clock.advance(11)  # the leases of the dead run out, and those of the slow

    async def end(self, job, outcome):
        if outcome == "dies":
            return
        request = job_service_pb2.FinishJobRequest(name=job.name, attempt=job.status.attempt)
        try:
            if outcome == "result":
                artifact = artifact_pb2.Artifact(kind="model", files=[self.file])
                record = job_service_pb2.RecordArtifactRequest(
                    name=job.name, attempt=job.status.attempt, artifact=artifact
                )
                made = await self.registries[1].jobs.RecordArtifact(record)
                request.run.model_artifact = made.name
            elif outcome == "released":
                request.released.SetInParent()
            else:
                request.error.CopyFrom(status_pb2.Status(code=13, message="crashed"))
                request.retryable = outcome == "retryable"
            twice = [each.jobs.FinishJob(request) for each in self.registries[:2]]
            await asyncio.gather(*twice)
        except AioRpcError as error:
            assert reason_of(status_of(error)) == "LEASE_LOST"
        else:
            self.ended.append((job.name, job.status.attempt, outcome))


async def test_every_job_ends_and_every_attempt_is_given_and_ended_once(open_registry, clock):
    first = await open_registry(clock=clock)
    registries = [first, *[await open_registry(database=first.database, clock=clock) for _ in range(2)]]
    spec = {"dataset": (await first.sealed_dataset()).name, "model": await first.model()}
    queued = [(await first.enqueue(**spec)).name for _ in range(JOBS)]
    race = Race(registries, clock)
    race.file = await first.upload(b"weights")
    race.file.path = "model.safetensors"
    await asyncio.gather(*(race.work(number) for number in range(WORKERS)))

    states = await race.states()
    assert not [name for name in queued if states[name].state in OPEN]
    attempts = [(name, n) for name in queued for n in range(1, states[name].attempt + 1)]
    assert sorted(race.given) == sorted(attempts)  # none twice, none lost
    assert max(Counter((name, attempt) for name, attempt, _ in race.ended).values()) == 1
    results = {name for name, _, outcome in race.ended if outcome == "result"}
    assert results == {name for name in queued if states[name].state == JobState.JOB_STATE_SUCCEEDED}
