"""Rendered rows: what is learnt, what is refused or cut, and the bytes of their file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tunix_rt.jobs.directory import read_json
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.traces.trace import ChatMessage, Step, Trace
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.rows.by_hand import main
from tunix_rt.trainer.rows.problems import refusal
from tunix_rt.trainer.rows.recipe import Recipe, Source
from tunix_rt.trainer.rows.rendering import render_rows
from tunix_rt.trainer.rows.row_file import read_rows, rows_bytes

RECIPE = Recipe((Source("datasets/d", "", "train"),), None, "", "answer-line", "", 128, "REFUSE")
SUM = Trace("sum", "Calculate 2 + 2.", (Step(0, "compute", "2 + 2 = 4"),), "4")
CHAT = Trace(
    "chat",
    "Sure?",
    messages=(
        ChatMessage("user", "2+2?"),
        ChatMessage("assistant", "4"),
        ChatMessage("user", "Sure?"),
        ChatMessage("assistant", "Yes."),
    ),
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return Tokenizer.load(tiny_model)


def learnt(tokenizer, example):
    return "".join(
        tokenizer.spell(int(token))
        for token, weight in zip(example.tokens, example.weights, strict=True)
        if weight
    )


def text(tokenizer, example):
    return "".join(tokenizer.spell(int(token)) for token in example.tokens)


@pytest.mark.parametrize(
    ("text_format", "expected"),
    [
        ("answer-line", "2 + 2 = 4\nAnswer: 4<|im_end|>"),
        ("tags", "<reasoning>2 + 2 = 4</reasoning>\n<answer>4</answer><|im_end|>"),
        ("boxed", "2 + 2 = 4\n\\boxed{4}<|im_end|>"),
    ],
)
def test_steps_answer_and_stop_token_are_learnt_in_the_format(tokenizer, text_format, expected):
    rows = render_rows(replace(RECIPE, format=text_format, max_length=200), tokenizer, [[SUM]], [])
    assert learnt(tokenizer, rows.train[0]) == expected


def test_a_pair_is_learnt_verbatim(tokenizer):
    pair = Trace("pair", "Hello", completion="Good day.")
    assert learnt(tokenizer, render_rows(RECIPE, tokenizer, [[pair]], []).train[0]) == "Good day.<|im_end|>"


def test_every_answer_of_a_conversation_is_learnt_and_no_instruction_is_added(tokenizer):
    [row] = render_rows(RECIPE, tokenizer, [[CHAT]], []).train
    assert learnt(tokenizer, row) == "4<|im_end|>Yes.<|im_end|>"
    assert text(tokenizer, row).startswith("<|im_start|>user\n2+2?<|im_end|>")


def test_the_system_prompt_comes_before_a_conversation_without_one(tokenizer):
    own = replace(CHAT, messages=(ChatMessage("system", "Own."), *CHAT.messages))
    rows = render_rows(replace(RECIPE, system_prompt="Be brief."), tokenizer, [[CHAT, own]], [])
    first, second = (text(tokenizer, row) for row in rows.train)
    assert first.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user")
    assert second.startswith("<|im_start|>system\nOwn.<|im_end|>\n<|im_start|>user")


LONG = Trace("long", "Add. " * 60, final_answer="4")


def problems_of(tokenizer, overlong, *traces, max_length=128):
    recipe = replace(RECIPE, overlong=overlong, max_length=max_length)
    rows = render_rows(recipe, tokenizer, [list(traces)], [])
    return rows, [(problem.reason, problem.count, problem.refused) for problem in rows.problems]


def test_what_is_too_long_refuses_the_run_with_its_length(tokenizer):
    rows, problems = problems_of(tokenizer, "REFUSE", SUM, LONG)
    assert problems == [("TOO_LONG", 1, True)]
    assert rows.problems[0].examples[0].startswith("long (")
    assert refusal(rows.problems).startswith("TOO_LONG: 1 traces, such as long (")


def test_what_is_too_long_is_left_out_and_counted(tokenizer):
    rows, problems = problems_of(tokenizer, "DROP", SUM, LONG)
    assert problems == [("DROPPED", 1, False)]
    assert [row.trace for row in rows.train] == ["sum"]
    assert refusal(rows.problems) == ""


def test_only_the_start_of_the_prompt_is_cut(tokenizer):
    whole, _ = problems_of(tokenizer, "CUT_PROMPT", LONG, max_length=1000)
    rows, problems = problems_of(tokenizer, "CUT_PROMPT", LONG)
    assert problems == [("PROMPT_CUT", 1, False)]
    assert rows.train[0].tokens.tolist() == whole.train[0].tokens.tolist()[-128:]
    assert learnt(tokenizer, rows.train[0]) == "Answer: 4<|im_end|>"
    assert rows.train[0].cut == len(whole.train[0].tokens) - 128


def test_an_answer_is_never_cut(tokenizer):
    endless = Trace("endless", "Say a lot.", completion="word " * 300)
    assert problems_of(tokenizer, "CUT_PROMPT", SUM, endless)[1] == [("ANSWER_TOO_LONG", 1, True)]


def test_three_examples_are_named_and_all_are_counted(tokenizer):
    many = [replace(LONG, id=f"long-{number}") for number in range(5)]
    [problem] = problems_of(tokenizer, "REFUSE", SUM, *many)[0].problems
    assert (problem.count, [each.split()[0] for each in problem.examples]) == (
        5,
        ["long-0", "long-1", "long-2"],
    )


def test_nothing_left_to_train_on_is_a_problem(tokenizer):
    assert problems_of(tokenizer, "DROP", LONG)[1] == [("NO_ROWS", 1, True), ("DROPPED", 1, False)]


def test_a_padding_token_that_stops_is_refused(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    settings = read_json(folder / "tokenizer_config.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": "<|im_end|>"}))
    [problem] = render_rows(RECIPE, Tokenizer.load(folder), [[SUM]], []).problems
    assert (problem.reason, problem.examples) == ("PAD_IS_STOP", ("token 2 (<|im_end|>)",))


def test_a_conversation_that_the_template_does_not_keep_is_refused(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        "{% if loop.last or message.role == 'user' %}{{ message.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    [problem] = render_rows(RECIPE, Tokenizer.load(folder), [[SUM, CHAT]], []).problems
    assert (problem.reason, problem.examples, problem.refused) == ("TEMPLATE_REFUSED", ("chat",), True)
    assert "chat_template: does not write messages[3]" in problem.message


def test_rows_come_back_from_their_file(tokenizer, tmp_path):
    recipe = replace(RECIPE, train=(*RECIPE.train, Source("datasets/e", "", "all")), overlong="CUT_PROMPT")
    rows = render_rows(recipe, tokenizer, [[SUM, LONG], [CHAT]], [SUM])
    path = tmp_path / "rows.safetensors"
    path.write_bytes(rows_bytes(rows))
    found = read_rows(path)
    assert found.sources == [("datasets/d", "train"), ("datasets/e", "all")]
    assert found.problems == rows.problems
    for one, other in zip([*rows.train, *rows.validation], [*found.train, *found.validation], strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.weights.tolist() == other.weights.tolist()
        assert [one.trace, one.part, one.prompt_length, one.cut] == [
            other.trace,
            other.part,
            other.prompt_length,
            other.cut,
        ]


def test_the_same_traces_give_the_same_bytes(tokenizer, tiny_model):
    first = rows_bytes(render_rows(RECIPE, tokenizer, [[SUM, CHAT]], [SUM]))
    again = rows_bytes(render_rows(RECIPE, Tokenizer.load(tiny_model), [[SUM, CHAT]], [SUM]))
    assert first == again


def test_a_broken_file_is_an_error_that_says_what_to_do(tmp_path):
    path = tmp_path / "rows.safetensors"
    path.write_bytes(b"no rows")
    with pytest.raises(TrainingFailure, match="Render them again") as caught:
        read_rows(path)
    assert caught.value.reason == "ROWS_INVALID"


def test_every_field_of_a_recipe_changes_its_key():
    changed = [
        replace(RECIPE, train=(Source("datasets/d", "x", "train"),)),
        replace(RECIPE, train=(*RECIPE.train, Source("datasets/e", "", "train"))),
        replace(RECIPE, validation=Source("datasets/d", "", "validation")),
        replace(RECIPE, tokenizer="x"),
        replace(RECIPE, format="tags"),
        replace(RECIPE, system_prompt="x"),
        replace(RECIPE, max_length=64),
        replace(RECIPE, overlong="DROP"),
    ]
    assert len({recipe.key for recipe in [RECIPE, *changed]}) == 9


def test_a_directory_is_rendered_by_hand(jobs, capsys):
    directory = jobs.make(render=False)
    assert main([str(directory.root)]) == 0
    rows = read_rows(directory.rows)
    assert (len(rows.train), len(rows.validation)) == (32, 8)
    assert np.all([row.tokens[-1] == 2 for row in rows.train])
    assert str(directory.rows) in capsys.readouterr().out
