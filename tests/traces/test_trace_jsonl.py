import io
import json
import tracemalloc

import pytest

from tunix_rt.traces.jsonl import read_canonical, read_jsonl, read_predictions
from tunix_rt.traces.parse import parse_record
from tunix_rt.traces.trace import Trace, TraceError, canonical_json, content_digest

GOOD = b'{"prompt": "2 + 2?", "final_answer": "4"}\n'


def lines(*texts: bytes) -> io.BytesIO:
    return io.BytesIO(b"\n".join(texts) + b"\n")


def item(number: int) -> bytes:
    return json.dumps({"id": f"q{number}", "prompt": f"{number}?", "expected_answer": str(number)}).encode()


def paths(stream: io.BytesIO, max_line_bytes: int = 1 << 20) -> list[str]:
    with pytest.raises(TraceError) as caught:
        read_jsonl(stream, max_line_bytes)
    return [violation.path for violation in caught.value.violations]


def test_reads_all_lines() -> None:
    assert [trace.id for trace in read_jsonl(lines(item(1), item(2), item(3)))] == ["q1", "q2", "q3"]


def test_blank_lines_byte_order_mark_and_windows_ends_are_harmless() -> None:
    stream = io.BytesIO(b"\xef\xbb\xbf" + item(1) + b"\r\n\r\n" + item(2))
    assert [trace.id for trace in read_jsonl(stream)] == ["q1", "q2"]


def test_an_empty_file_has_no_traces() -> None:
    assert read_jsonl(io.BytesIO(b"")) == []


def test_a_broken_line_in_the_middle_is_named() -> None:
    assert paths(lines(*map(item, range(1, 17)), b'{"prompt": ', item(18))) == ["line 17"]


def test_all_broken_lines_are_named() -> None:
    stream = lines(
        item(1), b"[]", b"null", b'{"prompt": "p"}', b'{"prompt": "p", "final_answer": ""}', item(1)
    )
    assert paths(stream) == ["line 2", "line 3", "line 4", "line 5: final_answer", "line 6: id"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"prompt": "\xff", "final_answer": "4"}',
        b'{"prompt": "p", "final_answer": NaN}',
        b'{"prompt": "p", "prompt": "q", "final_answer": "4"}',
        b'{"prompt": "p", "final_answer": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"prompt": "p", "final_answer": "4"} trailing',
    ],
)
def test_what_is_not_plain_json_is_refused(line: bytes) -> None:
    assert paths(lines(item(1), line)) == ["line 2"]


def test_a_line_at_the_limit_is_read_and_one_above_it_not() -> None:
    size = len(item(1))
    assert len(read_jsonl(lines(item(1), item(2)), size)) == 2
    assert paths(lines(item(1), item(2) + b" "), size) == ["line 2"]


class EndlessLine(io.RawIOBase):
    """A stream whose only line has a gigabyte; it counts what is taken from it."""

    def __init__(self) -> None:
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = min(len(buffer), (1 << 30) - self.taken)
        buffer[:count] = b"x" * count
        self.taken += count
        return count


def test_a_line_of_a_gigabyte_is_never_read_into_memory() -> None:
    source = EndlessLine()
    tracemalloc.start()
    try:
        with pytest.raises(TraceError, match="line 1: is longer than 1048576 bytes"):
            read_jsonl(io.BufferedReader(source))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert source.taken < 4 << 20
    assert peak < 16 << 20


def test_canonical_bytes_are_sorted_and_on_one_line() -> None:
    trace = Trace(id="t", prompt="Zwei\n½?", final_answer="1", meta={"b": 1, "a": [True, None]})
    assert canonical_json(trace, "train") == (
        b'{"aliases":[],"answer_type":"","completion":"","final_answer":"1","id":"t","meta":{"a":[true,null],"b":1},'
        b'"prompt":"Zwei\\n\xc2\xbd?","split":"train","steps":[]}'
    )


@pytest.mark.parametrize(
    "record",
    [
        {
            "prompt": "p",
            "final_answer": "4",
            "steps": [{"i": 0, "type": "t", "content": "é"}],
            "aliases": ["four"],
        },
        {"id": "q", "prompt": "p", "expected_answer": "4", "section": "s", "answer_type": "integer"},
        {"prompt": "p", "completion": "It is 4."},
        {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]},
        {"trace_version": "1.0", "prompt": "p", "final_answer": "4", "meta": {"x": {"y": [1, 2.5, None]}}},
    ],
)
def test_canonical_bytes_read_back_to_the_same_trace(record: dict[str, object]) -> None:
    trace = parse_record(record)
    data = canonical_json(trace, "test")
    assert read_canonical([data]) == [(trace, "test")]
    assert canonical_json(read_canonical([data])[0][0], "test") == data


def test_canonical_lines_must_name_their_split() -> None:
    with pytest.raises(TraceError, match="line 1: split"):
        read_canonical([GOOD])


def test_the_digest_is_of_the_prompt_in_whatever_layout() -> None:
    one, two = Trace(id="a", prompt="What is  2+2?\n"), Trace(id="b", prompt="what IS 2+2?", final_answer="4")
    assert content_digest(one) == content_digest(two)
    assert content_digest(one) != content_digest(Trace(id="a", prompt="What is 2+3?"))


def test_predictions_know_their_lines() -> None:
    stream = lines(b'{"id": "a", "prediction": "1"}', b"", b'{"trace_id": "b", "predicted_answer": "2"}')
    assert [(number, each.item_id) for number, each in read_predictions(stream)] == [(1, "a"), (3, "b")]


def test_all_bad_predictions_are_named_together() -> None:
    good = b'{"id": "a", "prediction": "1"}'
    stream = lines(good, b"[]", b'{"id": "c"}', good, b'{"id": "a", "prediction": "1", "sample": 1}')
    with pytest.raises(TraceError) as caught:
        read_predictions(stream)
    assert [violation.path for violation in caught.value.violations] == [
        "line 2",
        "line 3: prediction",
        "line 4: id",
    ]
    assert "also in line 1" in caught.value.violations[2].message
