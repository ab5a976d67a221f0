"""The built-in evaluation sets."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from fractions import Fraction

import pytest

from tunix_rt.answers.equivalence import equivalent
from tunix_rt.answers.extract import last_number
from tunix_rt.traces.choices import item_choices
from tunix_rt.traces.dataset_sources import EVAL_SETS, build, default_size
from tunix_rt.traces.questions import LEVELS, exact_text
from tunix_rt.traces.set_check import check_set
from tunix_rt.traces.trace import Trace, TraceError, canonical_json

NAMES = sorted(EVAL_SETS)
DIGESTS = {
    "choices-eval@1": "d8042b4b79f5675c6616c481a2998817b351e9fb96c6e10b952ec314f6d7d78b",
    "arithmetic-eval@1": "e1f663f7b38888b2db2a640c0cfc122f9dadcc41fade29a544ae6821bc401d21",
    "edge-cases-eval@1": "077c5da7d51ffedff8e1251db867457b9c59ea8aa1e5fdcaff940b7ed7595696",
    "formatting-eval@1": "1a2ed05cb33d06f4d146193ceda1b4974a17ff9a0af0fe55c32796ab7eeba707",
    "multistep-eval@1": "694db860e11bbeeac00524b16b07e7a6013114318c2e469e5f2db2e71895ae61",
    "units-eval@1": "09b0a521784bd72aa29aef75fddabbd79ae1c29cbea1143557a0e67d962f3fc3",
}


@pytest.fixture(scope="module", params=NAMES)
def items(request: pytest.FixtureRequest) -> list[Trace]:
    return build(request.param, 42, default_size(request.param))


def test_a_set_is_valid_and_large_enough(items: list[Trace]) -> None:
    report = check_set(items)
    assert report.faults == ()
    assert report.items >= 200
    assert len(report.sections) >= 4
    assert "" not in report.sections


def test_every_item_names_its_part(items: list[Trace]) -> None:
    levels = Counter(item.meta["difficulty"] for item in items)
    assert set(levels) == set(LEVELS)
    assert min(levels.values()) >= 60
    assert all(item.meta["section"] and item.meta["category"] for item in items)
    assert len({item.id for item in items}) == len(items)


def test_an_answer_is_not_given_by_the_question_or_by_guessing(items: list[Trace]) -> None:
    copied = sum(
        equivalent(last_number(item.prompt) or "", item.final_answer, item.answer_type, item.aliases)
        for item in items
    )
    assert copied / len(items) < 0.05
    assert Counter(item.final_answer for item in items).most_common(1)[0][1] / len(items) < 0.15


def test_the_answers_to_other_questions_are_wrong_as_a_rule(items: list[Trace]) -> None:
    right = sum(
        equivalent(other.final_answer, item.final_answer, item.answer_type, item.aliases)
        for item, other in itertools.pairwise(items)
    )
    assert right / len(items) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_the_same_every_time_and_a_prefix_of_itself(name: str) -> None:
    whole = build(name, 7, default_size(name))
    assert build(name, 7, default_size(name)) == whole
    assert build(name, 7, 30) == whole[:30]
    assert build(name, 8, 30) != whole[:30]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(5))
def test_other_seeds_make_valid_sets_too(name: str, seed: int) -> None:
    assert check_set(build(name, seed, default_size(name))).faults == ()


def test_sums_are_right_by_another_computation() -> None:
    items = [each for each in build("arithmetic-eval@1", 42, 240) if each.meta["category"] == "addition"]
    for item in items:
        terms = item.prompt.removeprefix("Calculate ").removesuffix(".").split(" + ")
        assert item.final_answer == str(sum(int(term) for term in terms))


def test_stories_come_with_their_steps_and_the_last_one_is_the_answer() -> None:
    for item in build("multistep-eval@1", 42, 240):
        assert 2 <= len(item.steps) <= 5
        assert item.steps[-1].content.rsplit("= ", 1)[1] == item.final_answer


def test_one_choice_of_four_is_right_at_changing_places() -> None:
    places: Counter[int] = Counter()
    for item in build("choices-eval@1", 42, 240):
        choices = item_choices(item)
        right = [equivalent(text, item.final_answer, item.answer_type) for text in choices.texts]
        assert len(choices.texts) == 4
        assert [place for place, is_right in enumerate(right) if is_right] == [choices.expected], item.prompt
        places[choices.expected] += 1
    assert places == {0: 60, 1: 60, 2: 60, 3: 60}


def test_a_copied_quantity_is_no_conversion() -> None:
    items = [each for each in build("units-eval@1", 42, 240) if str(each.meta["category"]).startswith("to a")]
    assert len(items) > 90
    for item in items:
        amount, unit = item.prompt.split(" are ")[1].removesuffix("? Give only the number.").split()
        assert not equivalent(f"{amount} {unit}", item.final_answer, item.answer_type), item.prompt


@pytest.mark.parametrize(("name", "digest"), sorted(DIGESTS.items()))
def test_a_set_stays_the_same_for_ever(name: str, digest: str) -> None:
    rows = [canonical_json(item, "test") for item in build(name, 42, default_size(name))]
    assert hashlib.sha256(b"\n".join(rows)).hexdigest() == digest


def test_sizes_and_settings_that_a_set_does_not_have_are_refused() -> None:
    with pytest.raises(TraceError) as caught:
        build("units-eval@1", 0, 10_000, {"level": 3})
    assert [violation.path for violation in caught.value.violations] == ["config.level", "size"]


@pytest.mark.parametrize(
    ("value", "text"),
    [("13/4", "3.25"), ("-4", "-4"), ("1/1000", "0.001"), ("-1/2", "-0.5"), ("0", "0"), ("120", "120")],
)
def test_exact_numbers_are_written_out(value: str, text: str) -> None:
    assert exact_text(Fraction(value)) == text


def test_a_number_without_an_end_is_not_written() -> None:
    with pytest.raises(ValueError, match="no short decimal"):
        exact_text(Fraction(1, 3))
