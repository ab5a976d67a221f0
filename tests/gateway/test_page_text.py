from __future__ import annotations

import math

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.gateway.web import text
from tunix_rt.v1 import evaluation_pb2, job_pb2


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.32391, "0.3239"), (2.0, "2.000"), (1650.4, "1650"), (134_515_008, "134,515,008"), (None, "–"),
     (2e-05, "2.000e-05"), (math.nan, "nan"), (math.inf, "inf")],
)  # fmt: skip
def test_number_keeps_the_digits_that_matter(value, shown):
    assert text.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (190, "3 min 10 s"), (7500, "2 h 5 min")],
)
def test_span(seconds, shown):
    assert text.span(seconds) == shown


def test_run_time_counts_to_the_end_or_to_now():
    status = job_pb2.JobStatus(start_time=Timestamp(seconds=100))
    assert text.run_time(status, 142.0) == "42 s"
    status.end_time.seconds = 130
    assert text.run_time(status, 142.0) == "30 s"
    assert text.run_time(job_pb2.JobStatus(), 142.0) == "–"


def test_unknown_values_of_enums_are_shown_as_unknown():
    assert text.state_word(99) == "unknown"
    assert text.outcome_word(99) == "unknown"
    assert text.outcome_word(evaluation_pb2.ItemScore.NO_ANSWER) == "no answer"


def test_decoding_reads_as_words():
    assert text.decoding_text(evaluation_pb2.Decoding(max_tokens=64)) == "greedy, up to 64 tokens"
    sampled = evaluation_pb2.Decoding(max_tokens=64, temperature=0.7, top_k=40, top_p=0.9, seed=3)
    assert text.decoding_text(sampled) == "temperature 0.7, up to 64 tokens, top-k 40, top-p 0.9, seed 3"


@pytest.mark.parametrize(
    ("output", "shown"), [("", "(empty)"), (" \n\n", "(3 characters of white space)"), ("4 \n", "4 \n")]
)
def test_output_without_anything_to_see_says_so(output, shown):
    assert text.shown_output(output) == shown


def test_runs_evaluations_and_model_versions_have_pages():
    known = ("runs/a", "evaluations/b", "models/m/versions/v1")
    assert [text.page_of(name) for name in known] == ["/runs/a", "/evaluations/b", "/models/m/versions/v1"]
    assert [text.page_of(name) for name in ("datasets/a", "artifacts/b", "predictors/c")] == ["", "", ""]
