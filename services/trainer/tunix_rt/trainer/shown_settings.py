"""What a run shows on its way, read from its spec: samples and a profile."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.trainer.spec_reader import SpecReader


@dataclass(frozen=True)
class SampleSettings:
    """Samples every so many steps; without `prompts`, of the first `count` validation traces."""

    every: int
    prompts: tuple[str, ...]
    count: int
    max_new_tokens: int


@dataclass(frozen=True)
class ProfileSettings:
    """The steps of the profile."""

    first_step: int
    steps: int


def read_samples(reader: SpecReader) -> SampleSettings:
    """The settings of samples."""
    prompts = reader.take("prompts", list, [])
    if not all(isinstance(prompt, str) for prompt in prompts):
        reader.problems.append(f"{reader.path}prompts: must be texts.")
    settings = SampleSettings(
        every=reader.whole("every", low=1),
        prompts=tuple(prompts),
        count=reader.whole("count", 0, high=32) or 4,
        max_new_tokens=reader.whole("max_new_tokens", 0, high=1024) or 128,
    )
    reader.finish()
    return settings


def read_profile(reader: SpecReader) -> ProfileSettings:
    """The settings of a profile."""
    settings = ProfileSettings(
        first_step=reader.whole("first_step", 0) or 3, steps=reader.whole("steps", 0, high=100) or 3
    )
    reader.finish()
    return settings
