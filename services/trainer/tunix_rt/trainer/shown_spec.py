"""Checks and completes what a run shows on its way: samples and a profile; pure."""

from __future__ import annotations

from collections.abc import Iterator

from tunix_rt.rpc.errors import Violation
from tunix_rt.v1.run_pb2 import RunSpec

MAX_SAMPLES = 32
MAX_PROMPT_BYTES = 16 * 1024


def complete_shown(made: RunSpec, *, steps: int) -> None:
    """Fills in the defaults, in place."""
    if made.HasField("samples"):
        made.samples.max_new_tokens = made.samples.max_new_tokens or 128
        made.samples.count = made.samples.count or (0 if made.samples.prompts else 4)
    if made.HasField("profile"):
        made.profile.first_step = made.profile.first_step or min(3, steps or 3)
        made.profile.steps = made.profile.steps or 3


def shown_violations(spec: RunSpec) -> Iterator[Violation]:
    """Everything that is wrong with them."""
    if spec.HasField("samples"):
        yield from _sample_violations(spec)
    if spec.HasField("profile"):
        yield from _profile_violations(spec)


def _sample_violations(spec: RunSpec) -> Iterator[Violation]:
    samples, path = spec.samples, "spec.samples"
    yield from _range(samples.every, 1, 10_000_000, f"{path}.every")
    yield from _range(samples.max_new_tokens, 0, 1024, f"{path}.max_new_tokens")
    yield from _range(samples.count, 0, MAX_SAMPLES, f"{path}.count")
    if len(samples.prompts) > MAX_SAMPLES:
        text = f"has {len(samples.prompts)} prompts; at most {MAX_SAMPLES} are allowed."
        yield Violation(f"{path}.prompts", text)
    for index, prompt in enumerate(samples.prompts[:MAX_SAMPLES]):
        if not prompt.strip() or len(prompt.encode()) > MAX_PROMPT_BYTES:
            text = f"has {len(prompt.encode())} bytes; it must be a text of at most {MAX_PROMPT_BYTES}."
            yield Violation(f"{path}.prompts[{index}]", text)
    if samples.prompts and samples.count:
        yield Violation(f"{path}.count", f"is {samples.count}; leave it out where prompts are given.")
    if not samples.prompts and spec.HasField("validate_every") and spec.validate_every == 0:
        text = "is empty, and there are no validation traces as validate_every is 0; give the prompts."
        yield Violation(f"{path}.prompts", text)


def _profile_violations(spec: RunSpec) -> Iterator[Violation]:
    yield from _range(spec.profile.first_step, 0, 10_000_000, "spec.profile.first_step")
    yield from _range(spec.profile.steps, 0, 100, "spec.profile.steps")
    if spec.steps and spec.profile.first_step > spec.steps:
        text = f"is {spec.profile.first_step}; it must be at most spec.steps, which is {spec.steps}."
        yield Violation("spec.profile.first_step", text)


def _range(value: int, low: int, high: int, path: str) -> Iterator[Violation]:
    if not low <= value <= high:
        yield Violation(path, f"is {value}; it must be in [{low}, {high}].")
