"""What a run is refused for because of its rows, and the preview of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tunix_rt.rpc.status import reason_of, status_of, violations_of
from tunix_rt.trainer.server import start
from tunix_rt.trainer.settings import Settings
from tunix_rt.v1 import registry_service_pb2
from tunix_rt.v1.dataset_pb2 import ChatMessage, Trace
from tunix_rt.v1.run_pb2 import MixturePart, Run, RunSpec
from tunix_rt.v1.trainer_service_pb2 import CreateRunRequest, PreviewRunRequest
from tunix_rt.v1.trainer_service_pb2_grpc import TrainerServiceStub


@pytest.fixture
async def trainer(registry: Any, tmp_path: Path) -> AsyncIterator[Any]:
    settings = Settings(
        listen="127.0.0.1:0", registry=registry.address, blobs=registry.blobs_url, work=tmp_path / "trainer"
    )
    server = await start(settings)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield TrainerServiceStub(channel)
    await server.stop(0)


@pytest.fixture
async def chats(registry: Any) -> str:
    created = await registry.stub.CreateDataset(registry_service_pb2.CreateDatasetRequest())
    request = registry_service_pb2.AppendTracesRequest(dataset=created.name)
    turns = [("user", "Hello"), ("assistant", "Hi!"), ("user", "What is 1 + 1?"), ("assistant", "2")]
    messages = [ChatMessage(role=role, content=content) for role, content in turns]
    request.traces.append(Trace(id="chat", messages=messages))
    call = registry.stub.AppendTraces()
    await call.write(request)
    await call.done_writing()
    async for _ in call:
        pass
    sealed = await registry.stub.SealDataset(registry_service_pb2.SealDatasetRequest(name=created.name))
    return str(sealed.name)


async def refused(call: Any) -> tuple[str, str, list[tuple[str, str]]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = status_of(caught.value)
    return reason_of(status), status.message, violations_of(status)


def changed(spec: RunSpec, change: Callable[[RunSpec], None]) -> RunSpec:
    made = RunSpec()
    made.CopyFrom(spec)
    change(made)
    return made


async def test_the_preview_shows_exact_tokens_and_their_weights(trainer: Any, spec: RunSpec) -> None:
    seen = await trainer.PreviewRun(PreviewRunRequest(spec=spec, row_count=2))
    assert len(seen.rows) == 2
    row = seen.rows[0]
    learnt = "".join(token.text for token in row.tokens if token.weight == 1)
    assert learnt.endswith("<|im_end|>")
    assert "\nAnswer: " in learnt
    assert "".join(token.text for token in row.tokens).startswith("<|im_start|>system\n")
    assert row.dataset == spec.dataset


async def test_padding_is_what_rows_hold_beside_traces_and_their_common_start(
    trainer: Any, spec: RunSpec
) -> None:
    seen = await trainer.PreviewRun(PreviewRunRequest(spec=spec, row_count=32))
    places = zip(*([token.id for token in row.tokens] for row in seen.rows), strict=False)
    start = next(place for place, ids in enumerate(places) if len(set(ids)) > 1)
    held = seen.token_count - start * (32 - seen.row_count)
    assert seen.padding_share == pytest.approx(1 - held / (seen.row_count * 256))


async def test_the_preview_counts_an_epoch(trainer: Any, spec: RunSpec) -> None:
    seen = await trainer.PreviewRun(PreviewRunRequest(spec=spec))
    assert (seen.trace_count, seen.step_count, len(seen.rows)) == (32, 6, 3)
    assert seen.steps_per_epoch == -(-seen.row_count // 2)
    assert sum(each.count for each in seen.lengths) == 32
    assert 0 < seen.weighted_token_count < seen.token_count
    memory = seen.memory
    assert memory.total_bytes == (
        memory.weights_bytes + memory.gradients_bytes + memory.optimizer_bytes + memory.activations_bytes
    )
    assert seen.spec.batching == RunSpec.PACKED


async def test_the_preview_has_the_rows_that_a_worker_trains_on(
    trainer: Any, bench: Any, spec: RunSpec
) -> None:
    seen = await trainer.PreviewRun(PreviewRunRequest(spec=spec))
    name = await bench.queue(spec, "well")
    await bench.run_until(name)
    request = registry_service_pb2.ListArtifactsRequest(owner=name, kind="rows")
    [rows] = (await bench.registry.stub.ListArtifacts(request)).artifacts
    spec.system_prompt = "well"  # as the bench has it
    again = await trainer.PreviewRun(PreviewRunRequest(spec=spec))
    assert rows.files[0].sha256 == again.rows_sha256 != seen.rows_sha256


async def test_traces_that_are_too_long_refuse_the_run_with_counts_and_examples(
    trainer: Any, spec: RunSpec
) -> None:
    spec.max_length = 48
    reason, message, _ = await refused(trainer.CreateRun(CreateRunRequest(run=Run(spec=spec))))
    assert reason == "ROWS_INVALID"
    assert message.startswith("TOO_LONG: 38 traces, such as ")
    assert message.count(" tokens)") == 3


async def test_the_preview_of_refused_rows_names_the_problem(trainer: Any, spec: RunSpec) -> None:
    spec.max_length = 48
    seen = await trainer.PreviewRun(PreviewRunRequest(spec=spec))
    [problem] = seen.problems
    assert (problem.reason, problem.count, problem.refused, len(problem.examples)) == (
        "TOO_LONG",
        38,
        True,
        3,
    )
    assert (seen.trace_count, len(seen.rows)) == (0, 0)


async def test_a_policy_lets_the_run_be_created(trainer: Any, spec: RunSpec) -> None:
    spec.max_length, spec.overlong = 64, RunSpec.CUT_PROMPT
    run = await trainer.CreateRun(CreateRunRequest(run=Run(spec=spec)))
    assert run.spec.overlong == RunSpec.CUT_PROMPT
    seen = await trainer.PreviewRun(PreviewRunRequest(spec=spec))
    assert [(each.reason, each.refused) for each in seen.problems] == [("PROMPT_CUT", False)]
    assert seen.rows[0].cut_tokens > 0


async def test_a_mixture_is_previewed_by_its_weights(trainer: Any, spec: RunSpec, chats: str) -> None:
    spec.mixture.append(MixturePart(dataset=chats, weight=3))
    seen = await trainer.PreviewRun(PreviewRunRequest(spec=spec, row_count=100))
    assert seen.trace_count == 35
    own = [row for row in seen.rows if row.dataset == chats]
    assert [row.trace for row in own] == ["chat"] * 3
    learnt = "".join(token.text for token in own[0].tokens if token.weight)
    assert learnt == "Hi!<|im_end|>2<|im_end|>"


async def test_a_conversation_comes_back_from_the_registry(registry: Any, chats: str) -> None:
    request = registry_service_pb2.ListTracesRequest(dataset=chats)
    [trace] = (await registry.stub.ListTraces(request)).traces
    assert trace.prompt == "What is 1 + 1?"
    assert [turn.role for turn in trace.messages] == ["user", "assistant", "user", "assistant"]


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda spec: setattr(spec, "max_length", 4096), ["spec.max_length"]),
        (
            lambda spec: spec.mixture.add(dataset="x", weight=-1),
            ["spec.mixture[0].dataset", "spec.mixture[0].weight"],
        ),
        (lambda spec: spec.mixture.add(dataset=spec.dataset), ["spec.mixture[0].dataset"]),
        (
            lambda spec: spec.mixture.extend(MixturePart(dataset=f"datasets/a{n}") for n in range(17)),
            ["spec.mixture"],
        ),
        (lambda spec: setattr(spec, "batching", 9), ["spec.batching"]),
        (lambda spec: setattr(spec, "overlong", 9), ["spec.overlong"]),
        (lambda spec: setattr(spec, "format", "xml"), ["spec.format"]),
    ],
)
async def test_bad_fields_are_named(trainer: Any, spec: RunSpec, change: Any, fields: list[str]) -> None:
    reason, _, found = await refused(trainer.PreviewRun(PreviewRunRequest(spec=changed(spec, change))))
    assert (reason, [field for field, _ in found]) == ("INVALID_FIELDS", fields)


async def test_too_many_rows_are_refused(trainer: Any, spec: RunSpec) -> None:
    _, _, found = await refused(trainer.PreviewRun(PreviewRunRequest(spec=spec, row_count=101)))
    assert found == [("row_count", "is 101; it must be in [1, 100], or 0 for 3.")]


async def test_a_mixture_part_must_have_traces(trainer: Any, spec: RunSpec, chats: str) -> None:
    spec.mixture.append(MixturePart(dataset=chats, split="test"))
    reason, message, _ = await refused(trainer.CreateRun(CreateRunRequest(run=Run(spec=spec))))
    assert reason == "SPLIT_EMPTY"
    assert message.startswith("run.spec.mixture[0].split")


async def test_warmup_that_never_ends_is_refused_when_the_run_is_created(trainer: Any, spec: RunSpec) -> None:
    spec.steps, spec.epochs, spec.optimizer.warmup_steps = 0, 1, 500
    reason, message, _ = await refused(trainer.CreateRun(CreateRunRequest(run=Run(spec=spec))))
    assert reason == "INVALID_FIELDS"
    assert "warmup_steps is 500" in message
