"""Texts scored by the engine process: a real process and a real, tiny model."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.engine_process import TextEvent
from tunix_rt.evaluator.messages import (
    Decoding,
    Finished,
    Item,
    ItemDone,
    ItemFailed,
    TextScored,
    TextToScore,
)
from tunix_rt.rpc.errors import FailedPrecondition, Reason

# Programs are compiled here first, which takes its time beside other work.
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

QUESTION = ({"role": "user", "content": "What is 3 + 4?"},)


async def score(engine: EngineClient, model: EngineModel, items: Sequence[TextToScore]) -> list[TextEvent]:
    return [event async for event in engine.score_texts(model, items)]


def scored(events: list[TextEvent]) -> dict[tuple[int, int], TextScored]:
    return {(each.item, each.sample): each for each in events if isinstance(each, TextScored)}


async def test_choices_are_scored_as_each_would_be_alone(engine: EngineClient, model: EngineModel) -> None:
    choices = ["7", "Answer: 7", "It is seven.", " 12\n"]
    items = [TextToScore(4, QUESTION, choice, sample=index) for index, choice in enumerate(choices)]
    together = scored(await score(engine, model, items))
    assert sorted(together) == [(4, 0), (4, 1), (4, 2), (4, 3)]
    for item in items:
        (alone,) = scored(await score(engine, model, [item])).values()
        same = together[4, item.sample]
        assert alone.token_count == same.token_count
        assert alone.log_likelihood == pytest.approx(same.log_likelihood, abs=1e-4)


async def test_the_log_likelihood_is_the_sum_over_the_tokens(
    engine: EngineClient, model: EngineModel
) -> None:
    (one,) = scored(await score(engine, model, [TextToScore(0, QUESTION, "Answer: 7")])).values()
    assert len(one.log_probabilities) == one.token_count > 1
    assert one.log_likelihood == math.fsum(one.log_probabilities)
    assert all(value < 0 for value in one.log_probabilities)


async def test_a_given_beginning_is_not_scored(engine: EngineClient, model: EngineModel) -> None:
    items = [
        TextToScore(0, QUESTION, "<answer>7"),
        TextToScore(1, QUESTION, "7", prefix="<answer>"),
        TextToScore(2, QUESTION, "<answer>"),
    ]
    found = {key[0]: each for key, each in scored(await score(engine, model, items)).items()}
    assert found[1].token_count == 1
    assert found[1].log_likelihood == pytest.approx(found[0].log_probabilities[-1], abs=1e-4)
    assert found[1].prompt_tokens == found[2].prompt_tokens + found[2].token_count


async def test_the_greedy_token_is_scored_as_greedy(engine: EngineClient, model: EngineModel) -> None:
    decoding = Decoding(max_tokens=1)
    events = engine.generate(model, [Item(0, QUESTION)], decoding=decoding, stream=False)
    (text,) = [event.text async for event in events if isinstance(event, ItemDone)]
    items = [TextToScore(0, QUESTION, text), TextToScore(1, QUESTION, text + "!")]
    assert {key[0]: each.greedy for key, each in scored(await score(engine, model, items)).items()} == {
        0: True,
        1: False,
    }


async def test_a_text_that_does_not_fit_fails_alone(engine: EngineClient, model: EngineModel) -> None:
    items = [
        TextToScore(0, QUESTION, "7 " * 5000),
        TextToScore(1, QUESTION, ""),
        TextToScore(2, QUESTION, "7"),
    ]
    events = await score(engine, model, items)
    failed = {event.item: event.message for event in events if isinstance(event, ItemFailed)}
    assert sorted(failed) == [0, 1]
    assert "exceed the model's context of 512 tokens" in failed[0]
    assert list(scored(events)) == [(2, 0)]
    assert isinstance(events[-1], Finished)


async def test_a_request_without_texts_ends_at_once(engine: EngineClient, model: EngineModel) -> None:
    assert [type(event) for event in await score(engine, model, [])] == [Finished]


async def test_a_broken_model_is_a_typed_error(
    engine: EngineClient, model: EngineModel, tmp_path: Path
) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await score(engine, EngineModel(tmp_path, "digest-of-no-model"), [TextToScore(0, QUESTION, "7")])
    assert caught.value.reason is Reason.MODEL_INVALID


async def test_generation_goes_on_beside_scoring(engine: EngineClient, model: EngineModel) -> None:
    items = [TextToScore(number, QUESTION, f"{number} " * 40) for number in range(60)]
    decoding = Decoding(max_tokens=20)

    async def generate() -> int:
        events = engine.generate(model, [Item(0, QUESTION)], decoding=decoding, stream=False)
        return len([event async for event in events])

    events, generated = await asyncio.gather(score(engine, model, items), generate())
    assert len(scored(events)) == 60
    assert generated == 2


async def test_closing_stops_the_texts(engine: EngineClient, model: EngineModel) -> None:
    items = [TextToScore(number, QUESTION, f"{number} " * 100) for number in range(200)]
    async with aclosing(engine.score_texts(model, items)) as events:
        await anext(events)
    assert engine.open_requests == 0


async def test_broken_weights_fail_the_items_and_not_the_engine(
    engine: EngineClient, model: EngineModel, tmp_path: Path
) -> None:
    shutil.copytree(model.directory, tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * np.float32("nan")
    save_file(tensors, weights)
    broken = EngineModel(tmp_path / "broken", "digest-of-nan")
    before = engine.pid
    (failed, finished) = await score(engine, broken, [TextToScore(0, QUESTION, "7")])
    assert isinstance(failed, ItemFailed)
    assert "no finite probability" in failed.message
    assert isinstance(finished, Finished)
    events = engine.generate(
        broken, [Item(3, QUESTION)], decoding=Decoding(max_tokens=4), stream=False, log_probabilities=True
    )
    kinds = [type(event).__name__ async for event in events]
    assert kinds == ["ItemFailed", "Finished"]
    assert engine.pid == before
