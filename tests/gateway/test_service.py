from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from tunix_rt.gateway.auth import TokenGate
from tunix_rt.gateway.settings import Settings, is_loopback
from tunix_rt.rpc.errors import NotFound
from tunix_rt.rpc.health import Dependency
from tunix_rt.rpc.server import Server
from tunix_rt.rpc.status import reason_of, status_of, violations_of
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, job_pb2, job_service_pb2, model_pb2, run_pb2
from tunix_rt.v1 import registry_service_pb2 as pb2
from tunix_rt.v1.gateway_service_pb2 import (
    CompareRunsRequest,
    GetSystemStatusRequest,
    PairedComparison,
)
from tunix_rt.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tunix_rt.v1.job_service_pb2_grpc import JobServiceServicer
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceServicer

DEADLINE = 10.0
BASE, TUNED = "models/smol/versions/v1", "runs/tuned"


class Registry(RegistryServiceServicer):
    """A base model that gets 2 of 30 items right and a run that gets 25; two items a page."""

    def __init__(self, datasets=("datasets/sums",)):
        self.datasets = datasets
        self.clusters = 0
        self.curve_requests, self.run_requests, self.trace_requests = [], [], []

    async def GetModelVersion(self, request, context):
        if request.name != BASE:
            raise NotFound(request.name)
        return model_pb2.ModelVersion(name=request.name)

    async def GetRun(self, request, context):
        if request.name != TUNED:
            raise NotFound(request.name)
        return tuned_run(TUNED, seed=1)

    async def ListRuns(self, request, context):
        self.run_requests.append(request)
        if request.page_token:
            return pb2.ListRunsResponse(runs=[tuned_run("runs/longer", seed=3, steps=11)])
        runs = [tuned_run(TUNED, seed=1), tuned_run("runs/tuned-again", seed=2)]
        return pb2.ListRunsResponse(runs=runs, next_page_token="2")

    async def ListTraces(self, request, context):
        self.trace_requests.append(request)
        place = int(request.page_token or 0)
        traces = [dataset_pb2.Trace(id=str(i)) for i in range(place, place + 10)]
        for trace in traces:
            trace.meta["family"] = float(int(trace.id) // 3)
        return pb2.ListTracesResponse(traces=traces, next_page_token=str(place + 10) if place < 20 else "")

    async def ListEvaluations(self, request, context):
        assert request.state == job_pb2.JOB_STATE_SUCCEEDED
        datasets = [name for name in self.datasets if request.dataset in ("", name)]
        place = int(request.page_token or 0)
        if place >= len(datasets):
            return pb2.ListEvaluationsResponse()
        spec = evaluation_pb2.EvaluationSpec(subject=request.subject, dataset=datasets[place], split="test")
        name = f"evaluations/{request.subject.split('/')[1]}-{place}"
        evaluation = evaluation_pb2.Evaluation(name=name, spec=spec, dataset_sha256=datasets[place])
        evaluation.result.score.mean = 0.8 if "again" in request.subject else 25 / 30
        if self.clusters:
            evaluation.result.clustered_score.cluster_count = self.clusters
        token = str(place + 1) if place + 1 < len(datasets) else ""
        return pb2.ListEvaluationsResponse(evaluations=[evaluation], next_page_token=token)

    async def ListItemScores(self, request, context):
        right = 25 if "tuned" in request.evaluation else 2
        place = int(request.page_token or 0)
        rows = [
            evaluation_pb2.ItemScore(
                trace_id=str(i), outcome=1 if i < right else 2, score=float(i < right), position=i
            )
            for i in range(place, place + 2)
        ]
        return pb2.ListItemScoresResponse(
            item_scores=rows, next_page_token=str(place + 2) if place < 28 else ""
        )

    async def GetCurves(self, request, context):
        self.curve_requests.append(request)
        curves = [
            pb2.Curve(run=run, metric=metric, steps=[1, 2], values=[2.0, 4.0])
            for run in request.runs
            for metric in request.metrics
        ]
        return pb2.GetCurvesResponse(curves=curves)


def tuned_run(name, *, seed, steps=10):
    spec = run_pb2.RunSpec(model=BASE, dataset="datasets/sums", steps=steps, seed=seed)
    return run_pb2.Run(name=name, spec=spec, metrics=[run_pb2.MetricSummary(metric="train/loss", last=0.5)])


class Jobs(JobServiceServicer):
    async def CountJobs(self, request, context):
        count = job_pb2.QueueCount(kind="run", state=job_pb2.JOB_STATE_QUEUED, count=3)
        return job_service_pb2.CountJobsResponse(counts=[count])


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
async def stub(registry, start_backend, start_gateway, open_stub):
    server = await start_backend(registry, Jobs())
    return open_stub(GatewayServiceStub, (await start_gateway(f"127.0.0.1:{server.port}")).port)


async def status_of_failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status_of(caught.value)


async def test_base_and_tuned_are_compared_item_by_item_over_all_pages(stub, registry):
    answer = await stub.CompareRuns(CompareRunsRequest(subjects=[BASE, TUNED]), timeout=DEADLINE)
    (pair,) = answer.pairs
    assert (pair.count, pair.gained, pair.lost) == (30, 23, 0)
    assert pair.verdict == PairedComparison.BETTER
    assert pair.p_value == pytest.approx(2 / 2**23)
    assert len(pair.flips) == 23
    assert answer.subjects[1].steps_per_second == 3.0
    assert [(c.run, c.metric) for c in answer.curves] == [(TUNED, "train/loss"), (TUNED, "validation/loss")]
    assert [request.max_points for request in registry.curve_requests] == [500, 10_000]


async def test_families_are_read_where_the_evaluation_has_them(stub, registry):
    registry.clusters = 10
    answer = await stub.CompareRuns(CompareRunsRequest(subjects=[BASE, TUNED]), timeout=DEADLINE)
    (pair,) = answer.pairs
    assert pair.cluster_count == 10
    assert pair.clustered_p_value == 2 / 2**9  # 9 families with a difference, all one way
    assert [(r.dataset, r.split) for r in registry.trace_requests] == [("datasets/sums", "test")] * 3


async def test_traces_are_not_read_without_families(stub, registry):
    await stub.CompareRuns(CompareRunsRequest(subjects=[BASE, TUNED]), timeout=DEADLINE)
    assert registry.trace_requests == []


async def test_other_seeds_of_a_compared_run_are_found_in_the_registry(stub, registry):
    answer = await stub.CompareRuns(CompareRunsRequest(subjects=[BASE, TUNED]), timeout=DEADLINE)
    (group,) = answer.seed_groups
    assert (list(group.runs), list(group.seeds)) == ([TUNED, "runs/tuned-again"], [1, 2])
    assert list(group.scores) == [pytest.approx(25 / 30), 0.8]
    assert [difference.subject for difference in answer.seed_differences] == [TUNED]
    assert [(r.dataset, r.state) for r in registry.run_requests] == [
        ("datasets/sums", job_pb2.JOB_STATE_SUCCEEDED)
    ] * 2


async def test_several_datasets_are_an_error_that_names_them(stub, registry):
    registry.datasets = ("datasets/sums", "datasets/words")
    request = CompareRunsRequest(subjects=[BASE, TUNED])
    status = await status_of_failure(stub.CompareRuns(request, timeout=DEADLINE))
    assert reason_of(status) == "NOT_COMPARABLE"
    assert "`datasets/sums`, `datasets/words`" in status.message
    request.dataset = "datasets/words"
    answer = await stub.CompareRuns(request, timeout=DEADLINE)
    assert answer.subjects[0].evaluation.spec.dataset == "datasets/words"


async def test_subjects_without_evaluations_are_compared_by_their_runs(stub, registry):
    registry.datasets = ()
    answer = await stub.CompareRuns(CompareRunsRequest(subjects=[BASE, TUNED]), timeout=DEADLINE)
    assert list(answer.pairs) == []
    assert "have no succeeded evaluation on split `test`" in answer.pairs_missing_reason
    assert answer.subjects[1].final_loss == 0.5


@pytest.mark.parametrize(
    ("request_fields", "fields"),
    [
        ({}, ["subjects"]),
        ({"subjects": [TUNED]}, ["subjects"]),
        ({"subjects": [TUNED, TUNED]}, ["subjects"]),
        ({"subjects": [TUNED, "../etc/passwd"], "max_points": 1}, ["subjects[1]", "max_points"]),
        ({"subjects": [TUNED, BASE], "dataset": "sums", "max_points": 10_001}, ["dataset", "max_points"]),
        ({"subjects": [f"runs/r{i}" for i in range(11)]}, ["subjects"]),
    ],
)
async def test_all_bad_fields_are_reported_together(stub, request_fields, fields):
    status = await status_of_failure(stub.CompareRuns(CompareRunsRequest(**request_fields), timeout=DEADLINE))
    assert [field for field, _ in violations_of(status)] == fields


@pytest.mark.parametrize("missing", ["runs/missing", "models/smol/versions/v9"])
async def test_missing_subject_is_not_found(stub, missing):
    request = CompareRunsRequest(subjects=[TUNED, missing])
    status = await status_of_failure(stub.CompareRuns(request, timeout=DEADLINE))
    assert reason_of(status) == "RESOURCE_NOT_FOUND"
    assert missing in status.message


async def test_status_tells_who_serves_and_what_waits(stub):
    status = await stub.GetSystemStatus(GetSystemStatusRequest(), timeout=DEADLINE)
    serving = {service.service: service.serving for service in status.services}
    assert serving == {"registry": True, "trainer": False, "evaluator": False, "gateway": True}
    registry, trainer = status.services[:2]
    assert registry.round_trip.nanos > 0
    assert trainer.reason.startswith("127.0.0.1:1: UNAVAILABLE")
    assert [(count.kind, count.count) for count in status.queue] == [("run", 3)]
    assert status.version[0].isdigit()


async def test_status_is_told_without_a_registry(start_gateway, open_stub):
    stub = open_stub(GatewayServiceStub, (await start_gateway()).port)
    status = await stub.GetSystemStatus(GetSystemStatusRequest(), timeout=DEADLINE)
    assert [service.serving for service in status.services] == [False, False, False, True]
    assert list(status.queue) == []


async def test_own_methods_ask_for_the_token_too(start_gateway, open_stub):
    stub = open_stub(GatewayServiceStub, (await start_gateway(tokens="0" * 64)).port)
    for call in (
        stub.GetSystemStatus(GetSystemStatusRequest(), timeout=DEADLINE),
        stub.CompareRuns(CompareRunsRequest(), timeout=DEADLINE),
    ):
        assert reason_of(await status_of_failure(call)) == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("host:1", False),
    ],
)
def test_loopback(address, loopback):
    assert is_loopback(address) is loopback


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"listen": "0.0.0.0:50050"}, "TUNIX_RT_LISTEN is 0.0.0.0:50050"),
        ({"web": "0.0.0.0:8080"}, "TUNIX_RT_WEB is 0.0.0.0:8080"),
        ({"tokens": "secret"}, "no SHA-256"),
        ({"listen": "nowhere"}, "host:port"),
    ],
)
def test_open_doors_are_refused(values, text):
    with pytest.raises(ValidationError, match=text):
        Settings(**values)


def test_other_addresses_are_allowed_with_tokens_or_by_decision():
    assert Settings(listen="0.0.0.0:1", web="0.0.0.0:2", tokens="a" * 64).token_digests == ("a" * 64,)
    assert Settings(listen="0.0.0.0:1", insecure=True).insecure


def test_gate_without_digests_is_open_and_with_digests_takes_only_their_tokens():
    assert TokenGate([]).accepts("anything")
    gate = TokenGate(["2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"])  # "secret"
    assert gate.accepts("secret")
    assert not gate.accepts("Secret")
    assert not gate.accepts("")


async def test_the_health_of_a_forwarded_service_is_that_of_its_backend(start_gateway, open_stub):
    async def check() -> None:
        raise ConnectionError("away")

    backend = Server(
        "127.0.0.1:0", ["tunix_rt.v1.RegistryService"], dependencies=[Dependency("blobs", check)]
    )
    await backend.start()
    gateway = await start_gateway(f"127.0.0.1:{backend.port}")
    health = open_stub(health_pb2_grpc.HealthStub, gateway.port)
    names = ("", "tunix_rt.v1.GatewayService", "tunix_rt.v1.RegistryService", "tunix_rt.v1.TrainerService")
    answers = [await health.Check(health_pb2.HealthCheckRequest(service=name)) for name in names]
    assert [answer.status for answer in answers] == [1, 1, 2, 2]
    status = await open_stub(GatewayServiceStub, gateway.port).GetSystemStatus(GetSystemStatusRequest())
    assert status.services[0].reason == f"127.0.0.1:{backend.port}: blobs not reached"
    await backend.stop(0)
