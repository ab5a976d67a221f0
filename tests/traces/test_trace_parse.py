import json

import pytest

from tunix_rt.answers import equivalence
from tunix_rt.traces.parse import parse_record
from tunix_rt.traces.predictions import Prediction, canonical_prediction, parse_prediction
from tunix_rt.traces.trace import ANSWER_TYPES, Step, TraceError

RAW = {
    "trace_version": "1.0",
    "prompt": "Calculate 17 + 25.",
    "final_answer": "42",
    "steps": [{"i": 0, "type": "compute", "content": "17 + 25 = 42"}],
    "meta": {"source": "mine"},
}


def violations(record: object) -> dict[str, str]:
    with pytest.raises(TraceError) as caught:
        parse_record(record)
    return {item.path: item.message for item in caught.value.violations}


def test_reads_a_raw_trace() -> None:
    trace = parse_record(RAW)
    assert trace.prompt == "Calculate 17 + 25."
    assert trace.steps == (Step(i=0, type="compute", content="17 + 25 = 42"),)
    assert trace.final_answer == "42"
    assert trace.meta == {"source": "mine", "trace_version": "1.0"}


def test_steps_counted_from_one_are_counted_from_zero() -> None:
    steps = [{"i": 1, "type": "t", "content": "a"}, {"i": 2, "type": "t", "content": "b"}]
    assert [step.i for step in parse_record({**RAW, "steps": steps}).steps] == [0, 1]


def test_reads_an_evaluation_item() -> None:
    item = {
        "id": "q1",
        "prompt": "2+2?",
        "expected_answer": 4,
        "section": "sums",
        "category": "a",
        "difficulty": "easy",
    }
    trace = parse_record(item)
    assert (trace.id, trace.prompt, trace.final_answer, trace.completion) == ("q1", "2+2?", "4", "")
    assert trace.meta == {"section": "sums", "category": "a", "difficulty": "easy"}


@pytest.mark.parametrize("key", ["response", "completion"])
def test_reads_a_prompt_completion_pair(key: str) -> None:
    trace = parse_record({"prompt": "2+2?", key: "It is 4."})
    assert (trace.prompt, trace.completion, trace.final_answer) == ("2+2?", "It is 4.", "")


def test_a_pair_may_name_its_answer() -> None:
    assert parse_record({"prompt": "2+2?", "completion": "It is 4.", "final_answer": "4"}).final_answer == "4"


def test_reads_a_chat() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
    ]
    trace = parse_record({"messages": messages})
    assert (trace.prompt, trace.completion, trace.meta) == ("2+2?", "4", {"system": "Be brief."})


def test_reads_a_pair_of_message_lists() -> None:
    trace = parse_record(
        {
            "prompt": [{"role": "user", "content": "2+2?"}],
            "completion": [{"role": "assistant", "content": "4"}],
        }
    )
    assert (trace.prompt, trace.completion) == ("2+2?", "4")


def test_reads_steps_and_answer_from_the_tagged_format() -> None:
    text = "<reasoning>17 + 25 = 42\n42 - 8 = 34</reasoning>\n<answer>34</answer>"
    trace = parse_record({"prompt": "Calculate 17 + 25 - 8.", "response": text})
    assert [step.content for step in trace.steps] == ["17 + 25 = 42", "42 - 8 = 34"]
    assert (trace.final_answer, trace.completion) == ("34", text)


@pytest.mark.parametrize(
    ("value", "text"), [(4, "4"), (4.5, "4.5"), (True, "true"), (False, "false"), ("4", "4")]
)
def test_a_json_answer_is_taken_as_its_text(value: object, text: str) -> None:
    assert parse_record({"prompt": "p", "final_answer": value}).final_answer == text


def test_the_id_comes_from_the_prompt_when_there_is_none() -> None:
    same = [parse_record({"prompt": prompt, "final_answer": "4"}).id for prompt in ("2 + 2?", " 2  +\n2? ")]
    assert same[0] == same[1]
    assert same[0].startswith("trace-")


def test_every_fault_is_reported_together() -> None:
    record = {
        "prompt": " ",
        "final_answer": None,
        "steps": [
            {"i": 0, "type": "", "content": 3, "text": "x"},
            "no",
            {"i": 5, "type": "t", "content": "c"},
        ],
        "answer_type": "number",
        "aliases": "four",
        "answr": 4,
    }
    assert set(violations(record)) == {
        "answr",
        "prompt",
        "final_answer",
        "steps[0].type",
        "steps[0].content",
        "steps[0].text",
        "steps[1]",
        "steps[2].i",
        "answer_type",
        "aliases",
    }


@pytest.mark.parametrize(
    ("record", "path", "message"),
    [
        ([], "record", "is a list; it must be a JSON object"),
        ("x", "record", "is a string; it must be a JSON object"),
        ({}, "record", "one of them must say what the answer is"),
        ({"prompt": "p", "answer": "4"}, "record", "one of them must say what the answer is"),
        ({"id": "1", "prediction": "4"}, "record", "is a prediction, not a trace"),
        ({"prompt": 3, "final_answer": "4"}, "prompt", "is a number; it must be a string"),
        ({"prompt": "p", "final_answer": ["4"]}, "final_answer", "is a list; it must be a string"),
        ({"prompt": "p", "final_answer": float("nan")}, "final_answer", "is NaN or infinite"),
        ({"prompt": "\ud800", "final_answer": "4"}, "prompt", "half of a surrogate pair"),
        ({"prompt": "p", "final_answer": "4", "steps": {}}, "steps", "is an object; it must be a list"),
        ({"prompt": "p", "final_answer": "4", "meta": 3}, "meta", "is a number; it must be an object"),
        ({"prompt": "p", "final_answer": "4", "meta": {"x": float("inf")}}, "meta.x", "NaN or infinite"),
        ({"prompt": "p", "final_answer": "4", "id": ""}, "id", "is empty"),
        ({"prompt": "p", "final_answer": "4", "id": None}, "id", "is missing"),
        ({"prompt": "p", "final_answer": "4", "split": "test"}, "split", "is not a known key"),
        ({"prompt": "p", "completion": "a", "response": "b"}, "response", "give only one of them"),
        ({"prompt": "p", "completion": ""}, "completion", "is empty"),
        ({"messages": []}, "messages", "must be a non-empty list"),
        (
            {"messages": [{"role": "user", "content": "p"}]},
            "messages",
            "has the roles user; it must be one user",
        ),
        ({"messages": [{"role": "user", "text": "p"}]}, "messages[0].text", "known are role and content"),
        (
            {"prompt": "p", "expected_answer": "4", "section": "a", "meta": {"section": "b"}},
            "section",
            "only one",
        ),
    ],
)
def test_a_bad_field_is_named_with_the_remedy(record: object, path: str, message: str) -> None:
    assert message in violations(record)[path]


def test_deeply_nested_metadata_is_refused() -> None:
    nested: object = 1
    for _ in range(40):
        nested = [nested]
    found = violations({"prompt": "p", "final_answer": "4", "meta": {"x": nested}})
    assert any("nested deeper" in message for message in found.values())


def test_the_line_goes_before_the_field() -> None:
    with pytest.raises(TraceError, match="line 3: prompt: is missing"):
        parse_record({"final_answer": "4"}, "line 3")


@pytest.mark.parametrize(
    "record",
    [
        {"id": "q1", "prediction": "4"},
        {"trace_id": "q1", "predicted_answer": "4", "model": "mine", "score": 1},
        {"trace_id": "q1", "id": "q1", "prediction": "4"},
    ],
)
def test_reads_a_prediction(record: dict[str, object]) -> None:
    prediction = parse_prediction(record)
    assert (prediction.item_id, prediction.output) == ("q1", "4")


def test_a_prediction_says_which_sample_it_is_and_how_it_ended() -> None:
    record = {"id": "q1", "prediction": "4", "sample": 3, "finish_reason": "length"}
    assert parse_prediction(record) == Prediction("q1", "4", 3, "length")
    assert parse_prediction({"id": "q1", "prediction": "4", "finish_reason": ""}) == Prediction("q1", "4")


def test_a_canonical_prediction_reads_back() -> None:
    prediction = Prediction("q1", "\u2028é\n</answer>", 2, "length")
    line = canonical_prediction(prediction)
    assert line == (
        '{"finish_reason":"length","id":"q1","prediction":"\u2028é\\n</answer>","sample":2}\n'.encode()
    )
    assert parse_prediction(json.loads(line)) == prediction


def test_an_empty_prediction_is_an_output_too() -> None:
    assert parse_prediction({"id": "q1", "prediction": ""}).output == ""


@pytest.mark.parametrize(
    ("record", "paths"),
    [
        ({}, ["id", "prediction"]),
        ({"id": "", "prediction": 4}, ["id", "prediction"]),
        ({"id": "a", "trace_id": "b", "prediction": "4"}, ["id"]),
        (json.loads("[1]"), ["record"]),
        ({"id": "a", "prediction": "4", "sample": -1, "finish_reason": "eos"}, ["sample", "finish_reason"]),
        ({"id": "a", "prediction": "4", "sample": True}, ["sample"]),
        ({"id": "a", "prediction": "4", "sample": 1.0}, ["sample"]),
        ({"id": "a", "prediction": "4", "finish_reason": "error"}, ["finish_reason"]),
        ({"id": "a", "prediction": "\ud800"}, ["prediction"]),
    ],
)
def test_a_bad_prediction_is_refused(record: object, paths: list[str]) -> None:
    with pytest.raises(TraceError) as caught:
        parse_prediction(record)
    assert [item.path for item in caught.value.violations] == paths


def test_answer_types_are_those_that_can_be_compared() -> None:
    assert set(ANSWER_TYPES) == {"", *equivalence.ANSWER_TYPES}
