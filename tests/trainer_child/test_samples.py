"""Samples and profiles that a run makes on its way."""

from __future__ import annotations

import json

import pytest

from tunix_rt.lm.generate import Generator
from tunix_rt.lm.render import render_prompt
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model
from tunix_rt.traces.text import prompt_messages
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.job import main
from tunix_rt.trainer.training import train

SHORT = {"steps": 5, "validate_every": 5, "checkpoint_every": 0}


def samples_of(directory, step):
    text = (directory.samples / f"{step:08}" / "samples.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def sampled(jobs):
    samples = {"every": 2, "prompts": ["Calculate 3 + 4.", "Calculate 1 + 1."], "max_new_tokens": 6}
    directory = jobs.make({**SHORT, "samples": samples})
    assert main([str(directory.root)]) == 0
    return directory


def test_samples_come_every_so_many_steps_and_at_the_last(sampled):
    assert sorted(folder.name for folder in sampled.samples.iterdir()) == ["00000002", "00000004", "00000005"]


def test_the_last_samples_are_what_the_final_model_answers(sampled):
    model, tokenizer = load_model(sampled.model), Tokenizer.load(sampled.model)
    prompts = [
        render_prompt(tokenizer, prompt_messages(text)) for text in ("Calculate 3 + 4.", "Calculate 1 + 1.")
    ]
    made = Generator(model, eos_ids=tokenizer.eos_ids, batch_sizes=(8,)).generate(prompts, 6)
    lines = samples_of(sampled, 5)
    assert [line["output"] for line in lines] == [tokenizer.decode(each.tokens) for each in made]
    assert [(line["step"], line["index"], line["prompt"]) for line in lines] == [
        (5, 0, "Calculate 3 + 4."),
        (5, 1, "Calculate 1 + 1."),
    ]


def test_sampling_changes_no_weight(sampled, jobs):
    plain = jobs.make(SHORT)
    assert main([str(plain.root)]) == 0
    weights = [(each.model / "model.safetensors").read_bytes() for each in (sampled, plain)]
    assert weights[0] == weights[1]


def test_without_prompts_the_first_validation_traces_are_continued(jobs):
    directory = jobs.make({**SHORT, "samples": {"every": 5, "count": 2, "max_new_tokens": 4}})
    assert main([str(directory.root)]) == 0
    lines = samples_of(directory, 5)
    assert [line["trace"] for line in lines] == ["sum-0", "sum-5"]
    assert lines[0]["expected"] == "0 + 0 = 0\nAnswer: 0"
    assert "Calculate 0 + 0." in lines[0]["prompt"]


def test_samples_longer_than_the_model_are_refused(jobs):
    directory = jobs.make(
        {**SHORT, "samples": {"every": 5, "prompts": ["word " * 300], "max_new_tokens": 1024}}
    )
    with pytest.raises(TrainingFailure, match=r"samples.max_new_tokens is 1024 and the longest prompt has"):
        train(directory, lambda: False, report=lambda line: None)


def test_a_profile_holds_the_steps_asked_for(jobs):
    directory = jobs.make({**SHORT, "validate_every": 0, "profile": {"first_step": 2, "steps": 2}})
    assert main([str(directory.root)]) == 0
    assert any(directory.profile.rglob("*.xplane.pb"))


def test_a_profile_beyond_the_last_step_ends_with_it(jobs):
    directory = jobs.make({**SHORT, "validate_every": 0, "profile": {"first_step": 5, "steps": 9}})
    assert main([str(directory.root)]) == 0
    assert any(directory.profile.rglob("*.xplane.pb"))
