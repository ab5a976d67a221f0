"""A training job on padded rows and on a mixture."""

from __future__ import annotations

import shutil

import pytest
from safetensors.numpy import load_file

from tunix_rt.jobs.directory import read_json
from tunix_rt.traces.trace import ChatMessage, Trace, canonical_json
from tunix_rt.trainer.rows.by_hand import render_directory
from tunix_rt.trainer.training import train

SHORT = {
    "steps": 6,
    "optimizer": {"learning_rate": 0.01},
    "validate_every": 6,
    "checkpoint_every": 3,
    "retention": {"keep_last": 2},
    "batching": "PADDED",
}


def run(directory, stop_asked=lambda: False):
    lines = []
    assert train(directory, stop_asked, report=lines.append) == {"state": "succeeded"}
    return lines


def mixed(jobs, weight):
    changes = {**SHORT, "mixture": [{"dataset": "datasets/chats", "split": "train", "weight": weight}]}
    directory = jobs.make(changes, render=False)
    chat = (ChatMessage("user", "2+2?"), ChatMessage("assistant", "4"))
    chats = [Trace(f"chat-{number}", "2+2?", messages=chat) for number in range(10)]
    lines = [canonical_json(trace, "train") + b"\n" for trace in chats]
    (directory.root / "traces.1.jsonl").write_bytes(b"".join(lines))
    render_directory(directory)
    return directory


def weights_of(directory):
    return load_file(directory.model / "model.safetensors")


def differ(one, other):
    return any((one[name] != other[name]).any() for name in one)


@pytest.fixture(scope="module")
def padded(jobs):
    directory = jobs.make(SHORT)
    run(directory)
    return directory


@pytest.fixture(scope="module")
def half(jobs):
    directory = mixed(jobs, 0.5)
    run(directory)
    return directory


def test_padded_rows_resume_byte_for_byte(jobs, padded):
    resumed = jobs.make(SHORT)
    shutil.copytree(padded.checkpoint(3), resumed.checkpoint(3))
    run(resumed)
    one, other = weights_of(padded), weights_of(resumed)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_padded_rows_train_other_weights_than_packed_ones(jobs, padded):
    packed = jobs.make({**SHORT, "batching": "PACKED"})
    run(packed)
    assert differ(weights_of(padded), weights_of(packed))


def test_a_mixture_trains_on_its_parts_by_weight(half):
    facts = read_json(half.facts)
    assert (facts["traces"], facts["rows"]) == (42, 37)  # 32 sums and half of 10 chats an epoch


def test_the_weight_of_a_part_changes_what_is_trained(jobs, half):
    twice = mixed(jobs, 2.0)
    run(twice)
    assert differ(weights_of(half), weights_of(twice))
