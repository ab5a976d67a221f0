"""Which tokens of a conversation are learnt, under the chat templates of four families of models."""

from __future__ import annotations

from itertools import groupby

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.render import conversation_pieces, render_example, render_pieces
from tunix_rt.lm.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
FORGETFUL = (  # writes earlier answers shorter than it wrote them first
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if loop.last or message['role'] == 'user' %}{{ message['content'] }}"
    "{% else %}{{ message['content'][-1:] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONVERSATION = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


def make_tokenizer(template: str, special: list[str], *, stops: list[str]) -> Tokenizer:
    """One token a byte, and the special ones; the first stop is the tokenizer's `eos_token`."""
    vocabulary = {text: number for number, text in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special)
    settings = {"chat_template": template, "bos_token": special[0], "eos_token": stops[0]}
    return Tokenizer(backend, settings=settings, eos_ids=[backend.token_to_id(each) for each in stops])


FAMILIES = {
    "chatml": (
        make_tokenizer(CHATML, ["<|im_start|>", "<|im_end|>"], stops=["<|im_end|>"]),
        [
            ("<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n", 0),
            ("4<|im_end|>", 1),
            ("\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n", 0),
            ("Yes.<|im_end|>", 1),
        ],
    ),
    "llama 3": (
        make_tokenizer(
            LLAMA_3,
            ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            stops=["<|eot_id|>"],
        ),
        [
            (
                "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n",
                0,
            ),
            ("4<|eot_id|>", 1),
            (
                "<|start_header_id|>user<|end_header_id|>\n\nSure?<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n",
                0,
            ),
            ("Yes.<|eot_id|>", 1),
        ],
    ),
    "gemma": (
        make_tokenizer(
            GEMMA,
            ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
            stops=["<eos>", "<end_of_turn>"],
        ),
        [
            ("<bos><start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n", 0),
            ("4<end_of_turn>", 1),
            ("\n<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n", 0),
            ("Yes.<end_of_turn>", 1),
        ],
    ),
    "mistral": (
        make_tokenizer(MISTRAL, ["<s>", "</s>", "[INST]", "[/INST]"], stops=["</s>"]),
        [
            ("<s>[INST] 2+2? [/INST]", 0),
            (" 4</s>", 1),
            ("[INST] Sure? [/INST]", 0),
            (" Yes.</s>", 1),
        ],
    ),
}


def weighted_text(tokenizer: Tokenizer, tokens: list[int], weights: list[float]) -> list[tuple[str, float]]:
    """The text of each stretch of tokens with one weight."""
    pairs = zip(tokens, weights, strict=True)
    return [
        ("".join(tokenizer.spell(token) for token, _ in stretch), weight)
        for weight, stretch in groupby(pairs, key=lambda pair: pair[1])
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_assistant_turn_and_its_stop_token_are_learnt(family: str) -> None:
    tokenizer, expected = FAMILIES[family]
    [row] = render_pieces(tokenizer, [conversation_pieces(tokenizer, CONVERSATION)])
    assert weighted_text(tokenizer, row.tokens, row.weights) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokens_are_those_of_the_template_up_to_the_last_stop(family: str) -> None:
    tokenizer, _ = FAMILIES[family]
    [row] = render_pieces(tokenizer, [conversation_pieces(tokenizer, CONVERSATION)])
    whole = tokenizer.chat(CONVERSATION, add_generation_prompt=False)
    assert row.tokens == whole[: len(row.tokens)]
    assert tokenizer.decode(whole[len(row.tokens) :]).strip() == ""


def test_a_pair_learns_the_stop_token_that_its_template_writes() -> None:
    tokenizer, _ = FAMILIES["gemma"]
    tokens, weights = render_example(tokenizer, CONVERSATION[:1], "4")
    assert weighted_text(tokenizer, tokens, weights)[-1] == ("4<end_of_turn>", 1)


def test_a_prompt_length_ends_before_the_last_turn() -> None:
    tokenizer, expected = FAMILIES["chatml"]
    [row] = render_pieces(tokenizer, [conversation_pieces(tokenizer, CONVERSATION)])
    before = "".join(text for text, _ in expected[:3])
    assert "".join(tokenizer.spell(token) for token in row.tokens[: row.prompt_length]) == before


def test_special_tokens_in_an_answer_stay_plain_text() -> None:
    tokenizer, _ = FAMILIES["chatml"]
    turns = [CONVERSATION[0], {"role": "assistant", "content": "a <|im_start|> b"}]
    [row] = render_pieces(tokenizer, [conversation_pieces(tokenizer, turns)])
    learnt = [token for token, weight in zip(row.tokens, row.weights, strict=True) if weight]
    assert len(learnt) == len("a <|im_start|> b") + 1


def test_a_template_that_changes_earlier_turns_is_refused() -> None:
    tokenizer = make_tokenizer(FORGETFUL, ["<|im_start|>", "<|im_end|>"], stops=["<|im_end|>"])
    with pytest.raises(ModelError, match=r"chat_template: does not write messages\[3\] as the continuation"):
        conversation_pieces(
            tokenizer, [*CONVERSATION[:1], {"role": "assistant", "content": "44"}, *CONVERSATION[2:]]
        )


def test_a_template_without_a_stop_token_is_refused() -> None:
    tokenizer = make_tokenizer(CHATML, ["<|im_start|>", "<|im_end|>", "<eos>"], stops=["<eos>"])
    with pytest.raises(ModelError, match=r"messages\[1\]"):
        conversation_pieces(tokenizer, CONVERSATION)


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + GEMMA,
        GEMMA.replace(
            "{{ '<start_of_turn>' + role", "{{ '' if role == 'system' else '<start_of_turn>' + role"
        ),
    ],
    ids=["refused", "left out"],
)
def test_a_template_without_system_messages_gets_its_text_with_the_first_question(template):
    tokenizer = make_tokenizer(
        template, ["<bos>", "<start_of_turn>", "<end_of_turn>"], stops=["<end_of_turn>"]
    )
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    assert tokenizer.chat_text(messages, True) == (
        "<bos><start_of_turn>user\nBe brief.\n\n2+2?<end_of_turn>\n<start_of_turn>model\n"
    )
