from __future__ import annotations

import pytest

from tunix_rt.answers.reasoning import ReasoningSummary
from tunix_rt.answers.reasoning_words import reasoning_sentences, share_text, summary_of
from tunix_rt.v1 import evaluation_pb2

CARD = ReasoningSummary(0.95, 812, 0.94, 0.88, 0.91, 0.021, 44.0, 3)


def test_a_card_in_words():
    assert reasoning_sentences(CARD) == [
        "94 % of 812 steps are true.",
        "3 right answers rest on a false step.",
        "Of the outputs with steps, 88 % have only true ones, "
        "and 91 % answer with the result of the last one.",
        "95 % of the outputs obey the format.",
        "2 % of the four-word sequences are repetitions.",
        "The median output has 44 tokens. Length is never quality.",
    ]


def test_a_card_without_steps_says_only_so_of_them():
    card = ReasoningSummary(0.5, 0, 0.0, 0.0, 0.0, 0.0, 7.0, 0)
    assert reasoning_sentences(card)[:2] == [
        "No arithmetic step was found.",
        "50 % of the outputs obey the format.",
    ]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.001, "<1 %"), (0.02, "2 %"), (0.994, "99 %"), (0.9999, ">99 %"), (1, "100 %")],
)
def test_a_share_is_none_or_all_only_if_it_is(share, text):
    assert share_text(share) == text


def test_the_message_reads_as_the_summary():
    message = evaluation_pb2.ReasoningCard(step_count=5, true_step_rate=0.5, right_for_wrong_reasons=1)
    assert summary_of(message) == ReasoningSummary(0.0, 5, 0.5, 0.0, 0.0, 0.0, 0.0, 1)
