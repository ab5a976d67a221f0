"""Nothing is compiled after the warm-up, whatever the requests; counted."""

from __future__ import annotations

import random

import pytest

from tunix_rt.evaluator.compilations import Compilations
from tunix_rt.evaluator.engine import Engine
from tunix_rt.evaluator.engine_client import EngineModel
from tunix_rt.evaluator.messages import Cancel, Decoding, Event, Finished, Generate, Item, Load
from tunix_rt.lm.decoding import BatchDecoder
from tunix_rt.lm.packing import Request
from tunix_rt.lm.sampling import Sampling
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model

LONGEST = 192


@pytest.fixture(scope="module")
def decoder(model: EngineModel) -> BatchDecoder:
    """A decoder with a small and a large batch, warmed up."""
    eos_ids = Tokenizer.load(model.directory).eos_ids
    made = BatchDecoder(load_model(model.directory), eos_ids=eos_ids, batch_sizes=(1, 8))
    made.warm_up(LONGEST)
    return made


def requests(seed: int, sampling: Sampling) -> list[Request]:
    draw = random.Random(seed)
    made = []
    for number in range(40):
        size = draw.randint(1, LONGEST - 1)
        prompt = [draw.randrange(200) for _ in range(size)]
        made.append(Request(prompt, draw.randint(1, LONGEST - size), sampling=sampling, item=number))
    return made


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(temperature=0.7, top_k=9, repetition_penalty=1.2)],
    ids=["greedy", "sampled"],
)
def test_nothing_is_compiled_after_the_warm_up(decoder: BatchDecoder, seed: int, sampling: Sampling) -> None:
    compilations, draw = Compilations(), random.Random(seed)
    waiting = requests(seed, sampling)
    while waiting or decoder.running:
        count = draw.randint(0 if decoder.running else 1, decoder.free)
        begun = decoder.prefill(waiting[:count])
        waiting = waiting[count:]
        if begun and draw.random() < 0.2:
            decoder.cancel(draw.choice(begun).handle)
        decoder.step_segment()
    assert compilations.count == 0


def test_a_busy_decoder_cannot_be_warmed_up(decoder: BatchDecoder) -> None:
    (running,) = decoder.prefill([Request([5, 6], 50)])
    with pytest.raises(ValueError, match="1 requests run"):
        decoder.warm_up(LONGEST)
    decoder.cancel(running.handle)


def test_the_end_of_a_request_tells_what_was_compiled(model: EngineModel) -> None:
    events: list[Event] = []
    engine = Engine(events.append, memory_limit=10**12)
    engine.do(Load("a", "a", str(model.directory)))
    for name, stream in (("first", False), ("streamed", True)):
        items = tuple(Item(number, tokens=(5 + number, len(name))) for number in range(3))
        engine.do(Generate(name, "a", items, Decoding(max_tokens=20), stream=stream))
        engine.do(Generate(f"{name}-cancelled", "a", items[:1], Decoding(max_tokens=90)))
        engine.round()
        engine.do(Cancel(f"{name}-cancelled"))
        while engine.busy:
            engine.round()
    counts = {event.request: event.compilations for event in events if isinstance(event, Finished)}
    assert counts["streamed"] == 0
