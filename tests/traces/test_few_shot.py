"""Examples before a question."""

from __future__ import annotations

from collections import Counter

import pytest

from tunix_rt.traces.few_shot import ExamplePool, few_shot_messages
from tunix_rt.traces.text import INSTRUCTIONS
from tunix_rt.traces.trace import Step, Trace


def trace(number: int, **changes: object) -> Trace:
    values = {"id": f"t{number}", "prompt": f"What is {number} + 1?", "final_answer": str(number + 1)}
    return Trace(**{**values, **changes})


POOL = [trace(number) for number in range(20)]
ITEM = trace(100)


def ids(traces: tuple[Trace, ...]) -> list[str]:
    return [each.id for each in traces]


def test_examples_depend_on_the_item_and_the_seed_only() -> None:
    pool = ExamplePool(POOL)
    first = ids(pool.draw(ITEM, 4, seed=1))
    pool.draw(trace(101), 4, seed=1)
    assert ids(pool.draw(ITEM, 4, seed=1)) == first == ids(ExamplePool(POOL).draw(ITEM, 4, seed=1))
    assert ids(pool.draw(ITEM, 4, seed=2)) != first
    assert ids(pool.draw(trace(101), 4, seed=1)) != first


def test_fewer_examples_are_the_first_of_more() -> None:
    pool = ExamplePool(POOL)
    assert ids(pool.draw(ITEM, 2, seed=3)) == ids(pool.draw(ITEM, 7, seed=3))[:2]


def test_every_trace_is_drawn_equally_often() -> None:
    pool = ExamplePool(POOL)
    counts = Counter(name for n in range(2000) for name in ids(pool.draw(trace(1000 + n), 5, seed=0)))
    assert len(counts) == 20
    # Binomial(2000, 1/4): mean 500, standard deviation 19.4
    assert max(abs(count - 500) for count in counts.values()) < 5 * 19.4


@pytest.mark.parametrize(
    "twin",
    [trace(100), trace(100, id="other"), trace(100, id="other", prompt="  what is 100+1 ")],
    ids=["itself", "same-words", "same-words-in-another-layout"],
)
def test_the_item_is_never_its_own_example(twin: Trace) -> None:
    pool = ExamplePool([twin, *POOL[:3]])
    for seed in range(30):
        assert sorted(ids(pool.draw(ITEM, 3, seed=seed))) == ["t0", "t1", "t2"]
    with pytest.raises(ValueError, match="only 3 examples"):
        pool.draw(ITEM, 4, seed=0)


def test_no_example_is_shown_twice() -> None:
    pool = ExamplePool([trace(1), trace(1, id="again"), trace(2)])
    assert {each.prompt for each in pool.draw(ITEM, 2, seed=5)} == {trace(1).prompt, trace(2).prompt}
    with pytest.raises(ValueError, match="only 2 examples"):
        pool.draw(ITEM, 3, seed=5)


def test_a_trace_without_an_answer_is_no_example() -> None:
    with pytest.raises(ValueError, match="only 0 examples"):
        ExamplePool([trace(1, final_answer="")]).draw(ITEM, 1, seed=0)


def test_examples_are_turns_between_the_instruction_and_the_question() -> None:
    steps = (Step(i=0, type="compute", content="1 + 1 = 2"),)
    examples = [trace(1, steps=steps), trace(2, completion="Three.")]
    assert few_shot_messages("What is 3 + 1?", examples, "answer-line", "Be brief.") == [
        {"role": "system", "content": f"Be brief.\n{INSTRUCTIONS['answer-line']}"},
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": "1 + 1 = 2\nAnswer: 2"},
        {"role": "user", "content": "What is 2 + 1?"},
        {"role": "assistant", "content": "Three."},
        {"role": "user", "content": "What is 3 + 1?"},
    ]
    tagged = few_shot_messages("What is 3 + 1?", examples[:1], "tags")
    assert tagged[2]["content"] == "<reasoning>1 + 1 = 2</reasoning>\n<answer>2</answer>"


def test_a_template_words_the_questions_of_the_examples_too() -> None:
    messages = few_shot_messages("What is 3 + 1?", [trace(1)], "answer-line", template="Q: {question}")
    users = [message["content"] for message in messages if message["role"] == "user"]
    assert users == ["Q: What is 1 + 1?", "Q: What is 3 + 1?"]
