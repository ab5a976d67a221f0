"""Runs that have trained an adapter are generated with as their base and the adapter, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunix_rt.v1 import dataset_pb2, registry_service_pb2
from tunix_rt.v1.evaluation_pb2 import Decoding
from tunix_rt.v1.evaluator_service_pb2 import GenerateRequest

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

TRACES = [
    dataset_pb2.Trace(prompt=f"What is {number} + 1?", final_answer=str(number + 1)) for number in range(40)
]
PROMPTS = ["What is 2 + 2?", "What is 3 + 9?"]


async def text(stack: Any, subject: str) -> str:
    request = GenerateRequest(subject=subject, prompts=PROMPTS, decoding=Decoding(max_tokens=24))
    found = ["", ""]
    async for response in stack.evaluator.Generate(request):
        found[response.index] += response.text
    return "|".join(found)


async def test_a_run_of_an_adapter_is_its_base_with_the_adapter(
    stack: Any, adapted: list[tuple[Path, Path]]
) -> None:
    base = await stack.make_model()
    dataset = await stack.make_dataset(TRACES)
    expected = [await text(stack, await stack.make_model(merged)) for _, merged in adapted]
    for (_, merged), wanted in zip(adapted, expected, strict=True):
        run = await stack.enqueue_run(base, dataset.name, lora={"rank": 4})
        await stack.succeed_run(run, merged)
        assert await text(stack, run) == wanted
        digest = (await stack.registry.GetRun(registry_service_pb2.GetRunRequest(name=run))).weights_digest
        kept = sorted(path.name for path in (stack.work / "adapters" / digest).rglob("*.*"))
        assert kept == ["adapter_config.json", "adapter_model.safetensors"]
    assert len({*expected, await text(stack, base)}) == 3


async def test_an_evaluation_of_it_has_the_digest_of_all_its_files(
    stack: Any, adapted: list[tuple[Path, Path]]
) -> None:
    base, dataset = await stack.make_model(), await stack.make_dataset(TRACES)
    run = await stack.enqueue_run(base, dataset.name, lora={"rank": 4})
    await stack.succeed_run(run, adapted[0][1])
    made = await stack.evaluate(
        subject=run, dataset=dataset.name, split="test", limit=2, decoding=Decoding(max_tokens=8)
    )
    ended = await stack.ended(made.name)
    found = await stack.registry.GetRun(registry_service_pb2.GetRunRequest(name=run))
    assert ended.weights_digest == found.weights_digest
