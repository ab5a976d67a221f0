"""Models that take turns in memory, requests in parts, and outputs from the cache; round by round."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import jax
import pytest
from flax import nnx
from safetensors.numpy import save_file

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
    ItemFailed,
    Load,
    Loaded,
)
from tunix_rt.evaluator.models import Residents
from tunix_rt.evaluator.output_cache import OutputCache
from tunix_rt.lm.decoding import smallest_batch_bytes
from tunix_rt.lm.layout import weight_bytes
from tunix_rt.lm.lora import add_lora, export_lora, lora_config
from tunix_rt.lm.model_files import write_json
from tunix_rt.lm.weights import load_config, load_model

ITEM = Item(0, tokens=(5, 6, 7))
LONG = Decoding(max_tokens=100, temperature=2.0)
MANY = 10**12


@pytest.fixture(scope="module")
def one(model: EngineModel) -> int:
    """What the tiny model takes with a batch of one short prompt."""
    config = load_config(model.directory)
    return weight_bytes(config) + smallest_batch_bytes(config)


ITEMS = tuple(Item(number, tokens=(5, 6 + number, 7)) for number in range(6))
SHORT = Decoding(max_tokens=12)
WARM = Decoding(max_tokens=12, temperature=1.0, seed=4)


def load(engine: Engine, model: EngineModel, name: str) -> None:
    engine.do(Load(name, name, str(model.directory)))


def outputs(events: list[Event], request: str) -> list[str]:
    return [event.text for event in events if isinstance(event, ItemDone) and event.request == request]


def finish(engine: Engine) -> None:
    while engine.busy:
        engine.round()


def test_a_model_in_use_is_not_given_up(model: EngineModel, one: int) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=one)
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


def test_a_model_that_was_given_up_is_loaded_again(model: EngineModel, one: int) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=one)
    for name in ("a", "b", "a"):
        load(engine, model, name)
    loaded = [event for event in events if isinstance(event, Loaded)]
    assert len(loaded) == 3
    assert all(event.seconds > 0 for event in loaded)
    load(engine, model, "a")
    assert events[-1] == Loaded("a", 0.0)


def test_a_cancelled_command_that_waited_is_forgotten(model: EngineModel, one: int) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=one)
    load(engine, model, "a")
    engine.do(Generate("a", "a", (ITEM,), LONG))
    load(engine, model, "b")
    engine.do(Cancel("b"))
    engine.do(Cancel("a"))
    engine.round()
    assert events == events[:1]


def test_an_unknown_digest_is_a_typed_failure() -> None:
    events: list[Event] = []
    Engine(events.append, memory_limit=MANY).do(Generate("r", "nothing", (ITEM,), LONG))
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
    engine = Engine(events.append, memory_limit=MANY)
    load(engine, model, "a")
    whole = finished(engine, events, Generate("r", "a", ITEMS, decoding))
    parts = [
        Generate("s", "a", ITEMS[:4], decoding, more=True),
        Generate("s", "a", ITEMS[4:], decoding, more=True),
        Generate("s", "a", (), decoding),
    ]
    assert texts(finished(engine, events, *parts)) == texts(whole)
    assert len(whole) == 6


def test_the_model_of_a_request_that_goes_on_is_not_given_up(model: EngineModel, one: int) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=one + one // 2)
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
    engine = Engine(events.append, memory_limit=MANY)
    load(engine, model, "a")
    engine.do(Generate("a", "a", (ITEM,), LONG, more=True))
    engine.do(Generate("a", "a", (Item(1, messages=({"role": "user"},)),), LONG))
    assert isinstance(events[-1], Failed)
    assert not engine.busy


@pytest.fixture
def kept(tmp_path: Path) -> OutputCache:
    return OutputCache(tmp_path, 1024 * 1024)


@pytest.mark.parametrize("decoding", [SHORT, WARM], ids=["greedy", "sampled"])
def test_an_output_is_made_once(model: EngineModel, kept: OutputCache, decoding: Decoding) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=MANY, outputs=kept)
    load(engine, model, "a")
    first = finished(engine, events, Generate("r", "a", ITEMS[:4], decoding, reuse=True))
    again = finished(engine, events, Generate("s", "a", ITEMS, decoding, reuse=True))
    assert [each.cached for each in first.values()] == [False] * 4
    assert [again[number, 0].cached for number in range(6)] == [True] * 4 + [False] * 2
    for place, output in first.items():
        assert replace(again[place], request="r", cached=False) == output


def test_outputs_from_the_cache_have_no_rate(model: EngineModel, kept: OutputCache) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=MANY, outputs=kept)
    load(engine, model, "a")
    finished(engine, events, Generate("r", "a", ITEMS, SHORT, reuse=True))
    finished(engine, events, Generate("s", "a", ITEMS, SHORT, reuse=True))
    assert events[-1] == Finished("s", 0, 0.0)


def test_a_request_without_reuse_neither_takes_nor_keeps_outputs(
    model: EngineModel, kept: OutputCache
) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=MANY, outputs=kept)
    load(engine, model, "a")
    for name in ("r", "s"):
        done = finished(engine, events, Generate(name, "a", ITEMS[:1], SHORT))
        assert not done[0, 0].cached
    assert not finished(engine, events, Generate("t", "a", ITEMS[:1], SHORT, reuse=True))[0, 0].cached


def test_outputs_with_log_probabilities_are_made_anew(model: EngineModel, kept: OutputCache) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=MANY, outputs=kept)
    load(engine, model, "a")
    plain = finished(engine, events, Generate("r", "a", ITEMS[:1], SHORT, reuse=True))[0, 0]
    asked = Generate("s", "a", ITEMS[:1], SHORT, reuse=True, log_probabilities=True)
    told = finished(engine, events, asked)[0, 0]
    assert (told.text, told.cached, len(told.tokens)) == (plain.text, False, plain.completion_tokens)


def test_another_stop_text_is_another_question(model: EngineModel, kept: OutputCache) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=MANY, outputs=kept)
    load(engine, model, "a")
    whole = finished(engine, events, Generate("r", "a", ITEMS[:1], SHORT, reuse=True))[0, 0]
    stop = whole.text[2:4]
    stopped = replace(SHORT, stop=(stop,))
    done = finished(engine, events, Generate("s", "a", ITEMS[:1], stopped, reuse=True))[0, 0]
    assert done.text == whole.text[: whole.text.index(stop)]
    again = finished(engine, events, Generate("t", "a", ITEMS[:1], stopped, reuse=True))[0, 0]
    assert (again.text, again.finish_reason, again.cached) == (done.text, "stop", True)


def test_a_model_that_can_never_fit_is_refused_with_figures(model: EngineModel, one: int) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=one - 1)
    load(engine, model, "a")
    (failed,) = events
    assert isinstance(failed, Failed)
    assert failed.reason == "MODEL_TOO_LARGE"
    assert failed.figures["limit_bytes"] == one - 1
    assert failed.figures["weights_bytes"] + failed.figures["cache_bytes"] == one
    assert "TUNIX_RT_ENGINE_MEMORY" in failed.message


def test_an_item_whose_cache_can_never_fit_fails_alone(model: EngineModel, one: int) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=one)
    load(engine, model, "a")
    engine.do(Generate("r", "a", (ITEM, Item(1, tokens=(5,) * 100)), LONG))
    finish(engine)
    (failed,) = (event for event in events if isinstance(event, ItemFailed))
    assert failed.item == 1
    assert "100 tokens and max_tokens 100 need a cache of" in failed.message
    assert len(outputs(events, "r")) == 1


def test_little_memory_makes_smaller_batches_with_the_same_outputs(model: EngineModel, one: int) -> None:
    items = tuple(Item(number, tokens=(5, 6, number + 7)) for number in range(12))
    texts = []
    for limit in (one, MANY):
        events: list[Event] = []
        engine = Engine(events.append, memory_limit=limit)
        load(engine, model, "a")
        engine.do(Generate("r", "a", items, Decoding(max_tokens=12)))
        finish(engine)
        done = [event for event in events if isinstance(event, ItemDone)]
        texts.append({event.item: event.text for event in done})
    assert texts[0] == texts[1]
    assert len(texts[0]) == 12


def test_the_limit_is_never_passed(model: EngineModel, one: int) -> None:
    limit = 3 * one
    residents = Residents(limit)
    residents.load(Load("a", "a", str(model.directory)))
    residents.load(Load("b", "b", str(model.directory)))
    items = tuple(Item(number, tokens=(5, 6, 7)) for number in range(32))
    residents.get("a").add(Generate("r", "a", items, LONG))
    residents.get("b").add(Generate("s", "b", items, LONG))
    finished = 0
    while residents.busy:
        for resident in residents.working():
            finished += sum(isinstance(event, Finished) for event in resident.round())
            assert residents.used_bytes <= limit
    assert finished == 2


def test_a_model_that_is_given_up_frees_its_arrays(model: EngineModel, one: int) -> None:
    def held() -> int:
        gc.collect()
        return sum(array.nbytes for array in jax.live_arrays())

    before = held()
    residents = Residents(one)
    for name in ("a", "b", "c"):
        residents.load(Load(name, name, str(model.directory)))
        residents.get(name).add(Generate("r", name, (ITEM,), Decoding(max_tokens=4)))
        while residents.busy:
            list(residents.get(name).round())
        assert before + one <= held() < before + one + 10_000


def test_an_adapter_on_its_base_gives_what_the_merged_model_gives(
    model: EngineModel, adapted: list[tuple[Path, Path]]
) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=MANY)
    items = tuple(Item(number, tokens=(5, 6, number + 7)) for number in range(6))
    engine.do(Load("base", "base", str(model.directory)))
    engine.do(Generate("base", "base", items, Decoding(max_tokens=24)))
    for number, (adapter, merged) in enumerate(adapted):
        name = f"adapter-{number}"
        engine.do(Load(name, name, str(model.directory), "base", str(adapter)))
        engine.do(Generate(name, name, items, Decoding(max_tokens=24)))  # beside the others
        engine.do(Load(f"merged-{number}", f"merged-{number}", str(merged)))
        engine.do(Generate(f"merged-{number}", f"merged-{number}", items, Decoding(max_tokens=24)))
    finish(engine)
    for number in range(2):
        assert sorted(outputs(events, f"adapter-{number}")) == sorted(outputs(events, f"merged-{number}"))
    assert len({str(sorted(outputs(events, name))) for name in ("base", "adapter-0", "adapter-1")}) == 3


def test_models_of_one_base_hold_its_arrays_once(
    model: EngineModel, adapted: list[tuple[Path, Path]], one: int
) -> None:
    def held() -> int:
        gc.collect()
        return sum(array.nbytes for array in jax.live_arrays())

    residents = Residents(MANY)
    residents.load(Load("base", "base", str(model.directory)))
    before = held()
    for number, (adapter, _) in enumerate(adapted):
        name = f"adapter-{number}"
        residents.load(Load(name, name, str(model.directory), "base", str(adapter)))
        residents.get(name).add(Generate("r", name, (ITEM,), Decoding(max_tokens=4)))
    while residents.busy:
        for resident in residents.working():
            list(resident.round())
    config = load_config(model.directory)
    own = held() - before - 2 * smallest_batch_bytes(config)
    adapters = sum((adapter / "adapter_model.safetensors").stat().st_size for adapter, _ in adapted)
    assert own < adapters + 10_000 < weight_bytes(config)


def test_a_base_stays_while_an_adapter_uses_it(
    model: EngineModel, adapted: list[tuple[Path, Path]], one: int
) -> None:
    residents = Residents(one + one // 2)
    adapter = adapted[0][0]
    residents.load(Load("base", "base", str(model.directory)))
    residents.load(Load("tuned", "tuned", str(model.directory), "base", str(adapter)))
    residents.get("tuned").add(Generate("r", "tuned", (ITEM,), Decoding(max_tokens=4)))
    residents.load(Load("base", "base", str(model.directory)))
    assert residents.used_bytes <= one + one // 2
    assert residents.busy


def test_an_adapter_of_another_base_is_a_typed_failure(model: EngineModel, tmp_path: Path) -> None:
    tuned = load_model(model.directory)
    add_lora(tuned, 4, alpha=8.0, rngs=nnx.Rngs(0))
    tensors = {name.replace("layers.0.", "layers.7."): tensor for name, tensor in export_lora(tuned).items()}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    write_json(tmp_path / "adapter_config.json", lora_config(tuned))
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=MANY)
    engine.do(Load("r", "r", str(model.directory), "base", str(tmp_path)))
    assert isinstance(events[0], Failed)
    assert events[0].reason == "MODEL_INVALID"
    assert "layers.7" in events[0].message


def test_a_model_in_int8_stands_beside_itself_in_float32(model: EngineModel) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=MANY)
    engine.do(Load("f", "a", str(model.directory)))
    engine.do(Load("i", "a-int8", str(model.directory), weight_type="int8"))
    engine.do(Generate("f", "a", ITEMS, SHORT))
    engine.do(Generate("i", "a-int8", ITEMS, SHORT))
    finish(engine)
    assert len(outputs(events, "f")) == len(outputs(events, "i")) == len(ITEMS)


def test_an_unknown_weight_type_is_a_typed_failure(model: EngineModel) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=MANY)
    engine.do(Load("r", "a", str(model.directory), weight_type="int4"))
    assert isinstance(events[0], Failed)
    assert events[0].reason == "MODEL_INVALID"
    assert "'int4'" in events[0].message


def test_int8_needs_less_memory(model: EngineModel) -> None:
    used = {}
    for kind in ("float32", "int8"):
        residents = Residents(MANY)
        residents.load(Load("r", "a", str(model.directory), weight_type=kind))
        used[kind] = residents.used_bytes
    config = load_config(model.directory)
    assert used["float32"] - used["int8"] == weight_bytes(config) - weight_bytes(config, "int8")
    assert weight_bytes(config, "int8") < weight_bytes(config) * 0.4
