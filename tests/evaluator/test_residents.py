"""Models that take turns in memory, in this process and round by round."""

from __future__ import annotations

from tunix_rt.evaluator.engine import Engine
from tunix_rt.evaluator.engine_client import EngineModel
from tunix_rt.evaluator.messages import Cancel, Decoding, Event, Failed, Generate, Item, Load, Loaded

ITEM = Item(0, tokens=(5, 6, 7))
LONG = Decoding(max_tokens=200, temperature=2.0)


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
