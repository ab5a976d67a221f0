import pytest

from tunix_rt.traces.contamination import Overlap, find_contamination, loose_prompt
from tunix_rt.traces.golden import golden_v2
from tunix_rt.traces.trace import Trace


def prompts(*texts: str, prefix: str = "t") -> list[Trace]:
    return [Trace(id=f"{prefix}{i}", prompt=text, final_answer="1") for i, text in enumerate(texts)]


def test_different_prompts_are_clean() -> None:
    report = find_contamination(prompts("2 + 2?", "3 + 3?"), prompts("2 + 3?", "33?", "2 - 2?"))
    assert report.clean
    assert (report.eval_items, report.exact, report.normalised, report.near, report.examples) == (
        3,
        0,
        0,
        0,
        (),
    )


def test_exact_and_normalised_duplicates_are_counted_apart() -> None:
    train = prompts("What is 2 + 2?", "Name a colour.")
    report = find_contamination(
        train, prompts("What is 2 + 2?", "what is  2+2", "Name a COLOUR!", "new", prefix="e")
    )
    assert (report.exact, report.normalised, report.count, report.clean) == (1, 2, 3, False)
    assert report.examples == (
        Overlap(eval_id="e0", train_id="t0", prompt="What is 2 + 2?"),
        Overlap(eval_id="e1", train_id="t0", prompt="what is  2+2"),
        Overlap(eval_id="e2", train_id="t1", prompt="Name a COLOUR!"),
    )


def test_only_some_examples_are_kept_but_all_are_counted() -> None:
    many = prompts(*[f"{i} + 1?" for i in range(50)])
    report = find_contamination(many, many)
    assert (report.exact, len(report.examples)) == (50, 10)


STORY = "A farmer has {} hens and every hen lays one egg a day so how many are there after a week of {} days?"


def test_a_long_prompt_with_one_word_changed_is_near() -> None:
    changed = STORY.replace("farmer", "woman").format(12, 7)
    report = find_contamination(prompts(STORY.format(12, 7)), prompts(changed, prefix="e"))
    assert (report.exact, report.normalised, report.near, report.clean) == (0, 0, 1, False)
    assert report.examples == (Overlap(eval_id="e0", train_id="t0", prompt=changed),)


def test_the_same_story_with_other_numbers_is_another_problem() -> None:
    assert find_contamination(prompts(STORY.format(12, 7)), prompts(STORY.format(13, 7))).clean


def test_prompts_of_one_template_are_not_near() -> None:
    golden = golden_v2()
    assert find_contamination(golden[::2], golden[1::2]).clean


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2 + 3", "2 - 3"),
        ("2 * 3", "2 + 3"),
        ("1.5 + 1", "15 + 1"),
        ("1, 2", "1.2"),
        ("12", "1 2"),
        ("2 (3)", "2 3"),
    ],
)
def test_what_changes_the_problem_is_kept(one: str, other: str) -> None:
    assert loose_prompt(one) != loose_prompt(other)


def test_a_prompt_of_signs_only_is_near_to_nothing() -> None:
    assert find_contamination(prompts("😀?"), prompts("😢", "short", "one two three")).clean
