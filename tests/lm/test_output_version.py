"""Outputs of the tiny model, so that a change of what the engine makes of a request is noticed."""

import hashlib
from collections.abc import Callable

import pytest
from flax import nnx

from tunix_rt.lm.decoding import OUTPUT_VERSION, BatchDecoder
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.packing import Request
from tunix_rt.lm.sampling import Sampling
from tunix_rt.lm.tiled import for_generation

VERSION = 1
GREEDY = "e35da0b0e0828822"
SAMPLED = "fe77385ad2e544ff"
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
@pytest.mark.parametrize(
    "form", [nnx.clone, lambda model: for_generation(nnx.clone(model))], ids=["plain", "own"]
)
def test_equal_versions_have_equal_outputs(
    lively_model: Decoder, form: Callable[[Decoder], Decoder], sampling: Sampling, expected: str
) -> None:
    assert (OUTPUT_VERSION, digest(form(lively_model), sampling)) == (VERSION, expected), (
        "Outputs have changed. If that is meant, raise OUTPUT_VERSION in tunix_rt.lm.decoding: otherwise "
        "evaluations take outputs of the old code from their cache. Then write the new values here."
    )
