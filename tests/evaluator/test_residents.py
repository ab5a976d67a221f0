"""Models that take turns in memory, requests in parts, and outputs from the cache; round by round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tunix_rt.evaluator.engine import Engine
from tunix_rt.evaluator.engine_client import EngineModel
from tunix_rt.evaluator.messages import (
    Cancel,
    Decoding,
    Event,
    Failed,
    Finished,
    Generate,
    Item,
    ItemDone,
    Load,
    Loaded,
)
from tunix_rt.evaluator.output_cache import OutputCache

ITEM = Item(0, tokens=(5, 6, 7))
LONG = Decoding(max_tokens=200, temperature=2.0)


ITEMS = tuple(Item(number, tokens=(5, 6 + number, 7)) for number in range(6))
SHORT = Decoding(max_tokens=12)
WARM = Decoding(max_tokens=12, temperature=1.0, seed=4)


def load(engine: Engine, model: EngineModel, name: str) -> None:
    engine.do(Load(name, name, str(model.directory)))


def test_a_model_in_use_is_not_given_up(model: EngineModel) -> None:
    events: list[Event] = []
    engine = Engine(events.append, resident_limit=1)
    load(engine, model, "a")
    engine.do(Generate("a", "a", (ITEM,), LONG))
    load(engine, model, "b")
    engine.do(Generate("b", "b", (), LONG))
    engine.do(Generate("again", "a", (), LONG))  # does not wait behind the model that has no room
    assert [type(event).__name__ for event in events] == ["Loaded", "Finished"]
    engine.do(Cancel("a"))
    assert not engine.busy
    engine.round()
    assert [(type(event).__name__, event.request) for event in events[2:]] == [
        ("Loaded", "b"),
        ("Finished", "b"),
    ]


def test_a_model_that_was_given_up_is_loaded_again(model: EngineModel) -> None:
    events: list[Event] = []
    engine = Engine(events.append, resident_limit=1)
    for name in ("a", "b", "a"):
        load(engine, model, name)
    loaded = [event for event in events if isinstance(event, Loaded)]
    assert len(loaded) == 3
    assert all(event.seconds > 0 for event in loaded)
    load(engine, model, "a")
    assert events[-1] == Loaded("a", 0.0)


def test_a_cancelled_command_that_waited_is_forgotten(model: EngineModel) -> None:
    events: list[Event] = []
    engine = Engine(events.append, resident_limit=1)
    load(engine, model, "a")
    engine.do(Generate("a", "a", (ITEM,), LONG))
    load(engine, model, "b")
    engine.do(Cancel("b"))
    engine.do(Cancel("a"))
    engine.round()
    assert events == events[:1]


def test_an_unknown_digest_is_a_typed_failure() -> None:
    events: list[Event] = []
    Engine(events.append).do(Generate("r", "nothing", (ITEM,), LONG))
    assert isinstance(events[0], Failed)
    assert events[0].reason == "MODEL_INVALID"


def finished(engine: Engine, events: list[Event], *commands: Generate) -> dict[tuple[int, int], ItemDone]:
    """What becomes of the items of these commands, each given when the engine has nothing to do."""
    del events[:]
    for command in commands:
        engine.do(command)
        while engine.busy:
            engine.round()
    assert [type(event) for event in events].count(Finished) == 1
    assert isinstance(events[-1], Finished)
    return {(each.item, each.sample): each for each in events if isinstance(each, ItemDone)}


def texts(outputs: dict[tuple[int, int], ItemDone]) -> dict[tuple[int, int], tuple[str, int, str]]:
    return {at: (each.text, each.completion_tokens, each.finish_reason) for at, each in outputs.items()}


@pytest.mark.parametrize("decoding", [SHORT, WARM], ids=["greedy", "sampled"])
def test_a_request_in_parts_has_the_outputs_of_a_whole_one(model: EngineModel, decoding: Decoding) -> None:
    events: list[Event] = []
    engine = Engine(events.append)
    load(engine, model, "a")
    whole = finished(engine, events, Generate("r", "a", ITEMS, decoding))
    parts = [
        Generate("s", "a", ITEMS[:4], decoding, more=True),
        Generate("s", "a", ITEMS[4:], decoding, more=True),
        Generate("s", "a", (), decoding),
    ]
    assert texts(finished(engine, events, *parts)) == texts(whole)
    assert len(whole) == 6


def test_the_model_of_a_request_that_goes_on_is_not_given_up(model: EngineModel) -> None:
    events: list[Event] = []
    engine = Engine(events.append, resident_limit=1)
    load(engine, model, "a")
    engine.do(Generate("a", "a", (), LONG, more=True))
    load(engine, model, "b")
    assert not engine.busy
    assert [type(event) for event in events] == [Loaded]
    engine.do(Generate("a", "a", (), LONG))
    engine.round()
    assert [event.request for event in events if isinstance(event, Loaded)] == ["a", "b"]


def test_a_request_whose_later_part_fails_leaves_nothing_behind(model: EngineModel) -> None:
    events: list[Event] = []
    engine = Engine(events.append)
    load(engine, model, "a")
    engine.do(Generate("a", "a", (ITEM,), LONG, more=True))
    engine.do(Generate("a", "a", (Item(1, messages=({"role": "user"},)),), LONG))
    assert isinstance(events[-1], Failed)
    assert not engine.busy


@pytest.fixture
def outputs(tmp_path: Path) -> OutputCache:
    return OutputCache(tmp_path, 1024 * 1024)


@pytest.mark.parametrize("decoding", [SHORT, WARM], ids=["greedy", "sampled"])
def test_an_output_is_made_once(model: EngineModel, outputs: OutputCache, decoding: Decoding) -> None:
    events: list[Event] = []
    engine = Engine(events.append, outputs=outputs)
    load(engine, model, "a")
    first = finished(engine, events, Generate("r", "a", ITEMS[:4], decoding, reuse=True))
    again = finished(engine, events, Generate("s", "a", ITEMS, decoding, reuse=True))
    assert [each.cached for each in first.values()] == [False] * 4
    assert [again[number, 0].cached for number in range(6)] == [True] * 4 + [False] * 2
    for place, output in first.items():
        assert replace(again[place], request="r", cached=False) == output


def test_outputs_from_the_cache_have_no_rate(model: EngineModel, outputs: OutputCache) -> None:
    events: list[Event] = []
    engine = Engine(events.append, outputs=outputs)
    load(engine, model, "a")
    finished(engine, events, Generate("r", "a", ITEMS, SHORT, reuse=True))
    finished(engine, events, Generate("s", "a", ITEMS, SHORT, reuse=True))
    assert events[-1] == Finished("s", 0, 0.0)


def test_a_request_without_reuse_neither_takes_nor_keeps_outputs(
    model: EngineModel, outputs: OutputCache
) -> None:
    events: list[Event] = []
    engine = Engine(events.append, outputs=outputs)
    load(engine, model, "a")
    for name in ("r", "s"):
        done = finished(engine, events, Generate(name, "a", ITEMS[:1], SHORT))
        assert not done[0, 0].cached
    assert not finished(engine, events, Generate("t", "a", ITEMS[:1], SHORT, reuse=True))[0, 0].cached


def test_outputs_with_log_probabilities_are_made_anew(model: EngineModel, outputs: OutputCache) -> None:
    events: list[Event] = []
    engine = Engine(events.append, outputs=outputs)
    load(engine, model, "a")
    plain = finished(engine, events, Generate("r", "a", ITEMS[:1], SHORT, reuse=True))[0, 0]
    asked = Generate("s", "a", ITEMS[:1], SHORT, reuse=True, log_probabilities=True)
    told = finished(engine, events, asked)[0, 0]
    assert (told.text, told.cached, len(told.tokens)) == (plain.text, False, plain.completion_tokens)


def test_another_stop_text_is_another_question(model: EngineModel, outputs: OutputCache) -> None:
    events: list[Event] = []
    engine = Engine(events.append, outputs=outputs)
    load(engine, model, "a")
    whole = finished(engine, events, Generate("r", "a", ITEMS[:1], SHORT, reuse=True))[0, 0]
    stop = whole.text[2:4]
    stopped = replace(SHORT, stop=(stop,))
    done = finished(engine, events, Generate("s", "a", ITEMS[:1], stopped, reuse=True))[0, 0]
    assert done.text == whole.text[: whole.text.index(stop)]
    again = finished(engine, events, Generate("t", "a", ITEMS[:1], stopped, reuse=True))[0, 0]
    assert (again.text, again.finish_reason, again.cached) == (done.text, "stop", True)
