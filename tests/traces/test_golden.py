from dataclasses import replace

import pytest

from tunix_rt.traces.golden import golden_digest, golden_v2
from tunix_rt.traces.trace import Step, Trace, content_digest
from tunix_rt.traces.verification import StepError, verify


def with_step(trace: Trace, i: int, content: str) -> Trace:
    steps = list(trace.steps)
    steps[i] = Step(i=i, type="compute", content=content)
    return replace(trace, steps=tuple(steps))


SUM = Trace(
    id="s",
    prompt="Calculate 17 + 25 - 8.",
    steps=(
        Step(i=0, type="compute", content="17 + 25 = 42"),
        Step(i=1, type="compute", content="42 - 8 = 34"),
    ),
    final_answer="34",
    meta={"expression": "17 + 25 - 8"},
)
LETTERS = Trace(
    id="l",
    prompt='How many letters do "lemon" and "wagon" have together?',
    steps=(
        Step(i=0, type="fact", content='"lemon" has 5 letters'),
        Step(i=1, type="fact", content='"wagon" has 5 letters'),
        Step(i=2, type="compute", content="5 + 5 = 10"),
    ),
    final_answer="10",
    meta={"expression": "5 + 5"},
)


def test_there_are_a_hundred_different_traces() -> None:
    traces = golden_v2()
    assert len(traces) == 100
    assert len({content_digest(trace) for trace in traces}) == 100
    assert len({trace.id for trace in traces}) == 100


def test_the_set_never_changes() -> None:
    assert golden_digest(golden_v2()) == PINNED


def test_another_seed_gives_another_set() -> None:
    assert golden_digest(golden_v2(seed=7)) != PINNED


def test_there_are_sums_stories_and_letters() -> None:
    families = [str(trace.meta["family"]) for trace in golden_v2()]
    assert {name: families.count(name) for name in set(families)} == {"sum": 60, "story": 30, "letters": 10}


def test_every_trace_is_true() -> None:
    for seed in (42, 1, 2, 3):
        for trace in golden_v2(seed):
            verify(trace)


def test_no_mutated_step_passes() -> None:
    for trace in golden_v2():
        for step in trace.steps:
            if step.type == "compute":
                with pytest.raises(StepError):
                    verify(with_step(trace, step.i, step.content + "1"))


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (with_step(SUM, 0, "17 + 25 = 43"), "step 0: '17 \\+ 25 = 43' is not true"),
        (with_step(SUM, 0, "18 + 24 = 42"), "step 0: 18 comes from nowhere"),
        (with_step(SUM, 0, "25 - 8 = 17"), "step 1: 42 comes from nowhere"),
        (with_step(SUM, 1, "42 - 25 = 17"), "step 1: 25 comes from nowhere"),
        (with_step(SUM, 1, "so it is 34"), "step 1: 'so it is 34' cannot be checked"),
        (with_step(SUM, 1, "42 / 8 = 5"), "step 1: 42 / 8 has no exact integer value"),
        (replace(SUM, steps=SUM.steps[:1]), "the steps leave \\[8, 42\\]"),
        (replace(SUM, steps=()), "the steps leave \\[8, 17, 25\\]"),
        (replace(SUM, final_answer="35"), "the answer is 35, but 17 \\+ 25 - 8 is 34"),
        (replace(SUM, prompt="Calculate 17 + 26 - 8."), "the prompt does not state"),
        (replace(SUM, meta={}), "has no `meta.expression`"),
        (replace(SUM, meta={"expression": "17 +"}), "is not an expression of integers"),
        (with_step(LETTERS, 0, '"lemon" has 6 letters'), "step 0: '\"lemon\" has 6 letters' is not true"),
        (with_step(LETTERS, 0, '"melon" has 5 letters'), "step 0: '\"melon\" has 5 letters' is not true"),
    ],
)
def test_a_false_trace_is_found_out(trace: Trace, message: str) -> None:
    with pytest.raises(StepError, match=message):
        verify(trace)


@pytest.mark.parametrize("trace", [SUM, LETTERS])
def test_a_true_trace_passes(trace: Trace) -> None:
    verify(trace)


PINNED = "8c5f4fe6cd121e617e408d461753f103b9a18a8d208db467890545b785f921be"
