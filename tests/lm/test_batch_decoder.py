import pytest
from flax import nnx

from tunix_rt.lm.decoding import BatchDecoder, Progress
from tunix_rt.lm.generate import Generator
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.packing import Request
from tunix_rt.lm.tiled import for_generation

PROMPTS = ([3, 4, 5], [40, 41], [60, 7, 9, 11])
NEW = 24


@pytest.fixture(scope="module")
def expected(lively_model: Decoder) -> list[tuple[int, ...]]:
    """What each prompt gives alone; without stop tokens all have full length."""
    generator = Generator(lively_model, eos_ids=[], batch_sizes=(1,))
    return [generator.generate([prompt], NEW)[0].tokens for prompt in PROMPTS]


@pytest.fixture
def decoder(lively_model: Decoder) -> BatchDecoder:
    return BatchDecoder(lively_model, eos_ids=[], batch_sizes=(1, 8), segment_steps=16)


def test_a_prefill_gives_the_first_token_and_segments_the_rest(decoder, expected) -> None:
    (first,) = decoder.prefill([Request(PROMPTS[0], NEW)])
    assert first == Progress(first.handle, expected[0][:1], "")
    assert decoder.step_segment() == [Progress(first.handle, expected[0][1:17], "")]
    assert decoder.step_segment() == [Progress(first.handle, expected[0][17:], "length")]
    assert (decoder.running, decoder.step_segment()) == (0, [])


def test_requests_join_and_leave_while_others_run(decoder, expected) -> None:
    (first,) = decoder.prefill([Request(PROMPTS[0], NEW)])
    made = {first.handle: list(first.tokens)}
    for progress in decoder.step_segment():
        made[progress.handle] += progress.tokens
    others = decoder.prefill([Request(prompt, NEW) for prompt in PROMPTS[1:]])
    made |= {each.handle: list(each.tokens) for each in others}
    while decoder.running:
        for progress in decoder.step_segment():
            made[progress.handle] += progress.tokens
    assert [tuple(tokens) for tokens in made.values()] == expected


def test_a_cancelled_request_frees_its_row_and_leaves_the_others_alone(decoder, expected) -> None:
    first, second = decoder.prefill([Request(prompt, NEW) for prompt in PROMPTS[:2]])
    decoder.cancel(first.handle)
    decoder.cancel(first.handle)
    assert (decoder.running, decoder.free) == (1, 7)
    tokens = list(second.tokens)
    while decoder.running:
        (progress,) = decoder.step_segment()
        tokens += progress.tokens
    assert tuple(tokens) == expected[1]


def test_a_request_for_one_token_ends_at_the_prefill(decoder, expected) -> None:
    (only,) = decoder.prefill([Request(PROMPTS[0], 1)])
    assert (only.tokens, only.finish_reason) == (expected[0][:1], "length")
    assert decoder.running == 0


def test_a_stop_token_first_ends_at_the_prefill(lively_model, expected) -> None:
    decoder = BatchDecoder(lively_model, eos_ids=[expected[0][0]], batch_sizes=(1,))
    (only,) = decoder.prefill([Request(PROMPTS[0], NEW)])
    assert (only.tokens, only.finish_reason) == ((), "stop")


def test_more_requests_than_fit_are_refused_and_none_starts(decoder) -> None:
    with pytest.raises(ValueError, match="9 requests, but only 8 fit"):
        decoder.prefill([Request(PROMPTS[0], NEW)] * 9)
    with pytest.raises(ValueError, match="no tokens"):
        decoder.prefill([Request(PROMPTS[0], NEW), Request([], NEW)])
    assert decoder.running == 0


def test_a_cancelled_request_leaves_those_that_shared_its_prompt_alone(decoder, expected) -> None:
    first, second = decoder.prefill([Request(PROMPTS[0], NEW)] * 2)
    decoder.cancel(first.handle)
    tokens = list(second.tokens)
    while decoder.running:
        (progress,) = decoder.step_segment()
        tokens += progress.tokens
    assert tuple(tokens) == expected[0]


def test_rows_that_have_ended_leave_the_others_as_they_are_alone(lively_model) -> None:
    requests = [Request([3 + number, 40], 3 + 5 * number) for number in range(8)]
    tiled = for_generation(nnx.clone(lively_model))
    together = dict(Generator(tiled, eos_ids=[], batch_sizes=(8,)).stream(requests))
    alone = Generator(tiled, eos_ids=[], batch_sizes=(1,))
    for number, request in enumerate(requests):
        assert together[number] == next(alone.stream([request]))[1]
