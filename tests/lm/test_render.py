from pathlib import Path

from tunix_rt.lm.render import render_example, render_prompt
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
