import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunix_rt.traces.dataset_sources import build, source_names
from tunix_rt.traces.expressions import solve
from tunix_rt.traces.text import completion_text
from tunix_rt.traces.trace import Trace, TraceError, canonical_json, content_digest
from tunix_rt.traces.verification import verify

FAMILIES = ["basic_arithmetic", "chain_sum", "leg_counting", "products", "simple_equations"]
CORE = Path(__file__).parents[2] / "core"
DIGEST = """
import hashlib
from tunix_rt.traces.dataset_sources import build
from tunix_rt.traces.trace import canonical_json
config = {"families": {"simple_equations": 1, "chain_sum": 2, "leg_counting": 1, "basic_arithmetic": 2}}
traces = build("arithmetic@1", 5, 60, config)
print(hashlib.sha256(b"\\n".join(canonical_json(trace, "train") for trace in traces)).hexdigest())
"""


def violations(config: dict[str, object], *, source: str = "arithmetic@1", size: int = 10) -> dict[str, str]:
    with pytest.raises(TraceError) as caught:
        build(source, 1, size, config)
    return {item.path: item.message for item in caught.value.violations}


@pytest.fixture(scope="module")
def easy() -> list[Trace]:
    return build("arithmetic@1", 1, 400)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_of_every_family_is_true(family: str) -> None:
    traces = build("arithmetic@1", 3, 60, {"families": [family]})
    assert len(traces) == 60
    for trace in traces:
        verify(trace)
        assert trace.meta["family"] == family


def test_no_prompt_is_there_twice(easy: list[Trace]) -> None:
    assert len({content_digest(trace) for trace in easy}) == 400
    assert len({trace.id for trace in easy}) == 400


def test_the_families_have_their_weights(easy: list[Trace]) -> None:
    families = [trace.meta["family"] for trace in easy]
    assert (families.count("chain_sum"), families.count("basic_arithmetic")) == (280, 120)


def test_the_easy_setting_has_three_or_four_terms_and_no_negatives(easy: list[Trace]) -> None:
    for trace in easy:
        solution = solve(str(trace.meta["expression"]))
        assert len(solution.numbers) in (3, 4)
        assert all(0 <= value <= 999 for value in (*solution.numbers, *solution.results))


def test_the_easy_setting_is_short(easy: list[Trace]) -> None:
    assert max(len(completion_text(trace)) for trace in easy) <= 60
    assert max(len(trace.prompt) for trace in easy) <= 30


def test_a_trace_says_where_it_comes_from(easy: list[Trace]) -> None:
    for trace in easy[:20]:
        assert trace.answer_type == "integer"
        assert str(trace.meta["source_dataset"]) == f"reasoning-gym/{trace.meta['family']}"
        assert {"source_index", "source_seed", "difficulty", "expression"} <= set(trace.meta)


def test_steps_stand_one_a_line(easy: list[Trace]) -> None:
    for trace in easy:
        lines = completion_text(trace).splitlines()
        assert lines[:-1] == [step.content for step in trace.steps]
        assert lines[-2].endswith(f" = {trace.final_answer}")
        assert lines[-1] == f"Answer: {trace.final_answer}"


def test_neighbouring_seeds_share_almost_nothing() -> None:
    config: dict[str, object] = {"families": ["chain_sum"], "min_digits": 2}
    one, two = ({t.prompt for t in build("arithmetic@1", seed, 300, config)} for seed in (42, 43))
    assert len(one & two) <= 3


def test_a_longer_build_of_one_seed_keeps_the_traces_of_the_shorter() -> None:
    config: dict[str, object] = {"families": ["chain_sum"]}
    short, long = ({t.id for t in build("arithmetic@1", 42, size, config)} for size in (50, 100))
    assert short < long


def test_negatives_and_parentheses_can_be_asked_for() -> None:
    config = {
        "families": ["basic_arithmetic"],
        "negatives": True,
        "parentheses": True,
        "operators": ["+", "-", "*", "/"],
    }
    expressions = [str(trace.meta["expression"]) for trace in build("arithmetic@1", 1, 100, config)]
    assert any("(" in text for text in expressions)
    assert any("/" in text for text in expressions)
    assert any("-" in text.split() for text in expressions)


def test_numbers_from_a_protobuf_struct_are_accepted() -> None:
    as_floats = build("arithmetic@1", 1, 20, {"max_terms": 3.0, "families": {"chain_sum": 1.0}})
    assert as_floats == build("arithmetic@1", 1, 20, {"max_terms": 3, "families": ["chain_sum"]})


def test_the_bytes_do_not_depend_on_the_hash_seed() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(CORE)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    digests = [process.communicate(timeout=50)[0] for process in running]
    assert digests[0] == digests[1]
    assert len(digests[0].strip()) == 64


def test_the_bytes_of_a_known_build_never_change() -> None:
    traces = build("arithmetic@1", 42, 50)
    data = b"\n".join(canonical_json(trace, "train") for trace in traces)
    assert hashlib.sha256(data).hexdigest() == PINNED


def test_all_bad_configuration_is_reported_together() -> None:
    config: dict[str, object] = {
        "max_term": 3,
        "min_digits": "two",
        "negatives": 1,
        "operators": "+",
        "families": 3,
    }
    assert set(violations(config)) == {
        "config.max_term",
        "config.min_digits",
        "config.negatives",
        "config.operators",
        "config.families",
    }


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        ({"families": ["sums"]}, "config.families.sums", "is no family; there are basic_arithmetic"),
        ({"families": {}}, "config.families", "is empty"),
        ({"families": {"chain_sum": 0}}, "config.families.chain_sum", "weights must be positive"),
        ({"min_terms": 1}, "config.min_terms", "is 1; it must be 2 to 8"),
        ({"min_terms": 5, "max_terms": 4}, "config.max_terms", "is 4, less than min_terms (5)"),
        ({"max_digits": 2.5}, "config.max_digits", "must be a whole number"),
        ({"operators": ["%"]}, "config.operators", "it must be some of"),
        ({"max_value": 1}, "config.max_value", "at least 10"),
        ({"seed": 1}, "config.seed", "is not a known key; known are families"),
    ],
)
def test_a_bad_key_is_named_with_the_remedy(config: dict[str, object], path: str, message: str) -> None:
    assert message in violations(config)[path]


def test_more_problems_than_there_are_is_an_error() -> None:
    config: dict[str, object] = {"families": ["products"], "max_digits": 1, "min_terms": 2, "max_terms": 2}
    assert "ask for fewer" in violations(config, size=150)["size"]


@pytest.mark.parametrize("size", [0, -1, 200_001])
def test_an_impossible_size_is_an_error(size: int) -> None:
    assert "it must be 1 to 200000" in violations({}, size=size)["size"]


def test_an_unknown_source_is_an_error() -> None:
    found = violations({}, source="arithmetic@9")["source"]
    assert found == "is 'arithmetic@9'; it must be one of " + ", ".join(source_names()) + "."
    assert {"arithmetic@1", "golden@2"} < set(source_names())


def test_golden_takes_no_configuration_and_at_most_a_hundred() -> None:
    assert set(violations({"seed": 3}, source="golden@2", size=101)) == {"config.seed", "size"}
    assert [trace.id for trace in build("golden@2", 42, 2)] == ["golden-000", "golden-001"]


PINNED = "26fe3921f6b14c6149e6e7b30fe7dde9d0657d0a3d54c612b83531164f1646b6"
