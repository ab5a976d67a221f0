from pathlib import Path

import pytest

from tunix_rt.lm.render import render_example, render_prompt, split_answer
from tunix_rt.lm.tokenizer import Tokenizer

MESSAGES = [{"role": "system", "content": "Show your work."}, {"role": "user", "content": "What is 3 + 4?"}]


def test_an_example_starts_with_exactly_the_prompt(tiny_directory: Path) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    prompt = render_prompt(tokenizer, MESSAGES)
    tokens, _ = render_example(tokenizer, MESSAGES, "3 + 4 = 7")
    assert tokens[: len(prompt)] == prompt
    assert tokenizer.decode(tokens[len(prompt) :]) == "3 + 4 = 7"


def test_only_the_completion_and_the_stop_token_have_weight(tiny_directory: Path) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    prompt = render_prompt(tokenizer, MESSAGES)
    tokens, weights = render_example(tokenizer, MESSAGES, "7")
    assert tokens[len(prompt) :] == [*tokenizer.encode("7"), 2]
    assert weights == [0.0] * len(prompt) + [1.0, 1.0]


def test_a_stop_token_spelled_in_the_completion_does_not_stop_it(tiny_directory: Path) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    prompt = render_prompt(tokenizer, MESSAGES)
    tokens, _ = render_example(tokenizer, MESSAGES, "a <|im_end|> b")
    assert tokens[len(prompt) :].count(2) == 1


@pytest.mark.parametrize(
    ("prefix", "continuation"),
    [
        ("Answer: ", "7"),
        ("Answer: ", "The sum is 12"),
        ("Answer:", " 7"),
        ("", "7"),
        ("a\n", "\nb"),
        ("wha", "t"),
    ],
)
def test_a_parted_answer_has_the_tokens_of_the_whole(
    tiny_directory: Path, prefix: str, continuation: str
) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    given, scored = split_answer(tokenizer, prefix, continuation)
    assert given + scored == tokenizer.encode(prefix + continuation)


@pytest.mark.parametrize(
    ("prefix", "continuation", "scored"),
    [
        ("Answer: ", "The", " The"),  # the harness' rule: spaces before a continuation are its own
        ("Answer:", " The", " The"),
        ("<answer>", "7", "7"),
        ("", "The", "The"),
    ],
)
def test_an_answer_is_parted_before_the_continuation(
    tiny_directory: Path, prefix: str, continuation: str, scored: str
) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    assert tokenizer.decode(split_answer(tokenizer, prefix, continuation)[1]) == scored


def test_a_token_that_spans_the_border_belongs_to_the_continuation(tiny_directory: Path) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    (whole,) = tokenizer.encode(" answer")
    assert split_answer(tokenizer, " ans", "wer") == ([], [whole])


def test_no_continuation_has_no_tokens(tiny_directory: Path) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    assert split_answer(tokenizer, "Answer: ", "") == (tokenizer.encode("Answer: "), [])
