"""Prompts that share their start are laid out so that it is read once, and give what they give alone."""

import numpy as np

from tunix_rt.lm.decoding import BatchDecoder
from tunix_rt.lm.decoding_steps import Packed, prefill
from tunix_rt.lm.generate import Generator
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.packing import Request, pack
from tunix_rt.lm.sampling import Sampling
from tunix_rt.lm.sharing import Layout, Segment, layouts

START = tuple(range(2, 26))
OTHER = tuple(range(60, 30, -1))
SHARING = [(*START, 40, 41), (*START, 50), (*START, 40, 42, 9), (7, 8, 9), (*OTHER, 3), (*OTHER, 4, 5)]


def distinct(*sizes: int) -> list[tuple[int, ...]]:
    """Prompts of these sizes that share nothing."""
    return [(1000 + number,) * size for number, size in enumerate(sizes)]


def _hidden(model: Decoder, packed: Packed) -> np.ndarray:
    hidden, _ = model.hidden_and_cache(packed.tokens, packed.positions, packed.segments, packed.after)
    return np.asarray(hidden)


def members(layout: Layout) -> list[int]:
    return [index for index, _ in layout.prompts]


def test_prompts_without_a_common_start_go_into_the_first_group_that_has_room() -> None:
    found = layouts(distinct(60, 100, 70, 40, 5), room=128)
    assert [members(each) for each in found] == [[1, 4], [2, 3], [0]]
    assert layouts([], room=128) == []


def test_a_long_prompt_lends_the_room_of_its_padding() -> None:
    assert [members(each) for each in layouts(distinct(200, 50, 10), room=128)] == [[0, 1], [2]]


def test_a_common_start_is_one_segment_and_the_rest_come_after_it() -> None:
    (layout,) = layouts([(*START, 1), (*START, 3, 4)], room=128)
    assert layout.segments == (Segment(START), Segment((3, 4), after=0), Segment((1,), after=0))
    assert layout.prompts == ((1, 1), (0, 2))
    assert layout.size == len(START) + 3


def test_equal_prompts_are_one_segment() -> None:
    (layout,) = layouts([(5, 6), (7,), (5, 6)], room=128)
    assert layout == Layout((Segment((5, 6)), Segment((7,))), ((0, 0), (2, 0), (1, 1)))


def test_a_short_common_start_is_not_shared() -> None:
    (layout,) = layouts([(*START[:15], 1), (*START[:15], 3)], room=128)
    assert [segment.after for segment in layout.segments] == [None, None]


def test_a_prompt_that_is_the_start_of_another_keeps_a_token_of_its_own() -> None:
    (layout,) = layouts([START, (*START, 3)], room=128)
    assert layout.segments[0] == Segment(START[:-1])
    assert sorted(segment.tokens for segment in layout.segments[1:]) == [(25,), (25, 3)]


def test_the_start_that_saves_most_is_shared() -> None:
    few_long = [(*START, *OTHER, 1), (*START, *OTHER, 2), (*START, 3)]
    assert layouts(few_long, room=512)[0].segments[0] == Segment((*START, *OTHER))
    many_short = [*few_long, *((*START, number) for number in range(100, 110))]
    assert layouts(many_short, room=512)[0].segments[0] == Segment(START)


def test_a_long_start_makes_room_for_more_prompts() -> None:
    start = tuple(range(400))
    found = layouts([(*start, *[number] * 50) for number in range(500, 532)], room=512)
    assert [layout.size for layout in found] == [400 + 32 * 50]


def test_sharing_changes_no_logit(lively_model) -> None:
    requests = [Request(prompt, 4) for prompt in SHARING]
    (layout,) = layouts(SHARING, room=512)
    assert layout.size < sum(map(len, SHARING)) - 60
    packed = pack(layout, [requests[index] for index, _ in layout.prompts], range(6), most=8)
    hidden = _hidden(lively_model, packed)
    ends = np.asarray(packed.starts + packed.lengths - packed.shared_lengths - 1)[:6]
    for end, (index, _) in zip(ends, layout.prompts, strict=True):
        (alone,) = layouts([SHARING[index]], room=512)
        single = pack(alone, [requests[index]], [0], most=8)
        expected = _hidden(lively_model, single)
        np.testing.assert_allclose(hidden[end], expected[len(SHARING[index]) - 1], atol=1e-4)


def test_prompts_that_share_give_what_they_give_alone(lively_model) -> None:
    together = Generator(lively_model, eos_ids=[], batch_sizes=(8,)).generate(SHARING, 24)
    generator = Generator(lively_model, eos_ids=[], batch_sizes=(1,))
    assert together == [generator.generate([prompt], 24)[0] for prompt in SHARING]


def test_samples_of_a_prompt_that_is_read_once_give_what_they_give_alone(lively_model) -> None:
    sampling = Sampling(temperature=1.0, seed=3, repetition_penalty=1.3)
    requests = [Request(SHARING[0], 24, sampling=sampling, sample=number) for number in range(6)]
    together = dict(Generator(lively_model, eos_ids=[], batch_sizes=(8,)).stream(requests))
    generator = Generator(lively_model, eos_ids=[], batch_sizes=(1,))
    alone = [next(generator.stream([request]))[1] for request in requests]
    assert [together[number] for number in range(6)] == alone
    assert len(set(alone)) == 6


def test_how_much_is_shared_compiles_nothing_new(lively_model) -> None:
    decoder = BatchDecoder(lively_model, eos_ids=[], batch_sizes=(8,))
    decoder.prefill([Request(prompt, 1) for prompt in [(1,) * 40, (2,) * 30]])
    before = prefill._cache_size()
    decoder.prefill([Request(prompt, 1) for prompt in [(*START, *range(30), 1), (*START, *range(30), 2)]])
    assert prefill._cache_size() == before
