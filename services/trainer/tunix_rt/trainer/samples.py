"""Continuations of fixed prompts, made during training, one file of them for each step that samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.jobs.directory import JobDirectory, write_whole
from tunix_rt.lm.generate import Generator
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.render import render_prompt
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.traces.text import prompt_messages
from tunix_rt.trainer.batches import Example
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.shown_settings import SampleSettings
from tunix_rt.trainer.specfile import TrainSpec

SAMPLES_FILE = "samples.jsonl"
_BATCH_SIZES = (8, 32)


@dataclass(frozen=True)
class Prompt:
    """What is continued, and the continuation that the trace has; empty for a prompt of the spec."""

    trace: str
    text: str
    tokens: tuple[int, ...]
    expected: str


def sample_prompts(spec: TrainSpec, validation: Sequence[Example], tokenizer: Tokenizer) -> list[Prompt]:
    """The prompts of a spec that samples: its own, or those of the first validation traces."""
    assert spec.samples is not None
    if not spec.samples.prompts:
        return [_of_example(example, tokenizer) for example in validation[: spec.samples.count]]
    prompts = []
    for text in spec.samples.prompts:
        messages = prompt_messages(text, spec.format, spec.system_prompt)
        prompts.append(Prompt("", text, tuple(render_prompt(tokenizer, messages)), ""))
    return prompts


def _of_example(example: Example, tokenizer: Tokenizer) -> Prompt:
    first = int((example.weights > 0).argmax())
    tokens = tuple(int(token) for token in example.tokens)
    prompt, rest = tokens[:first], tokens[first:]
    return Prompt(example.trace, tokenizer.decode(prompt), prompt, tokenizer.decode(rest))


class Sampler:
    """Writes `samples/{step}/samples.jsonl`, greedy; a step that is there already is left as it is."""

    def __init__(
        self,
        settings: SampleSettings,
        prompts: Sequence[Prompt],
        *,
        tokenizer: Tokenizer,
        directory: JobDirectory,
        max_positions: int,
    ) -> None:
        self._settings, self._prompts = settings, prompts
        self._tokenizer, self._directory = tokenizer, directory
        longest = max(len(prompt.tokens) for prompt in prompts)
        if longest + settings.max_new_tokens > max_positions:
            raise TrainingFailure(
                "INVALID_FIELDS",
                f"samples.max_new_tokens is {settings.max_new_tokens} and the longest prompt has {longest} "
                f"tokens; the model has only {max_positions} positions.",
            )

    def due(self, step: int) -> bool:
        """Whether there are samples after a step that is not the last, which has some."""
        return step % self._settings.every == 0

    def sample(self, step: int, model: Decoder) -> None:
        """Continue every prompt with the model as it is."""
        folder = self._directory.samples / f"{step:08}"
        if (folder / SAMPLES_FILE).exists():
            return
        generator = Generator(model, eos_ids=self._tokenizer.eos_ids, batch_sizes=_BATCH_SIZES)
        made = generator.generate([prompt.tokens for prompt in self._prompts], self._settings.max_new_tokens)
        lines = [
            json.dumps(
                {
                    "step": step,
                    "index": index,
                    "trace": prompt.trace,
                    "prompt": prompt.text,
                    "output": self._tokenizer.decode(generation.tokens),
                    "expected": prompt.expected,
                    "finish_reason": generation.finish_reason,
                    "tokens": len(generation.tokens),
                },
                ensure_ascii=False,
            )
            for index, (prompt, generation) in enumerate(zip(self._prompts, made, strict=True))
        ]
        _write(folder, "\n".join(lines) + "\n")


def _write(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SAMPLES_FILE, text)
