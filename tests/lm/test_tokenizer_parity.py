"""Our reading of tokenizer files and chat templates against that of transformers."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.lm.tokenizer import Tokenizer

CHATS = {
    "one turn": [{"role": "user", "content": "What is 17 + 25?"}],
    "system": [{"role": "system", "content": "Show each step."}, {"role": "user", "content": "3 × 4 = ?"}],
    "three turns": [
        {"role": "user", "content": "Hello  there\n"},
        {"role": "assistant", "content": "1,234.5 — naïve 日本語"},
        {"role": "user", "content": "\tAnd 007?"},
    ],
}


@pytest.fixture(scope="module")
def reference(smollm2_directory: Path) -> Any:
    with warnings.catch_warnings(action="ignore"):  # its import warns of what it lacks
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(smollm2_directory)


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_chats_have_the_same_tokens(
    smollm2_directory: Path, reference: Any, chat: str, add_generation_prompt: bool
) -> None:
    expected = reference.apply_chat_template(
        CHATS[chat], add_generation_prompt=add_generation_prompt, return_dict=False
    )
    tokenizer = Tokenizer.load(smollm2_directory)
    assert tokenizer.chat(CHATS[chat], add_generation_prompt=add_generation_prompt) == expected


@pytest.mark.parametrize("text", ["12 + 345 = 357", "  spaces   and\nlines\n\n", "it's 50% of €3.50", "🙂é"])
def test_text_has_the_same_tokens(smollm2_directory: Path, reference: Any, text: str) -> None:
    assert Tokenizer.load(smollm2_directory).encode(text) == reference.encode(text, add_special_tokens=False)
