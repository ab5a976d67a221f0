import numpy as np
import pytest

from tunix_rt.lm.generate import Generation, Generator
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.packing import Request
from tunix_rt.lm.sampling import Sampling

EOS = (2, 5)
NEW = 24
WARM = Sampling(temperature=0.8, top_k=10, top_p=0.9, seed=3, min_p=0.02, repetition_penalty=1.3)
PENALISED = Sampling(repetition_penalty=1.5)


@pytest.fixture(scope="module")
def generator(lively_model: Decoder) -> Generator:
    return Generator(lively_model, eos_ids=EOS, batch_sizes=(1, 8))


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    """Eighteen prompts of 3 to 14 tokens: more than fit in one batch."""
    rng = np.random.default_rng(0)
    return [rng.integers(3, 64, int(size)).tolist() for size in rng.integers(3, 15, 18)]


@pytest.fixture(scope="module")
def greedy(generator: Generator, prompts: list[list[int]]) -> list[Generation]:
    return generator.generate(prompts, NEW)


def test_greedy_equals_the_full_forward_pass(lively_model, prompts, greedy, full_logits) -> None:
    for prompt, made in zip(prompts, greedy, strict=True):
        expected = full_logits(lively_model, prompt + list(made.tokens)).argmax(axis=1)[len(prompt) - 1 :]
        assert list(made.tokens) == expected[: len(made.tokens)].tolist()
        stopped = made.finish_reason == "stop"
        assert stopped == (int(expected[-1]) in EOS and len(made.tokens) < NEW)


def test_both_ways_to_end_occur(greedy: list[Generation]) -> None:
    assert {each.finish_reason for each in greedy} == {"stop", "length"}
    assert all(len(each.tokens) == NEW for each in greedy if each.finish_reason == "length")
    assert not any(set(EOS) & set(each.tokens) for each in greedy)


def test_greedy_is_the_same_alone_and_in_any_order(generator, prompts, greedy) -> None:
    assert [generator.generate([prompt], NEW)[0] for prompt in prompts] == greedy
    assert generator.generate(prompts[::-1], NEW)[::-1] == greedy


def test_sampling_is_the_same_alone_and_in_a_batch(generator, prompts) -> None:
    numbers = range(len(prompts))
    together = generator.generate(prompts, NEW, sampling=WARM, items=numbers)
    alone = [generator.generate([prompts[i]], NEW, sampling=WARM, items=[i])[0] for i in numbers]
    assert alone == together


def test_a_penalised_output_equals_the_full_forward_pass(
    lively_model, generator, prompts, greedy, full_logits
) -> None:
    made = generator.generate(prompts, NEW, sampling=PENALISED)
    assert made != greedy
    for prompt, one in zip(prompts, made, strict=True):
        logits = full_logits(lively_model, prompt + list(one.tokens))
        for place, token in enumerate(one.tokens):
            row = logits[len(prompt) - 1 + place].copy()
            seen = list({*prompt, *one.tokens[:place]})
            row[seen] = np.where(row[seen] > 0, row[seen] / 1.5, row[seen] * 1.5)
            assert token == row.argmax()


def test_a_penalised_row_leaves_its_company_alone(lively_model, prompts, greedy) -> None:
    generator = Generator(lively_model, eos_ids=EOS, batch_sizes=(8,))
    requests = [
        Request(prompt, NEW, sampling=PENALISED if index % 2 else Sampling())
        for index, prompt in enumerate(prompts)
    ]
    made = dict(generator.stream(requests))
    assert [made[index] for index in range(0, len(prompts), 2)] == greedy[::2]


def test_the_seed_changes_a_sample(generator, prompts) -> None:
    other = Sampling(temperature=0.8, top_k=10, top_p=0.9, seed=4)
    assert generator.generate(prompts[:8], NEW, sampling=WARM) != generator.generate(
        prompts[:8], NEW, sampling=other
    )


def test_no_prompts_give_no_generations(generator: Generator) -> None:
    assert generator.generate([], NEW) == []


def test_a_long_prompt_takes_a_larger_cache(lively_model, generator, full_logits) -> None:
    prompt = np.random.default_rng(5).integers(3, 64, 130).tolist()
    made = generator.generate([prompt], NEW)[0]
    expected = full_logits(lively_model, prompt + list(made.tokens)).argmax(axis=1)[129:]
    assert list(made.tokens) == expected[: len(made.tokens)].tolist()


def test_an_output_that_outgrows_the_cache_goes_on(lively_model, generator, full_logits) -> None:
    prompts = np.random.default_rng(6).integers(3, 64, (6, 110)).tolist()
    made = generator.generate(prompts, NEW)
    assert max(len(each.tokens) for each in made) > 17  # the third segment needs more than 128 places
    for prompt, one in zip(prompts, made, strict=True):
        expected = full_logits(lively_model, prompt + list(one.tokens)).argmax(axis=1)[109:]
        assert list(one.tokens) == expected[: len(one.tokens)].tolist()


@pytest.mark.parametrize(
    ("prompt", "new", "message"),
    [
        ([], 5, "no tokens"),
        ([3], 0, "max_new_tokens is 0"),
        ([3] * 500, 20, "context of 512"),
        ([3, 64], 5, "outside the vocabulary"),
    ],
)
def test_impossible_requests_are_refused(
    generator: Generator, prompt: list[int], new: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generator.generate([[3, 4], prompt], new)
