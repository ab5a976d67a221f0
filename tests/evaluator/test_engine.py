"""The engine process, through its client: a real process and a real, tiny model."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from pathlib import Path

import pytest

from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.engine_process import ItemEvent
from tunix_rt.evaluator.messages import Decoding, Finished, Item, ItemDone, ItemFailed, Text
from tunix_rt.lm.decoding import smallest_batch_bytes
from tunix_rt.lm.layout import weight_bytes
from tunix_rt.lm.weights import load_config
from tunix_rt.rpc.errors import FailedPrecondition, Reason, Unavailable

# Programs are compiled here first, which takes its time beside other work.
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

GREEDY = Decoding(max_tokens=12)
SAMPLED = Decoding(max_tokens=12, temperature=1.0, top_k=50, top_p=0.95, seed=7)


def question(number: int) -> Item:
    return Item(number, messages=({"role": "user", "content": f"What is {number} + {number * 3}?"},))


async def generate(
    engine: EngineClient, model: EngineModel, *items: Item, decoding: Decoding = GREEDY, stream: bool = False
) -> list[ItemEvent]:
    return [event async for event in engine.generate(model, list(items), decoding=decoding, stream=stream)]


def outputs(events: list[ItemEvent]) -> dict[int, tuple[str, int, str]]:
    done = (event for event in events if isinstance(event, ItemDone))
    return {each.item: (each.text, each.completion_tokens, each.finish_reason) for each in done}


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
async def test_company_does_not_change_an_output(
    engine: EngineClient, model: EngineModel, decoding: Decoding
) -> None:
    items = [question(number) for number in range(5)]
    together = outputs(await generate(engine, model, *items, decoding=decoding))
    assert sorted(together) == [0, 1, 2, 3, 4]
    for item in items[1:3]:
        alone = outputs(await generate(engine, model, item, decoding=decoding))
        assert alone == {item.number: together[item.number]}


async def test_the_streamed_pieces_are_the_output(engine: EngineClient, model: EngineModel) -> None:
    decoding = Decoding(max_tokens=40, temperature=1.5, seed=5)
    whole = outputs(await generate(engine, model, question(4), decoding=decoding))
    events = await generate(engine, model, question(4), decoding=decoding, stream=True)
    pieces = [event.text for event in events if isinstance(event, Text | ItemDone)]
    assert len(pieces) > 2
    assert "".join(pieces) == whole[4][0]
    counts = [event.completion_tokens for event in events if isinstance(event, Text | ItemDone)]
    assert counts == sorted(counts)
    assert counts[-1] == whole[4][1]


async def test_samples_of_an_item_differ_and_do_not_depend_on_company(
    engine: EngineClient, model: EngineModel
) -> None:
    samples = [Item(1, question(1).messages, sample=number) for number in range(4)]
    events = await generate(engine, model, *samples, decoding=SAMPLED)
    texts = {event.sample: event.text for event in events if isinstance(event, ItemDone)}
    assert sorted(texts) == [0, 1, 2, 3]
    assert len(set(texts.values())) > 1
    (alone, _) = await generate(engine, model, samples[2], decoding=SAMPLED)
    assert isinstance(alone, ItemDone)
    assert (alone.sample, alone.text) == (2, texts[2])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_stop_text_ends_an_item_and_is_left_out(
    engine: EngineClient, model: EngineModel, stream: bool
) -> None:
    free = Decoding(max_tokens=60, temperature=1.5, seed=3)
    (whole, _, _) = outputs(await generate(engine, model, question(4), decoding=free))[4]
    stop = whole[7:10]
    decoding = Decoding(max_tokens=60, temperature=1.5, seed=3, stop=(stop,))
    events = await generate(engine, model, question(4), question(5), decoding=decoding, stream=stream)
    mine = [event for event in events if isinstance(event, Text | ItemDone) and event.item == 4]
    assert "".join(event.text for event in mine) == whole[: whole.index(stop)]
    assert isinstance(mine[-1], ItemDone)
    assert mine[-1].finish_reason == "stop"
    assert mine[-1].completion_tokens < 60
    assert isinstance(events[-1], Finished)


async def test_an_item_that_does_not_fit_fails_alone(engine: EngineClient, model: EngineModel) -> None:
    long = Item(9, tokens=(5,) * 100_000)
    events = await generate(engine, model, long, question(1))
    failed = [event for event in events if isinstance(event, ItemFailed)]
    assert [event.item for event in failed] == [9]
    assert "100000 tokens" in failed[0].message
    assert list(outputs(events)) == [1]
    assert isinstance(events[-1], Finished)


async def test_a_broken_model_is_a_typed_error(
    engine: EngineClient, model: EngineModel, tmp_path: Path
) -> None:
    await generate(engine, model, question(1))
    before = engine.pid
    with pytest.raises(FailedPrecondition) as caught:
        await generate(engine, EngineModel(tmp_path, "digest-of-nothing"), question(1))
    assert caught.value.reason is Reason.MODEL_INVALID
    assert "config.json" in caught.value.message
    assert engine.pid == before


async def test_more_models_than_fit_take_turns(model: EngineModel, compile_cache: Path) -> None:
    config = load_config(model.directory)
    limit = 3 * weight_bytes(config) + smallest_batch_bytes(config)  # two models, and the caches of both
    settings = {"TUNIX_RT_COMPILE_CACHE": str(compile_cache), "TUNIX_RT_ENGINE_MEMORY_BYTES": str(limit)}
    engine = EngineClient(settings)
    models = [EngineModel(model.directory, f"digest-{number}") for number in range(3)]
    try:
        answers = await asyncio.gather(*(generate(engine, each, question(2)) for each in models))
        assert len({str(outputs(events)) for events in answers}) == 1
        assert outputs(await generate(engine, models[0], question(2))) == outputs(answers[0])
    finally:
        await engine.stop()


async def test_a_model_that_can_never_fit_is_a_typed_error(model: EngineModel) -> None:
    engine = EngineClient({"TUNIX_RT_ENGINE_MEMORY_BYTES": "1000"})
    try:
        with pytest.raises(FailedPrecondition) as caught:
            await generate(engine, model, question(1))
    finally:
        await engine.stop()
    assert caught.value.reason is Reason.MODEL_TOO_LARGE
    assert caught.value.metadata["limit_bytes"] == "1000"


async def test_closing_a_generation_leaves_the_others_running(
    engine: EngineClient, model: EngineModel
) -> None:
    endless = Decoding(max_tokens=128, temperature=2.0, seed=1)
    other = asyncio.create_task(generate(engine, model, question(3)))
    async with aclosing(engine.generate(model, [question(1)], decoding=endless, stream=True)) as events:
        assert isinstance(await anext(events), Text)
    assert list(outputs(await other)) == [3]
    assert engine.open_requests == 0


async def test_a_request_without_items_ends_at_once(engine: EngineClient, model: EngineModel) -> None:
    assert [type(event) for event in await generate(engine, model)] == [Finished]


async def test_an_engine_that_hangs_is_killed_and_started_again(
    engine: EngineClient, model: EngineModel
) -> None:
    expected = outputs(await generate(engine, model, question(3)))
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    usual, engine.silence_seconds = engine.silence_seconds, 0.2
    try:
        with pytest.raises(Unavailable, match="SIGKILL because it had said nothing") as caught:
            await generate(engine, model, question(3))
    finally:
        engine.silence_seconds = usual
    assert caught.value.reason is Reason.ENGINE_FAILED
    assert outputs(await generate(engine, model, question(3))) == expected
