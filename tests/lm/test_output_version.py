"""Outputs of the tiny model, so that a change of what the engine makes of a request is noticed."""

import hashlib

import pytest

from tunix_rt.lm.decoding import OUTPUT_VERSION, BatchDecoder
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.packing import Request
from tunix_rt.lm.sampling import Sampling

VERSION = 1
GREEDY = "ffca4c559a3d482c"
SAMPLED = "7288793a2c071b4b"
PROMPTS = [[3 + number, 40, 7 * number % 64, 11][: 2 + number % 3] for number in range(8)]


def digest(model: Decoder, sampling: Sampling) -> str:
    decoder = BatchDecoder(model, eos_ids=[2], batch_sizes=(8,))
    requests = [
        Request(prompt, 48, sampling=sampling, item=number, sample=number % 2)
        for number, prompt in enumerate(PROMPTS)
    ]
    first = decoder.prefill(requests)
    made = {each.handle: list(each.tokens) for each in first}
    while decoder.running:
        for each in decoder.step_segment():
            made[each.handle] += each.tokens
    return hashlib.sha256(str(list(made.values())).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [(Sampling(), GREEDY), (Sampling(temperature=0.8, top_k=20, top_p=0.9, seed=5), SAMPLED)],
    ids=["greedy", "sampled"],
)
def test_equal_versions_have_equal_outputs(lively_model: Decoder, sampling: Sampling, expected: str) -> None:
    assert (OUTPUT_VERSION, digest(lively_model, sampling)) == (VERSION, expected), (
        "Outputs have changed. If that is meant, raise OUTPUT_VERSION in tunix_rt.lm.decoding: otherwise "
        "evaluations take outputs of the old code from their cache. Then write the new values here."
    )
