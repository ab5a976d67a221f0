"""The queue on a real database: claims, leases, fencing, cancellation, idempotence."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.rpc import status_pb2

from tunix_rt.rpc.status import reason_of
from tunix_rt.v1 import artifact_pb2, evaluation_pb2, job_pb2, job_service_pb2, registry_service_pb2, run_pb2

ERROR = status_pb2.Status(code=13, message="the child crashed")


def finish(job, **outcome):
    return job_service_pb2.FinishJobRequest(name=job.name, attempt=job.status.attempt, **outcome)


def renewal(job, **fields):
    return job_service_pb2.RenewLeaseRequest(name=job.name, attempt=job.status.attempt, **fields)


def cancellation(job):
    return job_service_pb2.RequestCancellationRequest(name=job.name)


async def run_spec(registry):
    return {"dataset": (await registry.sealed_dataset()).name, "model": await registry.model()}


async def test_eight_workers_on_two_registries_claim_each_of_forty_jobs_once(open_registry):
    first = await open_registry()
    second = await open_registry(database=first.database)
    spec = await run_spec(first)
    queued = {(await first.enqueue(**spec)).name for _ in range(40)}

    async def work(registry, worker):
        claimed = []
        while (job := await registry.claim(worker=f"{worker}-{len(claimed)}")).name:
            claimed.append((job.name, job.status.attempt))
        return claimed

    claims = await asyncio.gather(*(work((first, second)[i % 2], f"w{i}") for i in range(8)))
    assert sorted(claim for each in claims for claim in each) == sorted((name, 1) for name in queued)


async def test_the_oldest_job_is_claimed_first(registry):
    spec = await run_spec(registry)
    queued = [(await registry.enqueue(**spec)).name for _ in range(3)]
    assert [(await registry.claim(worker=f"w{i}")).name for i in range(3)] == queued


async def test_a_claim_waits_for_a_job_that_another_registry_queues(open_registry):
    first = await open_registry()
    second = await open_registry(database=first.database)
    spec = await run_spec(first)
    waiting = asyncio.create_task(second.claim(wait=Duration(seconds=20)))
    started = asyncio.get_running_loop().time()
    job = await first.enqueue(**spec)
    assert (await waiting).name == job.name
    assert asyncio.get_running_loop().time() - started < 1.5


async def test_an_expired_lease_goes_to_another_worker_and_fences_the_first(open_registry, clock):
    registry = await open_registry(clock=clock)
    await registry.enqueue()
    first = await registry.claim(worker="a", lease=Duration(seconds=10))
    clock.advance(9)
    assert not (await registry.claim(worker="b")).name
    clock.advance(2)
    second = await registry.claim(worker="b")
    assert (second.name, second.status.attempt) == (first.name, 2)
    files = await registry.files({"state.json": b"{}"})
    artifact = artifact_pb2.Artifact(kind="checkpoint", files=files)
    for call in (
        registry.jobs.RenewLease(renewal(first)),
        registry.jobs.FinishJob(finish(first, error=ERROR)),
        registry.jobs.RecordArtifact(
            job_service_pb2.RecordArtifactRequest(name=first.name, attempt=1, artifact=artifact)
        ),
    ):
        failure = await registry.failure_of(call)
        assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "LEASE_LOST")


async def test_a_waiting_claim_gets_a_job_as_soon_as_its_lease_runs_out(registry):
    await registry.enqueue()
    first = await registry.claim(worker="dead", lease=Duration(seconds=1))
    second = await registry.claim(worker="alive", wait=Duration(seconds=20))
    assert (second.name, second.status.attempt) == (first.name, 2)
    assert second.status.start_time == first.status.start_time


async def test_an_expired_lease_can_be_renewed_while_nobody_else_has_claimed(open_registry, clock):
    registry = await open_registry(clock=clock)
    job = await registry.running()
    clock.advance(3600)
    await registry.jobs.RenewLease(renewal(job))
    assert not (await registry.claim(worker="b")).name


async def test_a_worker_that_claims_again_takes_its_own_job_back(registry):
    await registry.enqueue()
    first = await registry.claim(worker="a")
    second = await registry.claim(worker="a")
    assert (second.name, second.status.attempt) == (first.name, 2)


async def test_attempts_run_out_and_the_last_error_is_kept(registry):
    await registry.enqueue()
    for _ in range(5):
        job = await registry.claim()
        await registry.jobs.FinishJob(finish(job, error=ERROR, retryable=True))
    run = await registry.registry.GetRun(registry_service_pb2.GetRunRequest(name=job.name))
    assert run.status.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(run.status.error) == "ATTEMPTS_EXHAUSTED"
    assert "the child crashed" in run.status.error.message
    assert not (await registry.claim()).name


async def test_a_job_whose_workers_all_died_fails_at_the_next_claim(open_registry, clock):
    registry = await open_registry(clock=clock)
    queued = await registry.enqueue()
    for attempt in range(5):
        assert (await registry.claim(worker=f"w{attempt}")).status.attempt == attempt + 1
        clock.advance(31)
    assert not (await registry.claim(worker="last")).name
    run = await registry.registry.GetRun(registry_service_pb2.GetRunRequest(name=queued.name))
    assert reason_of(run.status.error) == "ATTEMPTS_EXHAUSTED"
    assert run.status.HasField("end_time")


async def test_a_released_job_keeps_its_attempts(registry):
    await registry.enqueue()
    for attempt in range(1, 8):
        job = await registry.claim()
        assert job.status.attempt == attempt
        await registry.jobs.FinishJob(finish(job, released=job_service_pb2.Released()))


async def test_an_error_that_is_not_retryable_fails_the_job(registry):
    job = await registry.running()
    ended = await registry.jobs.FinishJob(finish(job, error=ERROR))
    assert ended.status.state == job_pb2.JOB_STATE_FAILED
    assert ended.status.error.message == "the child crashed"


async def test_a_queued_job_is_cancelled_at_once(registry):
    job = await registry.enqueue()
    cancelled = await registry.jobs.RequestCancellation(cancellation(job))
    assert cancelled.status.state == job_pb2.JOB_STATE_CANCELLED
    assert not (await registry.claim()).name


async def test_a_running_job_is_asked_to_stop_and_then_cancelled(registry):
    job = await registry.running()
    asked = await registry.jobs.RequestCancellation(cancellation(job))
    assert asked.status.state == job_pb2.JOB_STATE_RUNNING
    assert (await registry.jobs.RenewLease(renewal(job))).cancel_requested
    ended = await registry.jobs.FinishJob(finish(job, cancelled=job_service_pb2.Cancelled()))
    assert ended.status.state == job_pb2.JOB_STATE_CANCELLED


async def test_a_job_without_a_live_worker_is_cancelled_at_once(open_registry, clock):
    registry = await open_registry(clock=clock)
    job = await registry.running()
    clock.advance(31)
    cancelled = await registry.jobs.RequestCancellation(cancellation(job))
    assert cancelled.status.state == job_pb2.JOB_STATE_CANCELLED


async def test_a_job_that_is_to_stop_is_not_started_again(registry):
    job = await registry.running()
    await registry.jobs.RequestCancellation(cancellation(job))
    ended = await registry.jobs.FinishJob(finish(job, error=ERROR, retryable=True))
    assert ended.status.state == job_pb2.JOB_STATE_CANCELLED


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
async def test_cancelling_an_ended_job_returns_it_as_it_is(registry, outcome):
    job = await registry.running()
    if outcome == "succeeded":
        ended = await registry.succeed_run(job)
    elif outcome == "failed":
        ended = await registry.jobs.FinishJob(finish(job, error=ERROR))
    else:
        await registry.jobs.RequestCancellation(cancellation(job))
        ended = await registry.jobs.FinishJob(finish(job, cancelled=job_service_pb2.Cancelled()))
    assert await registry.jobs.RequestCancellation(cancellation(job)) == ended


async def test_cancelled_without_a_request_is_refused(registry):
    job = await registry.running()
    failure = await registry.failure_of(
        registry.jobs.FinishJob(finish(job, cancelled=job_service_pb2.Cancelled()))
    )
    assert list(failure.fields) == ["cancelled"]


async def test_the_same_end_is_acknowledged_again_and_another_one_is_not(registry):
    job = await registry.running()
    ended = await registry.jobs.FinishJob(finish(job, error=ERROR))
    assert await registry.jobs.FinishJob(finish(job, error=ERROR)) == ended
    failure = await registry.failure_of(
        registry.jobs.FinishJob(finish(job, released=job_service_pb2.Released()))
    )
    assert failure.reason == "LEASE_LOST"


async def test_a_run_ends_with_its_own_model_artifact_only(registry):
    job = await registry.running()
    request = finish(job, run=job_service_pb2.RunOutcome(model_artifact="artifacts/none"))
    failure = await registry.failure_of(registry.jobs.FinishJob(request))
    assert list(failure.fields) == ["run.model_artifact"]


async def test_evaluations_are_queued_when_the_run_succeeds(registry):
    dataset = await registry.sealed_dataset()
    job = await registry.running(
        dataset=dataset.name, evaluate_after=[evaluation_pb2.EvaluationSpec(dataset=dataset.name)] * 2
    )
    assert not (await registry.claim("evaluation")).name
    await registry.succeed_run(job)
    run = await registry.registry.GetRun(registry_service_pb2.GetRunRequest(name=job.name))
    assert len(run.evaluations) == 2
    claimed = await registry.claim("evaluation")
    assert claimed.name == run.evaluations[0]
    assert (claimed.evaluation.subject, claimed.evaluation.split) == (job.name, "test")
    assert claimed.evaluation.decoding.max_tokens == 256


async def test_renewals_report_progress_facts_and_never_go_back(registry):
    job = await registry.running()
    facts, more = Struct(), Struct()
    facts.update({"rows": 7, "device": "cpu"})
    more.update({"rows": 8})
    await registry.jobs.RenewLease(renewal(job, progress=5, progress_total=10, facts=facts))
    await registry.jobs.RenewLease(renewal(job, progress=3, facts=more))
    run = await registry.registry.GetRun(registry_service_pb2.GetRunRequest(name=job.name))
    assert (run.status.progress, run.status.progress_total) == (5, 10)
    assert dict(run.facts) == {"rows": 8, "device": "cpu"}


async def test_a_request_id_makes_one_job(registry):
    spec = run_pb2.RunSpec(**await run_spec(registry))
    request = job_service_pb2.EnqueueJobRequest(
        job=job_service_pb2.Job(name="runs/", run=spec), request_id=str(uuid.uuid4())
    )
    made = await asyncio.gather(*(registry.jobs.EnqueueJob(request) for _ in range(5)))
    assert len({job.name for job in made}) == 1
    request.job.run.seed = 9
    failure = await registry.failure_of(registry.jobs.EnqueueJob(request))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_chosen_name_is_taken_once(registry):
    spec = run_pb2.RunSpec(**await run_spec(registry))
    request = job_service_pb2.EnqueueJobRequest(job=job_service_pb2.Job(name="runs/mine", run=spec))
    assert (await registry.jobs.EnqueueJob(request)).name == "runs/mine"
    failure = await registry.failure_of(registry.jobs.EnqueueJob(request))
    assert failure.reason == "RESOURCE_EXISTS"


async def test_a_job_needs_what_its_spec_names(registry):
    dataset = await registry.sealed_dataset()
    model = await registry.model()
    opened = await registry.registry.CreateDataset(registry_service_pb2.CreateDatasetRequest())

    async def failure(**spec):
        return await registry.failure_of(registry.enqueue(**spec))

    assert (await failure(dataset="datasets/none", model=model)).code == grpc.StatusCode.NOT_FOUND
    assert (await failure(dataset=opened.name, model=model)).reason == "DATASET_NOT_SEALED"
    assert (await failure(dataset=dataset.name, model="models/x/versions/v1")).reason == "RESOURCE_NOT_FOUND"
    bad = await failure(dataset="datasets/../x", model="no")
    assert set(bad.fields) == {"job.run.dataset", "job.run.model"}
    wrong = await failure(dataset=dataset.name, model=model, train_split="none")
    assert list(wrong.fields) == ["job.run.train_split"]


async def test_every_part_of_a_mixture_must_be_usable(registry):
    spec = await run_spec(registry)
    unknown = [run_pb2.MixturePart(dataset="datasets/none", split="train")]
    missing = await registry.failure_of(registry.enqueue(**spec, mixture=unknown))
    assert missing.reason == "RESOURCE_NOT_FOUND"
    other = await registry.sealed_dataset()
    empty = [run_pb2.MixturePart(dataset=other.name, split="none")]
    wrong = await registry.failure_of(registry.enqueue(**spec, mixture=empty))
    assert list(wrong.fields) == ["job.run.mixture[0].split"]


async def test_an_unfinished_run_is_no_subject(registry):
    job = await registry.running()
    spec = evaluation_pb2.EvaluationSpec(subject=job.name, dataset=job.run.dataset)
    request = job_service_pb2.EnqueueJobRequest(job=job_service_pb2.Job(name="evaluations/", evaluation=spec))
    failure = await registry.failure_of(registry.jobs.EnqueueJob(request))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_FINISHED")


async def test_jobs_are_counted_by_kind_and_state(registry):
    spec = await run_spec(registry)
    for _ in range(3):
        await registry.enqueue(**spec)
    await registry.claim()
    counts = (await registry.jobs.CountJobs(job_service_pb2.CountJobsRequest())).counts
    assert [(c.kind, c.state, c.count) for c in counts] == [("run", 1, 2), ("run", 2, 1)]


async def test_claims_with_bad_fields_are_refused(registry):
    failure = await registry.failure_of(registry.claim(kind="sweep", worker=""))
    assert set(failure.fields) == {"kind", "worker"}
    failure = await registry.failure_of(registry.claim(lease=Duration(seconds=601)))
    assert list(failure.fields) == ["lease"]
    failure = await registry.failure_of(registry.claim(wait=Duration(seconds=31)))
    assert list(failure.fields) == ["wait"]
