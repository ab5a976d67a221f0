"""Columns of other names and formats as the fields of a trace."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.traces.columns import Columns
from tunix_rt.traces.faults import Faults
from tunix_rt.traces.import_rows import ImportRules, SourceRow, import_rows
from tunix_rt.traces.jsonl import import_jsonl
from tunix_rt.traces.trace import (
    ChatMessage,
    Step,
    Trace,
    TraceError,
    canonical_json,
    content_key,
    plain_json,
)


def read(record, rules=None):
    return import_rows([SourceRow("row 1", record)], rules or ImportRules(), Faults()).traces[0]


def mapped(form="", others="refuse", **sources):
    named = {key.replace("__", "."): value for key, value in sources.items()}
    return ImportRules(Columns(named, form, others))


def faults_of(records, rules=None):
    rows = [SourceRow(f"row {number}", record) for number, record in enumerate(records, start=1)]
    with pytest.raises(TraceError) as caught:
        import_rows(rows, rules or ImportRules(), Faults())
    return {each.path: each.message for each in caught.value.violations}


def test_columns_are_taken_under_other_names_and_from_inside_objects() -> None:
    record = {"question": {"text": "2 + 2?"}, "target": 4, "level": "easy"}
    made = read(record, mapped(prompt="question.text", final_answer="target", meta__level="level"))
    assert (made.prompt, made.final_answer, made.meta) == ("2 + 2?", "4", {"level": "easy"})


def test_a_column_that_is_not_there_is_named() -> None:
    found = faults_of([{"question": "2 + 2?"}], mapped(prompt="question", final_answer="target"))
    assert found == {"row 1: target": "is missing; `final_answer` is taken from it."}


@pytest.mark.parametrize(("others", "meta"), [("meta", {"level": 3, "m": 1}), ("drop", {"m": 1})])
def test_other_columns_go_into_the_metadata_or_are_left_out(others, meta) -> None:
    record = {"prompt": "p", "final_answer": "4", "level": 3, "meta": {"m": 1}}
    assert read(record, mapped(others=others)).meta == meta


def test_other_columns_are_faults_unless_told_otherwise() -> None:
    assert list(faults_of([{"prompt": "p", "final_answer": "4", "level": 3}])) == ["row 1: level"]


def test_gsm8k_gives_steps_and_the_result_after_the_hashes() -> None:
    answer = "Half of 48 is 48/2 = <<48/2=24>>24.\nTogether 48+24 = <<48+24=72>>72.\n#### 72"
    made = read({"question": "How many clips?", "answer": answer}, mapped("gsm8k"))
    assert made.prompt == "How many clips?"
    assert made.final_answer == "72"
    assert made.steps == (
        Step(0, "reasoning", "Half of 48 is 48/2 = 24."),
        Step(1, "reasoning", "Together 48+24 = 72."),
    )


def test_a_gsm8k_answer_without_a_result_is_named_by_its_row() -> None:
    rows = [{"question": "q", "answer": "#### 1"}, {"question": "r", "answer": "so 2"}, {"answer": 3}]
    assert faults_of(rows, mapped("gsm8k")) == {
        "row 2: answer": "has no result after `####`.",
        "row 3: question": "is missing; it must be a string.",
        "row 3: answer": "is a number; it must be a string.",
    }


def test_a_format_takes_columns_of_other_names() -> None:
    made = read({"q": "2 + 2?", "a": "#### 4"}, mapped("gsm8k", question="q", answer="a"))
    assert (made.prompt, made.final_answer) == ("2 + 2?", "4")


def test_math_gives_the_last_box_as_the_result() -> None:
    made = read({"problem": "Solve.", "solution": "x = 2.\nSo \\boxed{\\frac{1}{2}}."}, mapped("math"))
    assert made.final_answer == "\\frac{1}{2}"
    assert len(made.steps) == 2


def test_sharegpt_is_a_conversation() -> None:
    turns = [("system", "s"), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")]
    made = read({"conversations": [{"from": who, "value": text} for who, text in turns]}, mapped("sharegpt"))
    assert made.messages[1:3] == (ChatMessage("user", "a"), ChatMessage("assistant", "b"))


def test_an_unknown_speaker_is_named() -> None:
    found = faults_of([{"conversations": [{"from": "tool", "value": "x"}]}], mapped("sharegpt"))
    assert found["row 1: conversations[0].from"] == "is 'tool'; it must be system, human or gpt."


def test_messages_as_an_object_of_lists_are_read() -> None:
    made = read({"messages": {"role": ["user", "assistant"], "content": ["2 + 2?", "4"]}})
    assert (made.prompt, made.completion) == ("2 + 2?", "4")


def test_all_settings_that_are_wrong_are_told_together() -> None:
    found = Columns({"question": "q", "meta.": "x"}, "csv", "keep").faults()
    assert [each.path for each in found] == ["map", "map", "format", "others"]


def test_a_split_is_kept_from_the_row_or_the_record() -> None:
    rows = [
        SourceRow("row 1", {"prompt": "p", "final_answer": "1"}, "train"),
        SourceRow("row 2", {"prompt": "q", "final_answer": "1", "split": "hard"}, "train"),
    ]
    assert import_rows(rows, ImportRules(keep_splits=True), Faults()).splits == ["train", "hard"]


def test_a_split_that_is_not_kept_is_a_fault_or_goes_where_other_columns_go() -> None:
    record = {"prompt": "p", "final_answer": "1", "split": "train"}
    assert list(faults_of([record])) == ["row 1: split"]
    assert read(record, mapped(others="meta")).meta == {"split": "train"}
    assert read(record, mapped(others="drop")).meta == {}


def test_a_trace_that_came_before_is_a_fault_or_left_out() -> None:
    records = [{"id": name, "prompt": "p", "final_answer": "1"} for name in "ab"]
    assert faults_of(records) == {"row 2": "has the content of row 1; leave one of them out."}
    rows = [SourceRow(str(number), record) for number, record in enumerate(records)]
    found = import_rows(rows, ImportRules(duplicates="skip"), Faults())
    assert ([trace.id for trace in found.traces], found.skipped) == (["a"], 1)


def test_ids_are_printable_and_short() -> None:
    found = faults_of([{"id": "a\nb", "prompt": "p", "final_answer": "1"}])
    assert found == {"row 1: id": "must be printable and at most 200 characters."}


def test_of_many_broken_lines_a_hundred_are_shown_and_the_others_counted() -> None:
    lines = [b'{"prompt": "p%d", "final_answer": "1"}' % n for n in range(5)] + [b'{"prompt": ""}'] * 250
    with pytest.raises(TraceError) as caught:
        import_jsonl(io.BytesIO(b"\n".join(lines)), ImportRules())
    found = caught.value.violations
    assert len(found) == 101
    assert found[0].path == "line 6"
    assert found[100].message == "and 150 more faults; 250 records have some. Correct these first."


TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.builds(
        Trace,
        id=TEXT,
        prompt=TEXT,
        steps=st.lists(st.builds(Step, st.integers(0, 99), TEXT, TEXT), max_size=3).map(tuple),
        final_answer=TEXT,
        aliases=st.lists(TEXT, max_size=2).map(tuple),
        completion=TEXT,
        meta=st.dictionaries(TEXT, JSON, max_size=3),
        messages=st.lists(st.builds(ChatMessage, TEXT, TEXT), max_size=2).map(tuple),
    ),
    TEXT,
)
def test_canonical_bytes_are_those_of_the_json_module(trace: Trace, split: str) -> None:
    record: dict[str, object] = {
        "id": trace.id,
        "prompt": trace.prompt,
        "steps": [{"i": step.i, "type": step.type, "content": step.content} for step in trace.steps],
        "final_answer": trace.final_answer,
        "answer_type": trace.answer_type,
        "aliases": list(trace.aliases),
        "completion": trace.completion,
        "meta": plain_json(trace.meta),
        "split": split,
    }
    if trace.messages:
        record["messages"] = [{"role": turn.role, "content": turn.content} for turn in trace.messages]
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    assert canonical_json(trace, split) == text.encode()


def test_the_content_of_a_trace_is_the_same_under_another_id_and_other_metadata() -> None:
    first = Trace("a", "p", final_answer="1", meta={"x": 1})
    assert content_key(first) == content_key(Trace("b", "p", final_answer="1"))
    assert content_key(first) != content_key(Trace("a", "p", final_answer="2", meta={"x": 1}))
    # as it stands in registries since their first schema
    assert content_key(first).hex() == "ad11abcf0b52d0d5cb0e577afdc5e37dced99306d9da31171ba29283520571fa"
