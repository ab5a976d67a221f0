"""Log-likelihoods of given texts, against a plain forward pass over each."""

import numpy as np
import pytest

from tunix_rt.lm.decoding import BatchDecoder
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.packing import Request
from tunix_rt.lm.sampling import Sampling
from tunix_rt.lm.scoring import Continuation, TextScorer


def texts(*, seed: int, count: int, vocab: int) -> list[Continuation]:
    """Contexts with one to four continuations each, of various lengths."""
    draws = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        context = tuple(draws.integers(0, vocab, draws.integers(1, 90)).tolist())
        for _ in range(draws.integers(1, 5)):
            made.append(
                Continuation(context, tuple(draws.integers(0, vocab, draws.integers(1, 12)).tolist()))
            )
    return made


def plain(logits: np.ndarray, item: Continuation) -> np.ndarray:
    """Log-probabilities by the definition, in float64; logits are those of context and tokens."""
    rows = logits[len(item.context) - 1 : -1].astype(np.float64)
    normal = rows - rows.max(axis=1, keepdims=True)
    normal -= np.log(np.exp(normal).sum(axis=1, keepdims=True))
    return normal[np.arange(len(item.tokens)), list(item.tokens)]


def test_log_probabilities_equal_a_full_forward_pass(lively_model: Decoder, full_logits) -> None:
    items = texts(seed=3, count=12, vocab=64)
    scores = TextScorer(lively_model, pack_tokens=256).score(items)
    for item, score in zip(items, scores, strict=True):
        expected = plain(full_logits(lively_model, [*item.context, *item.tokens]), item)
        np.testing.assert_allclose(score.log_probabilities, expected, atol=1e-4, rtol=0)


def test_greedy_tells_what_greedy_decoding_would_write(lively_model: Decoder, full_logits) -> None:
    context = (5, 9, 33)
    ids = list(context)
    for _ in range(4):
        ids.append(int(full_logits(lively_model, ids)[-1].argmax()))
    likeliest = tuple(ids[3:])
    other = (*likeliest[:3], (likeliest[3] + 1) % 64)
    items = [Continuation(context, likeliest), Continuation(context, other)]
    assert [score.greedy for score in TextScorer(lively_model).score(items)] == [True, False]


def test_choices_of_one_context_stand_in_one_pack(lively_model: Decoder) -> None:
    long, short = tuple(range(60)), (7, 8, 9, 10, 11)
    items = [Continuation(long, (1,)), Continuation(short, (1,)), Continuation(long, (2, 3))]
    assert TextScorer(lively_model, pack_tokens=64).packs(items) == [[0, 2], [1]]


def test_more_choices_than_a_pack_holds_are_divided(lively_model: Decoder, full_logits) -> None:
    items = [Continuation((3, 4), (number, 1)) for number in range(60)]
    scorer = TextScorer(lively_model, pack_tokens=64)
    assert len(scorer.packs(items)) > 1
    expected = plain(full_logits(lively_model, [3, 4, 59, 1]), items[59])
    np.testing.assert_allclose(scorer.score(items)[59].log_probabilities, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (Continuation((), (1,)), "The context has no tokens"),
        (Continuation((1,), ()), "The continuation has no tokens"),
        (Continuation((1,) * 500, (2,) * 13), "500 tokens and the continuation's 13 exceed"),
        (Continuation((1,), (64,)), "outside the vocabulary of 64"),
    ],
)
def test_what_cannot_be_scored_is_refused(lively_model: Decoder, item: Continuation, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        TextScorer(lively_model).score([item])


def test_a_text_may_fill_the_context(lively_model: Decoder) -> None:
    (score,) = TextScorer(lively_model).score([Continuation((1,) * 500, (2,) * 12)])
    assert len(score.log_probabilities) == 12


SETTINGS = [
    Sampling(),
    Sampling(temperature=1.5, top_k=20, seed=4, repetition_penalty=1.5),
    Sampling(temperature=0.7, top_p=0.8, min_p=0.05, seed=9),
]


@pytest.fixture(scope="module")
def generated(lively_model: Decoder) -> list[tuple[Continuation, list[float]]]:
    """Outputs with their log-probabilities, made side by side under different settings."""
    decoder = BatchDecoder(lively_model, eos_ids=[63], batch_sizes=(8,))
    prompts = [(3, 4, 5), (40, 41), (60, 7, 9, 11)]
    requests = [
        Request(prompt, 24, sampling=sampling, log_probabilities=True)
        for prompt, sampling in zip(prompts, SETTINGS, strict=True)
    ]
    plain = decoder.prefill([Request((1, 2), 24)])
    made = {each.handle: ([], []) for each in plain}
    first = decoder.prefill(requests)
    made |= {each.handle: (list(each.tokens), list(each.log_probabilities)) for each in first}
    while decoder.running:
        for each in decoder.step_segment():
            made[each.handle][0].extend(each.tokens)
            made[each.handle][1].extend(each.log_probabilities)
    assert made[plain[0].handle][1] == []  # not asked for
    found = [made[each.handle] for each in first]
    return [
        (Continuation(prompt, tuple(tokens)), values)
        for prompt, (tokens, values) in zip(prompts, found, strict=True)
    ]


def test_generated_log_probabilities_are_those_before_sampling_settings(
    lively_model: Decoder, full_logits, generated
) -> None:
    for item, values in generated:
        expected = plain(full_logits(lively_model, [*item.context, *item.tokens]), item)
        assert len(values) == len(item.tokens) > 0
        np.testing.assert_allclose(values, expected, atol=1e-4, rtol=0)


def test_scoring_an_output_gives_what_generation_gave(lively_model: Decoder, generated) -> None:
    scores = TextScorer(lively_model).score([item for item, _ in generated])
    for score, (_, values) in zip(scores, generated, strict=True):
        assert sum(score.log_probabilities) == pytest.approx(sum(values), abs=1e-3)


def test_log_probabilities_do_not_change_the_tokens(lively_model: Decoder) -> None:
    outputs = []
    for wanted in (False, True):
        decoder = BatchDecoder(lively_model, eos_ids=[], batch_sizes=(1,))
        request = Request((3, 4, 5), 30, sampling=SETTINGS[1], log_probabilities=wanted)
        tokens = [token for each in decoder.prefill([request]) for token in each.tokens]
        while decoder.running:
            tokens += [token for each in decoder.step_segment() for token in each.tokens]
        outputs.append(tokens)
    assert outputs[0] == outputs[1]
