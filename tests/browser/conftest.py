"""A gateway with its page before a registry of literal resources, and a real Chromium."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status
from playwright.async_api import Browser, async_playwright

from tunix_rt.answers.steps import find_steps
from tunix_rt.gateway.server import Gateway
from tunix_rt.gateway.settings import Settings
from tunix_rt.rpc.errors import NotFound
from tunix_rt.rpc.server import Server
from tunix_rt.stats.intervals import wilson
from tunix_rt.v1 import artifact_pb2, dataset_pb2, evaluation_pb2, job_pb2, model_pb2, run_pb2
from tunix_rt.v1 import registry_service_pb2 as pb2
from tunix_rt.v1.registry_service_pb2_grpc import (
    RegistryServiceServicer,
    add_RegistryServiceServicer_to_server,
)

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
BASE = "models/smollm2-135m-instruct/versions/v1"
ARITHMETIC, GOLDEN = "datasets/arithmetic", "datasets/golden-v2"
TEXTS = "datasets/texts"
SUCCEEDED, FAILED = job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED
RUNNING, QUEUED = job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_QUEUED
CORRECT, WRONG, NO_ANSWER, TRUNCATED = 1, 2, 3, 4
HOSTILE = "<script>window.hostile = 1</script><img src=x onerror='window.hostile = 1'>\nAnswer: 7"
ITEMS = 80
TASK = "tasks/sums/versions/v1"
RIGHT = {"base": 6, "full": 61, "lora": 47}
STEPS = 400
NOW = 1_790_000_000


class LiteralRegistry(RegistryServiceServicer):
    """Three evaluated subjects and runs in every state; the live run goes on when a test says so."""

    def __init__(self, *, empty: bool = False) -> None:
        self.runs = {} if empty else {run.name: run for run in all_runs()}
        self.evaluations = {} if empty else {e.name: e for e in all_evaluations()}
        self.lines = [f"step {step} loss {loss(step, 0.0):.4f}" for step in range(1, 4)]
        self.live_steps = 3
        self.changed = asyncio.Condition()
        self.board_requests = []
        self.artifacts: dict[str, artifact_pb2.Artifact] = {}
        self.files: dict[str, bytes] = {}

    def add_artifact(self, name: str, owner: str, kind: str, files: dict[str, bytes], step: int = 0) -> None:
        """Stores files and records them."""
        made = artifact_pb2.Artifact(
            name=f"artifacts/{name}", kind=kind, owner=owner, attempt=1, step=step, digest="d" * 64,
            size_bytes=sum(map(len, files.values())), create_time=Timestamp(seconds=NOW),
        )  # fmt: skip
        for path, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            self.files[digest] = data
            made.files.add(path=path, sha256=digest, size_bytes=len(data))
        self.artifacts[made.name] = made

    async def ListArtifacts(self, request, context):
        fitting = [
            a for a in self.artifacts.values() if a.owner == request.owner and request.kind in ("", a.kind)
        ]
        return pb2.ListArtifactsResponse(artifacts=fitting)

    async def GetArtifact(self, request, context):
        if request.name not in self.artifacts:
            raise NotFound(request.name)
        return self.artifacts[request.name]

    async def ReadBlob(self, request, context):
        for first in range(0, len(self.files[request.sha256]), 500_000):
            yield pb2.ReadBlobResponse(data=self.files[request.sha256][first : first + 500_000])

    async def end_live_run(self) -> None:
        async with self.changed:
            self.live_steps = 5
            self.lines += ["step 4", "step 5", "saved the final weights"]
            self.runs["runs/live"].status.state = SUCCEEDED
            self.runs["runs/live"].status.progress = 5
            self.changed.notify_all()

    async def ListRuns(self, request, context):
        fitting = [run for run in self.runs.values() if request.state in (0, run.status.state)]
        return pb2.ListRunsResponse(runs=fitting)

    async def ListTraces(self, request, context):
        traces = [dataset_pb2.Trace(id=f"sum-{i:04}") for i in range(ITEMS)]
        for trace in traces:
            trace.meta["family"] = f"family {int(trace.id[-4:]) % 12}"
        return pb2.ListTracesResponse(traces=traces)

    def add_seeds(self) -> None:
        """Gives the full run two further seeds, and all items of the golden set a family."""
        for seed, right in ((8, 58), (9, 63)):
            run = run_pb2.Run(name=f"runs/full-seed-{seed}")
            run.MergeFrom(self.runs["runs/full"])
            run.name, run.spec.seed = f"runs/full-seed-{seed}", seed
            self.runs[run.name] = run
            evaluation = one_evaluation(f"seed-{seed}-golden-v2", run.name, GOLDEN, right)
            self.evaluations[evaluation.name] = evaluation
        for evaluation in self.evaluations.values():
            if evaluation.spec.dataset == GOLDEN:
                evaluation.result.clustered_score.cluster_count = 12

    async def GetRun(self, request, context):
        if request.name not in self.runs:
            raise NotFound(request.name)
        return self.runs[request.name]

    async def GetModelVersion(self, request, context):
        if request.name != BASE:
            raise NotFound(request.name)
        return model_pb2.ModelVersion(name=BASE)

    async def ListDatasets(self, request, context):
        names = [ARITHMETIC, GOLDEN] if self.evaluations else []
        sealed = dataset_pb2.Dataset.SEALED
        return pb2.ListDatasetsResponse(datasets=[dataset_pb2.Dataset(name=n, state=sealed) for n in names])

    async def ListEvaluations(self, request, context):
        fitting = [
            e
            for e in self.evaluations.values()
            if request.subject in ("", e.spec.subject) and request.dataset in ("", e.spec.dataset)
        ]
        return pb2.ListEvaluationsResponse(evaluations=fitting)

    async def GetEvaluation(self, request, context):
        if request.name not in self.evaluations:
            raise NotFound(request.name)
        return self.evaluations[request.name]

    async def ListItemScores(self, request, context):
        if request.evaluation == "evaluations/lora-texts":
            return pb2.ListItemScoresResponse(item_scores=scored_texts())
        return pb2.ListItemScoresResponse(item_scores=item_scores(request.evaluation))

    async def GetLeaderboard(self, request, context):
        self.board_requests.append(request)
        dataset = "datasets/arithmetic" if request.task == TASK else request.dataset
        own = [e for e in self.evaluations.values() if e.spec.dataset == dataset]
        own.sort(key=lambda e: -e.result.score.mean)
        entries = [
            pb2.Leaderboard.Entry(
                rank=1 if "lora-arithmetic" in e.name else place,
                subject=e.spec.subject, evaluation=e.name, score=e.result.score,
                extracted_rate=e.result.extracted_rate, evaluation_count=1,
                contaminated_count=2 if "lora" in e.name else 0,
                override_reason="2 of 80 items contaminated" if "lora" in e.name else "",
                tie_p_value=0.125 if "lora-arithmetic" in e.name else None,
                model=BASE if e.spec.subject.startswith("runs/") else "",
                likelihood=e.result.likelihood if e.result.HasField("likelihood") else None,
            )
            for place, e in enumerate(own, 1)
        ]  # fmt: skip
        tasks = [TASK] if dataset == "datasets/arithmetic" else []
        board = pb2.Leaderboard.Board(split="test", entries=entries, tasks=tasks)
        if own:
            board.spec.CopyFrom(own[0].spec)
        return pb2.Leaderboard(dataset=dataset, boards=[board] if own else [])

    async def GetCurves(self, request, context):
        curves = [self._curve(run, metric) for run in request.runs for metric in request.metrics]
        return pb2.GetCurvesResponse(curves=[curve for curve in curves if curve is not None])

    async def ListMetrics(self, request, context):
        start = int(request.resume_token or 0)
        await self._wait(lambda: self.live_steps > start, request)
        points = [
            run_pb2.MetricPoint(metric="train/loss", step=step, value=loss(step, 0.0))
            for step in range(start + 1, self.live_steps + 1)
        ]
        state = self.runs["runs/live"].status.state
        return pb2.ListMetricsResponse(points=points, resume_token=str(self.live_steps), state=state)

    async def ListLogs(self, request, context):
        start = int(request.resume_token or 0)
        await self._wait(lambda: len(self.lines) > start, request)
        lines = [run_pb2.LogLine(text=line) for line in self.lines[start:]]
        state = self.runs["runs/live"].status.state
        return pb2.ListLogsResponse(lines=lines, resume_token=str(len(self.lines)), state=state)

    async def _wait(self, ready, request) -> None:
        if not request.wait.seconds:
            return
        async with self.changed:
            try:
                async with asyncio.timeout(request.wait.seconds):
                    await self.changed.wait_for(ready)
            except TimeoutError:
                return

    def _curve(self, run: str, metric: str) -> pb2.Curve | None:
        shift = {"runs/full": 0.0, "runs/lora": 0.22}.get(run)
        steps = range(1, STEPS + 1)
        if run == "runs/live":
            shift, steps = 0.0, range(1, self.live_steps + 1)
        if shift is None:
            return None
        if metric == "train/loss":
            values = [loss(s, shift) for s in steps]
            return pb2.Curve(run=run, metric=metric, steps=steps, values=values, total_count=len(steps))
        if metric == "validation/loss" and len(steps) == STEPS:
            sparse = range(40, STEPS + 1, 40)
            values = [loss(s, shift + 0.05, noise=0.0) for s in sparse]
            return pb2.Curve(run=run, metric=metric, steps=sparse, values=values, total_count=10)
        if metric == "train/learning_rate":
            values = [2e-4 * min(s / 40, 0.5 + 0.5 * math.cos(math.pi * s / STEPS)) for s in steps]
            return pb2.Curve(run=run, metric=metric, steps=steps, values=values, total_count=len(steps))
        rates = {"train/steps_per_second": 2.1, "train/tokens_per_second": 1650.0, "train/grad_norm": 1.3}
        if metric not in rates:
            return None
        values = [rates[metric] * (1 + 0.1 * math.sin(s * 1.7) - shift) for s in steps]
        return pb2.Curve(run=run, metric=metric, steps=steps, values=values, total_count=len(steps))


def loss(step: int, shift: float, *, noise: float = 0.12) -> float:
    return 0.35 + shift + 1.9 * math.exp(-step / 70) + noise * math.sin(step * 12.9898) * math.cos(step * 4.1)


def all_runs() -> list[run_pb2.Run]:
    after = [evaluation_pb2.EvaluationSpec(dataset=ARITHMETIC, split="test")]
    optimizer = run_pb2.OptimizerSpec(learning_rate=2e-4, warmup_steps=40, decay=run_pb2.OptimizerSpec.COSINE)
    common = {
        "model": BASE, "dataset": ARITHMETIC, "train_split": "train", "validation_split": "validation",
        "steps": STEPS, "batch_size": 8, "max_length": 256, "format": "answer-line", "evaluate_after": after,
    }  # fmt: skip
    full = run_pb2.RunSpec(full=run_pb2.FullTuning(), optimizer=optimizer, seed=7, **common)
    lora = run_pb2.RunSpec(
        lora=run_pb2.LoraTuning(rank=16, alpha=32, targets=["q_proj", "v_proj"]),
        optimizer=optimizer,
        seed=7,
        **common,
    )
    lora.optimizer.learning_rate = 1e-3
    error = Status(code=13, message="The loss was not finite at step 12. Lower the learning rate.")
    facts = Struct()
    facts.update({"parameters": 134_515_008, "rows": 1180, "padding_share": 0.011, "device": "cpu"})
    states = [("live", full, RUNNING, 3), ("waiting", lora, QUEUED, 0), ("broken", full, FAILED, 12),
              ("lora", lora, SUCCEEDED, STEPS), ("full", full, SUCCEEDED, STEPS)]  # fmt: skip
    runs = []
    for place, (name, spec, state, progress) in enumerate(states):
        status = job_pb2.JobStatus(
            state=state, attempt=1, max_attempts=5, progress=progress, progress_total=STEPS,
            create_time=Timestamp(seconds=NOW - 600 * place),
            start_time=Timestamp(seconds=NOW - 600 * place + 2 if progress else 0),
            end_time=Timestamp(seconds=NOW - 600 * place + 190 if state in (SUCCEEDED, FAILED) else 0),
            error=error if state == FAILED else None,
        )  # fmt: skip
        run = run_pb2.Run(name=f"runs/{name}", spec=spec, status=status, facts=facts if progress else None)
        shift = 0.22 if name == "lora" else 0.0
        if state == SUCCEEDED:
            run.description = "Every weight, two epochs" if name == "full" else "Adapters only"
            run.metrics.add(metric="train/loss", last=loss(STEPS, shift), min=0.3, count=STEPS)
            run.metrics.add(metric="train/steps_per_second", last=2.1, count=STEPS)
            run.metrics.add(metric="train/tokens_per_second", last=1650, count=STEPS)
            validation = loss(STEPS, shift + 0.05, noise=0.0)
            run.metrics.add(
                metric="validation/loss", last=validation, min=validation, min_step=STEPS, count=10
            )
        runs.append(run)
    return runs


def all_evaluations() -> list[evaluation_pb2.Evaluation]:
    subjects = {"base": BASE, "full": "runs/full", "lora": "runs/lora"}
    return [
        one_evaluation(f"{key}-{dataset.split('/')[1]}", subject, dataset, RIGHT[key])
        for dataset in (ARITHMETIC, GOLDEN)
        for key, subject in subjects.items()
    ] + [one_evaluation("lora-texts", "runs/lora", TEXTS, RIGHT["lora"])]


def one_evaluation(name: str, subject: str, dataset: str, right: int) -> evaluation_pb2.Evaluation:
    interval = wilson(right, ITEMS)
    spec = evaluation_pb2.EvaluationSpec(
        subject=subject, dataset=dataset, split="test", format="answer-line", scorer="exact-answer@2",
        decoding=evaluation_pb2.Decoding(max_tokens=256),
    )  # fmt: skip
    result = evaluation_pb2.EvaluationResult(
        score=evaluation_pb2.Score(
            mean=right / ITEMS, low=interval.low, high=interval.high, confidence=0.95, count=ITEMS,
            method="wilson",
        ),
        outcomes=evaluation_pb2.OutcomeCounts(
            correct=right, wrong=(ITEMS - right) // 2, no_answer=(ITEMS - right + 1) // 2
        ),
        extracted_rate=0.9, stopped_rate=0.97, truncated_rate=0.02, timed_out_rate=0.0125,
        tokens_per_second=164.2, items_per_second=2.31,
    )  # fmt: skip
    if dataset == TEXTS:
        measure_perplexity(spec, result)
    if name == "full-arithmetic":
        add_richer_results(spec, result)
    status = job_pb2.JobStatus(state=SUCCEEDED, attempt=1, progress=ITEMS, progress_total=ITEMS)
    return evaluation_pb2.Evaluation(
        name=f"evaluations/{name}", spec=spec, status=status, dataset_sha256=dataset, result=result
    )


def measure_perplexity(spec: evaluation_pb2.EvaluationSpec, result: evaluation_pb2.EvaluationResult) -> None:
    """Makes it one by perplexity, as the evaluator does."""
    spec.method, spec.scorer = "perplexity", ""
    spec.ClearField("decoding")
    result.outcomes.Clear()
    result.outcomes.scored = ITEMS
    result.extracted_rate = result.stopped_rate = 0
    result.likelihood.CopyFrom(
        evaluation_pb2.Likelihood(
            token_count=1200, byte_count=4100, log_likelihood=-1805.0, perplexity=4.5, perplexity_low=4.25,
            perplexity_high=5.0, bits_per_byte=0.635,
        )
    )  # fmt: skip


def share(right: int, count: int, method: str = "wilson") -> evaluation_pb2.Score:
    interval = wilson(right, count)
    return evaluation_pb2.Score(
        mean=right / count, low=interval.low, high=interval.high, confidence=0.95, count=count, method=method
    )


def add_richer_results(spec: evaluation_pb2.EvaluationSpec, result: evaluation_pb2.EvaluationResult) -> None:
    """What evaluations did not have at first: the other evaluations stand for those."""
    spec.samples, spec.decoding.temperature, spec.decoding.seed = 8, 0.7, 3
    spec.decoding.top_p = 1
    spec.task = TASK
    result.duplicate_count = 2
    result.outcomes.CopyFrom(evaluation_pb2.OutcomeCounts(correct=488, wrong=140, no_answer=8, truncated=4))
    result.strict_score.CopyFrom(share(57, ITEMS))
    result.completed_score.CopyFrom(share(61, 78))
    result.clustered_score.CopyFrom(share(61, ITEMS, "clustered"))
    result.clustered_score.cluster_count = 9
    for rule, right in (("majority-answer", 3), ("constant", 2), ("number-in-question", 11)):
        result.baselines.add(name=rule, score=share(right, ITEMS))
    for part, right, count in (
        ("family=chain_sum", 29, 32), ("family=products", 20, 28), ("family=units", 12, 20),
        ("difficulty=easy", 38, 42), ("difficulty=hard", 23, 38),
    ):  # fmt: skip
        result.parts.add(name=part, score=share(right, count))
    for k, passed, majority in ((1, 61, 61), (2, 67, 62), (4, 72, 66), (8, 75, 69)):
        result.pass_at_k.add(name=f"pass@{k}", score=share(passed, ITEMS, "bca"))
        result.majority_at_k.add(name=f"majority@{k}", score=share(majority, ITEMS, "bca"))
    result.reasoning.CopyFrom(
        evaluation_pb2.ReasoningCard(
            format_rate=0.95, step_count=812, true_step_rate=0.94, all_steps_true_rate=0.88,
            answer_follows_rate=0.91, repetition=0.021, median_tokens=44, right_for_wrong_reasons=3,
        )
    )  # fmt: skip


def scored_texts() -> list[evaluation_pb2.ItemScore]:
    """A text, and a question with choices."""
    item = evaluation_pb2.ItemScore
    text = item(
        trace_id="text", prompt="Say it.", outcome=item.SCORED, score=0.25, log_likelihood=-13.86,
        completion_tokens=10,
    )  # fmt: skip
    question = item(
        trace_id="question", position=1, prompt="Which animal?", outcome=WRONG, expected_answer="cat",
        extracted_answer="dog", rule="log-likelihood", log_likelihood=-2.5, completion_tokens=1,
    )  # fmt: skip
    question.choices.add(text="cat", log_likelihood=-2.5, token_count=1)
    question.choices.add(text="dog", log_likelihood=-1.25, token_count=2)
    return [text, question]


def item_scores(evaluation: str) -> list[evaluation_pb2.ItemScore]:
    """Item i is right if i < RIGHT; the full run besides loses the first two items of the base model."""
    key = evaluation.split("/")[1].split("-")[0]
    items = []
    for i in range(ITEMS):
        right = 2 <= i < RIGHT[key] + 2 if key == "full" else i < RIGHT[key]
        outcome = CORRECT if right else NO_ANSWER if key == "base" and i % 3 == 0 else WRONG
        a, b, c = 12 + i, 7 + 3 * i, 4 + i % 9
        answer = str(a + b - c)
        found = answer if right else "" if outcome == NO_ANSWER else str(a + b)
        steps = f"First add: {a} + {b} = {a + b}.\nThen take away: {a + b} - {c} = {answer}."
        if key == "full" and i % 20 == 3:
            steps = steps.replace(f"= {a + b}.", f"= {a + b + 1}.")
        output = f"{steps}\nAnswer: {found}"
        if key == "base":
            output = (
                f"{a} + {b} - {c} = {found}"
                if found
                else "Let me think about this sum step by step, carefully. " * 6
            )
        if i == 0:
            output = HOSTILE
        found_steps = find_steps(output) if key == "full" else ()
        items.append(
            evaluation_pb2.ItemScore(
                step_count=len(found_steps), true_step_count=sum(step.true for step in found_steps),
                strict_score=float(right and i != 9),
                trace_id=f"sum-{i:04}", position=i, prompt=f"What is {a} + {b} - {c}?", output=output,
                expected_answer=answer, extracted_answer=found, rule="answer-line" if found else "",
                outcome=outcome, score=float(right), completion_tokens=41 + i % 7, finish_reason="stop",
                latency=Duration(nanos=412_000_000),
            )
        )  # fmt: skip
    return items


async def serve(registry: LiteralRegistry) -> AsyncIterator[str]:
    server = Server("127.0.0.1:0", ["tunix_rt.v1.RegistryService"])
    add_RegistryServiceServicer_to_server(registry, server.grpc_server)
    await server.start()
    everywhere = f"127.0.0.1:{server.port}"
    gateway = Gateway(
        Settings(
            listen="127.0.0.1:0",
            web="127.0.0.1:0",
            registry=everywhere,
            trainer=everywhere,
            evaluator=everywhere,
        )
    )
    await gateway.start()
    yield f"http://127.0.0.1:{gateway.web_port}"
    await gateway.stop(0)
    await server.stop(0)


@pytest.fixture
def registry() -> LiteralRegistry:
    return LiteralRegistry()


@pytest.fixture
async def site(registry: LiteralRegistry) -> AsyncIterator[str]:
    async for address in serve(registry):
        yield address


@pytest.fixture
async def empty_site() -> AsyncIterator[str]:
    async for address in serve(LiteralRegistry(empty=True)):
        yield address


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        await chromium.close()
