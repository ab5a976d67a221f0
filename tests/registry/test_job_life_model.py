"""Any history of the queue, told to two registries, is that of a model of forty lines."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import status_pb2
from grpc.aio import AioRpcError
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tunix_rt.rpc.status import reason_of, status_of
from tunix_rt.v1 import artifact_pb2, job_pb2, job_service_pb2, registry_service_pb2, run_pb2

MAX_ATTEMPTS = 5
WORKERS = st.sampled_from(["a", "b", "c"])
OUTCOMES = st.sampled_from(["result", "error", "retryable", "retryable", "released", "cancelled"])
PLACES = st.integers(0, 3)


@dataclass
class Life:
    """What is known of a job; `spent` attempts were not released, `told` is the last end of one."""

    state: str = "QUEUED"
    attempt: int = 0
    spent: int = 0
    stopping: bool = False
    worker: str = ""
    lease: datetime | None = None
    told: tuple[int, str] | None = None
    artifact: str = "artifacts/none"

    def claim(self, worker: str, until: datetime) -> bool:
        if self.stopping or self.spent == MAX_ATTEMPTS:
            self.state = "CANCELLED" if self.stopping else "FAILED"
            return False
        self.state, self.worker, self.lease = "RUNNING", worker, until
        self.attempt, self.spent = self.attempt + 1, self.spent + 1
        return True

    def cancel(self, now: datetime) -> None:
        if self.state == "QUEUED" or (self.state == "RUNNING" and self.lease <= now):
            self.state = "CANCELLED"
        self.stopping = self.stopping or self.state == "RUNNING"

    def finish(self, attempt: int, outcome: str) -> str:
        """Ends an attempt; the reason of a refusal, or nothing."""
        if self.told == (attempt, outcome):
            return ""
        if (self.state, self.attempt) != ("RUNNING", attempt):
            return "LEASE_LOST"
        if outcome == "cancelled" and not self.stopping:
            return "INVALID_FIELDS"
        self.told = attempt, outcome
        again = "CANCELLED" if self.stopping else "QUEUED"
        if outcome == "released":
            self.spent -= 1
        if outcome == "retryable" and self.spent == MAX_ATTEMPTS and not self.stopping:
            again = "FAILED"
        ends = {"result": "SUCCEEDED", "error": "FAILED", "cancelled": "CANCELLED"}
        self.state = ends.get(outcome, again)
        return ""


class Queue(RuleBasedStateMachine):
    """Clients and workers of two registries on one database, and the lives of the jobs as they should be."""

    def __init__(self, registries: tuple[Any, Any], spec: dict[str, str], clock: Any, loop: Any) -> None:
        super().__init__()
        self.registries, self.spec, self.clock, self.loop = registries, spec, clock, loop
        self.lives: dict[str, Life] = {}
        self.requests: list[tuple[job_service_pb2.EnqueueJobRequest, str]] = []
        self.turn = 0
        with psycopg.connect(registries[0].database, autocommit=True) as connection:
            connection.execute("TRUNCATE jobs, requests, artifacts CASCADE")

    def call(self, method: str, request: Any) -> Any:
        """The answer of one registry or the other, or the reason of its refusal."""
        self.turn += 1

        async def ask() -> Any:
            try:
                return await getattr(self.registries[self.turn % 3 % 2].jobs, method)(request)
            except AioRpcError as error:
                return reason_of(status_of(error))

        return self.wait(ask())

    def wait(self, answer: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(answer)

    def pick(self, place: int) -> tuple[str, Life]:
        return list(self.lives.items())[place % len(self.lives)]

    @precondition(lambda self: len(self.lives) < 4)
    @rule()
    def enqueue(self) -> None:
        job = job_service_pb2.Job(name="runs/", run=run_pb2.RunSpec(**self.spec))
        request = job_service_pb2.EnqueueJobRequest(job=job, request_id=str(uuid.uuid4()))
        name = self.call("EnqueueJob", request).name
        self.lives[name] = Life()
        self.requests.append((request, name))

    @precondition(lambda self: self.requests)
    @rule(place=PLACES, changed=st.booleans())
    def enqueue_again(self, place: int, changed: bool) -> None:
        first, name = self.requests[place % len(self.requests)]
        request = job_service_pb2.EnqueueJobRequest.FromString(first.SerializeToString())
        request.job.run.seed = 9 if changed else 0
        answer = self.call("EnqueueJob", request)
        assert answer == "REQUEST_ID_REUSED" if changed else answer.name == name

    @rule(worker=WORKERS, seconds=st.sampled_from([10, 30]))
    def claim(self, worker: str, seconds: int) -> None:
        lease = Duration(seconds=seconds)
        request = job_service_pb2.ClaimJobRequest(kind="run", worker=worker, lease=lease)
        claimed = self.call("ClaimJob", request).job
        now = self.clock()
        running = {name: life for name, life in self.lives.items() if life.state == "RUNNING"}
        own = [name for name, life in running.items() if life.worker == worker]
        free = [
            name
            for name, life in self.lives.items()
            if life.state == "QUEUED" or (name in running and life.lease <= now)
        ]
        given = (name for name in dict.fromkeys(own + free) if self.started(name, worker, now, seconds))
        assert claimed.name == next(given, "")
        if claimed.name:
            assert claimed.status.attempt == self.lives[claimed.name].attempt

    def started(self, name: str, worker: str, now: datetime, seconds: int) -> bool:
        return self.lives[name].claim(worker, now + timedelta(seconds=seconds))

    @precondition(lambda self: self.lives)
    @rule(place=PLACES, back=st.sampled_from([0, 0, 1]))
    def renew(self, place: int, back: int) -> None:
        name, life = self.pick(place)
        request = job_service_pb2.RenewLeaseRequest(name=name, attempt=life.attempt - back)
        answer = self.call("RenewLease", request)
        if life.state == "RUNNING" and not back:
            assert answer.cancel_requested == life.stopping
            life.lease = self.clock() + timedelta(seconds=30)
        else:
            assert answer == "LEASE_LOST"

    @precondition(lambda self: self.lives)
    @rule(place=PLACES)
    def cancel(self, place: int) -> None:
        name, life = self.pick(place)
        self.call("RequestCancellation", job_service_pb2.RequestCancellationRequest(name=name))
        life.cancel(self.clock())

    @precondition(lambda self: self.lives)
    @rule(place=PLACES, back=st.sampled_from([0, 0, 0, 1]), outcome=OUTCOMES, times=st.integers(1, 2))
    def finish(self, place: int, back: int, outcome: str, times: int) -> None:
        name, life = self.pick(place)
        attempt = life.attempt - back
        if outcome == "result" and life.state == "RUNNING" and not back:
            artifact = artifact_pb2.Artifact(kind="model", files=[self.file])
            request = job_service_pb2.RecordArtifactRequest(name=name, attempt=attempt, artifact=artifact)
            life.artifact = self.call("RecordArtifact", request).name
        request = job_service_pb2.FinishJobRequest(
            name=name, attempt=attempt, retryable=outcome == "retryable"
        )
        if outcome == "result":
            request.run.model_artifact = life.artifact
        elif outcome == "released":
            request.released.SetInParent()
        elif outcome == "cancelled":
            request.cancelled.SetInParent()
        else:
            request.error.CopyFrom(status_pb2.Status(code=13, message="the child crashed"))
        for _ in range(times):
            answer = self.call("FinishJob", request)
            refused = life.finish(attempt, outcome)
            assert (answer if isinstance(answer, str) else "") == refused

    @rule(seconds=st.sampled_from([5, 11, 31]))
    def wait_for(self, seconds: int) -> None:
        self.clock.advance(seconds)

    def teardown(self) -> None:
        request = registry_service_pb2.ListRunsRequest(order=run_pb2.RunOrder(ascending=True))
        listed = self.wait(self.registries[0].registry.ListRuns(request)).runs
        states = {state: name.removeprefix("JOB_STATE_") for name, state in job_pb2.JobState.items()}
        found = {run.name: (states[run.status.state], run.status.attempt) for run in listed}
        assert found == {name: (life.state, life.attempt) for name, life in self.lives.items()}


@pytest.fixture
async def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_any_history_of_jobs_is_that_of_the_model(open_registry, clock, loop):
    first = loop.run_until_complete(open_registry(clock=clock))
    second = loop.run_until_complete(open_registry(database=first.database, clock=clock))

    async def needs() -> dict[str, str]:
        return {"dataset": (await first.sealed_dataset()).name, "model": await first.model()}

    spec = loop.run_until_complete(needs())
    Queue.file = loop.run_until_complete(first.upload(b"weights"))
    Queue.file.path = "model.safetensors"
    run_state_machine_as_test(
        lambda: Queue((first, second), spec, clock, loop),
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
        ),
    )
