"""Evaluations that generate nothing: multiple choice and perplexity, from request to result."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.messages import TextScored, TextToScore
from tunix_rt.traces.text import prompt_messages
from tunix_rt.v1 import dataset_pb2, registry_service_pb2
from tunix_rt.v1.evaluation_pb2 import Decoding, FewShot, ItemScore
from tunix_rt.v1.evaluator_service_pb2 import CancelEvaluationRequest
from tunix_rt.v1.job_pb2 import JobState
from tunix_rt.v1.job_service_pb2 import RecordItemScoresRequest

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

WORDS = ["four", "5", "a much longer text as a choice", "é"]
ALL_TEST = [dataset_pb2.Split(name="test", fraction=1.0)]


def question(number: int, answer: str, **changes: Any) -> dataset_pb2.Trace:
    trace = dataset_pb2.Trace(id=f"q{number}", prompt=f"Which one is number {number}?", final_answer=answer)
    trace.meta.update({"choices": WORDS, **changes})
    return trace


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tiny(stack: Any) -> str:
    return await stack.make_model()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def questions(stack: Any) -> str:
    answers = ["A", "(b)", "four", "é"]
    traces = [question(number, answers[number % 4]) for number in range(24)]
    return (await stack.make_dataset(traces, splits=ALL_TEST)).name


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def choosing(stack: Any, tiny: str, questions: str) -> tuple[Any, list[ItemScore]]:
    made = await stack.evaluate(subject=tiny, dataset=questions, method="multiple-choice")
    done = await stack.ended(made.name)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    return done, await stack.item_scores(made.name)


def in_the_engine(stack: Any) -> Callable[[], Awaitable[bool]]:
    async def waiting() -> bool:
        return stack.running.engine.open_requests == 1

    return waiting


async def log_likelihoods(engine: EngineClient, model: EngineModel, texts: list[TextToScore]) -> list[float]:
    events = [event async for event in engine.score_texts(model, texts)]
    found = {(each.item, each.sample): each.log_likelihood for each in events if isinstance(each, TextScored)}
    return [found[text.number, text.sample] for text in texts]


async def test_each_choice_is_scored_behind_the_answer_mark(
    choosing: Any, engine: EngineClient, model: EngineModel
) -> None:
    _, items = choosing
    messages = tuple(prompt_messages(items[3].prompt))
    texts = [TextToScore(0, messages, word, sample=at, prefix="Answer: ") for at, word in enumerate(WORDS)]
    expected = await log_likelihoods(engine, model, texts)
    assert [choice.text for choice in items[3].choices] == WORDS
    assert [choice.log_likelihood for choice in items[3].choices] == pytest.approx(expected, abs=1e-4)
    assert items[3].log_likelihood == items[3].choices[3].log_likelihood  # its answer is `é`


async def test_the_likeliest_choice_is_the_answer(choosing: Any) -> None:
    done, items = choosing
    named = {"A": "four", "(b)": "5", "four": "four", "é": "é"}
    for item in items:
        best = max(item.choices, key=lambda choice: choice.log_likelihood)
        assert (item.extracted_answer, item.rule) == (best.text, "log-likelihood")
        right = best.text == named[item.expected_answer]
        assert (item.outcome, item.score) == ((ItemScore.CORRECT, 1.0) if right else (ItemScore.WRONG, 0.0))
        assert (item.output, item.finish_reason) == ("", "")
    assert done.result.score.mean == sum(item.score for item in items) / 24
    assert done.result.score.method == "wilson"


async def test_all_normalizations_follow_the_formulas_of_the_harness(choosing: Any) -> None:
    """lm-evaluation-harness, ConfigurableTask.process_results: acc, acc_norm (characters) and acc_bytes."""
    done, items = choosing
    gold = {"A": 0, "(b)": 1, "four": 0, "é": 3}
    lengths = {
        "none": [1, 1, 1, 1],
        "bytes": [4, 1, 30, 2],
        "characters": [4, 1, 30, 1],
    }
    expected = {}
    for name, sizes in lengths.items():
        right = 0
        for item in items:
            values = [each.log_likelihood / size for each, size in zip(item.choices, sizes, strict=True)]
            right += values.index(max(values)) == gold[item.expected_answer]
        expected[name] = right / 24
    assert {each.name: each.score.mean for each in done.result.normalizations} == expected


async def test_the_asked_for_normalization_decides(
    stack: Any, tiny: str, questions: str, choosing: Any
) -> None:
    by_name = {each.name: each.score.mean for each in choosing[0].result.normalizations}
    made = await stack.evaluate(
        subject=tiny, dataset=questions, method="multiple-choice", normalization="bytes"
    )
    done = await stack.ended(made.name)
    assert done.result.score.mean == by_name["bytes"]


async def test_chance_stands_beside_the_score(choosing: Any) -> None:
    (uniform,) = choosing[0].result.baselines
    assert (uniform.name, uniform.score.mean, uniform.score.low) == ("uniform-choice", 0.25, 0.25)


async def test_the_most_frequent_place_is_learned_from_the_training_split(stack: Any, tiny: str) -> None:
    splits = [dataset_pb2.Split(name="train", fraction=0.5), dataset_pb2.Split(name="test", fraction=0.5)]
    dataset = await stack.make_dataset([question(number, "B") for number in range(30)], splits=splits)
    made = await stack.evaluate(subject=tiny, dataset=dataset.name, method="multiple-choice")
    result = (await stack.ended(made.name)).result
    assert {each.name: each.score.mean for each in result.baselines} == {
        "uniform-choice": 0.25,
        "majority-choice": 1.0,
    }


async def test_the_likelihood_is_that_of_the_right_choices(choosing: Any) -> None:
    done, items = choosing
    found = done.result.likelihood
    named = {"A": "four", "(b)": "5", "four": "four", "é": "é"}
    assert found.byte_count == sum(len(named[item.expected_answer].encode()) for item in items) == 66
    assert found.token_count == sum(item.completion_tokens for item in items)
    assert found.log_likelihood == pytest.approx(sum(item.log_likelihood for item in items))
    assert found.perplexity_low <= found.perplexity <= found.perplexity_high


async def test_an_item_without_choices_fails_alone(stack: Any, tiny: str) -> None:
    traces = [question(0, "A"), question(1, "Z"), question(2, "A", choices=["one"])]
    traces.append(dataset_pb2.Trace(id="bare", prompt="No choices?", final_answer="A"))
    traces.append(question(4, "A", choices=["x", "y " * 3000]))
    dataset = await stack.make_dataset(traces, splits=ALL_TEST)
    made = await stack.evaluate(subject=tiny, dataset=dataset.name, method="multiple-choice")
    done = await stack.ended(made.name)
    items = await stack.item_scores(made.name)
    assert [item.outcome == ItemScore.FAILED for item in items] == [False, True, True, True, True]
    assert done.result.score.count == 5
    assert done.result.outcomes.failed == 4


async def test_items_that_all_lack_choices_are_an_error(stack: Any, tiny: str) -> None:
    trace = dataset_pb2.Trace(id="bare", prompt="No choices?", final_answer="A")
    dataset = await stack.make_dataset([trace], splits=ALL_TEST)
    made = await stack.evaluate(subject=tiny, dataset=dataset.name, method="multiple-choice")
    done = await stack.ended(made.name)
    assert done.status.state == JobState.JOB_STATE_FAILED
    assert "needs 2 to 26 texts in `meta.choices`" in done.status.error.message


async def test_the_choices_are_in_the_predictions(stack: Any, choosing: Any) -> None:
    done, items = choosing
    request = registry_service_pb2.ListArtifactsRequest(owner=done.name)
    (artifact,) = (await stack.registry.ListArtifacts(request)).artifacts
    read = registry_service_pb2.ReadBlobRequest(sha256=artifact.files[0].sha256)
    data = b"".join([each.data async for each in stack.registry.ReadBlob(read)])
    first = json.loads(data.splitlines()[0])
    assert first["choices"][1]["log_likelihood"] == items[0].choices[1].log_likelihood
    assert first["log_likelihood"] == items[0].log_likelihood


async def test_examples_change_the_prompt_of_the_choices(stack: Any, tiny: str) -> None:
    splits = [dataset_pb2.Split(name="train", fraction=0.5), dataset_pb2.Split(name="test", fraction=0.5)]
    dataset = await stack.make_dataset([question(number, "B") for number in range(30)], splits=splits)
    lengths = []
    for examples in (None, FewShot(count=1)):
        made = await stack.evaluate(
            subject=tiny, dataset=dataset.name, method="multiple-choice", few_shot=examples
        )
        done = await stack.ended(made.name)
        assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
        lengths.append((await stack.item_scores(made.name))[0].prompt_tokens)
    assert lengths[0] < lengths[1]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def worked(stack: Any) -> str:
    traces = [
        dataset_pb2.Trace(
            id=f"w{number}",
            prompt=f"What is {number} + {number}?",
            steps=[dataset_pb2.Step(type="compute", content=f"{number} + {number} = {2 * number}")],
            final_answer=str(2 * number),
        )
        for number in range(300)
    ]
    traces.append(dataset_pb2.Trace(id="text", prompt="Say it.", completion="Just a text without an answer."))
    return (await stack.make_dataset(traces, splits=ALL_TEST)).name


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def measured(stack: Any, tiny: str, worked: str) -> tuple[Any, list[ItemScore]]:
    made = await stack.evaluate(subject=tiny, dataset=worked, method="perplexity")
    done = await stack.ended(made.name)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    return done, await stack.item_scores(made.name)


async def test_the_text_of_an_item_is_its_rendered_completion(
    measured: Any, engine: EngineClient, model: EngineModel
) -> None:
    _, items = measured
    text = TextToScore(0, tuple(prompt_messages("What is 7 + 7?")), "7 + 7 = 14\nAnswer: 14")
    assert [items[7].log_likelihood] == pytest.approx(await log_likelihoods(engine, model, [text]), abs=1e-4)


async def test_the_score_is_the_geometric_mean_probability_of_a_token(measured: Any) -> None:
    done, items = measured
    for item in items:
        assert item.outcome == ItemScore.SCORED
        assert item.score == pytest.approx(math.exp(item.log_likelihood / item.completion_tokens))
    assert done.result.score.mean == pytest.approx(sum(item.score for item in items) / 301)
    assert (done.result.outcomes.scored, done.result.outcomes.correct) == (301, 0)


async def test_the_perplexity_is_that_of_all_tokens(measured: Any) -> None:
    done, items = measured
    total, tokens = sum(item.log_likelihood for item in items), sum(item.completion_tokens for item in items)
    found = done.result.likelihood
    assert found.token_count == tokens
    assert found.perplexity == pytest.approx(math.exp(-total / tokens))
    assert found.perplexity_low < found.perplexity < found.perplexity_high
    assert found.bits_per_byte == pytest.approx(-total / math.log(2) / found.byte_count)


async def test_an_item_without_an_answer_has_a_perplexity(measured: Any) -> None:
    item = measured[1][300]
    assert (item.trace_id, item.outcome, item.expected_answer) == ("text", ItemScore.SCORED, "")


async def test_nothing_that_only_outputs_have_is_in_the_result(measured: Any) -> None:
    result = measured[0].result
    assert not result.HasField("strict_score")
    assert not result.HasField("reasoning")
    assert (result.completion_tokens, list(result.baselines), list(result.normalizations)) == (0, [], [])


async def test_items_that_are_stored_are_not_scored_again(
    stack: Any, tiny: str, worked: str, measured: Any
) -> None:
    os.kill(stack.running.engine.pid, signal.SIGSTOP)  # so that it is killed before it has scored anything
    made = await stack.evaluate(subject=tiny, dataset=worked, method="perplexity", limit=100)
    await stack.eventually(in_the_engine(stack))
    half = [ItemScore.FromString(item.SerializeToString()) for item in measured[1][:100:2]]
    for item in half:
        item.log_likelihood = -1.0
    await stack.jobs.RecordItemScores(RecordItemScoresRequest(name=made.name, attempt=1, item_scores=half))
    os.kill(stack.running.engine.pid, signal.SIGKILL)
    done = await stack.ended(made.name)
    assert done.status.state == JobState.JOB_STATE_SUCCEEDED, done.status.error.message
    assert done.status.attempt == 2
    items = await stack.item_scores(made.name)
    assert {item.log_likelihood for item in items[::2]} == {-1.0}
    assert [item.log_likelihood for item in items[1::2]] == pytest.approx(
        [item.log_likelihood for item in measured[1][1:100:2]], abs=1e-3
    )


async def test_a_scoring_can_be_cancelled(stack: Any, tiny: str, worked: str) -> None:
    os.kill(stack.running.engine.pid, signal.SIGSTOP)
    try:
        made = await stack.evaluate(subject=tiny, dataset=worked, method="perplexity")
        await stack.eventually(in_the_engine(stack))
        await stack.evaluator.CancelEvaluation(CancelEvaluationRequest(name=made.name))
        assert (await stack.ended(made.name)).status.state == JobState.JOB_STATE_CANCELLED
        assert stack.running.engine.open_requests == 0
    finally:
        os.kill(stack.running.engine.pid, signal.SIGCONT)


async def test_boards_of_different_methods_are_apart(
    stack: Any, tiny: str, worked: str, measured: Any
) -> None:
    made = await stack.evaluate(subject=tiny, dataset=worked, limit=5, decoding=Decoding(max_tokens=4))
    await stack.ended(made.name)
    request = registry_service_pb2.GetLeaderboardRequest(dataset=worked)
    boards = (await stack.registry.GetLeaderboard(request)).boards
    found = {board.spec.method: board.entries[0] for board in boards if board.spec.limit != 100}
    assert sorted(found) == ["generation", "perplexity"]
    assert found["perplexity"].likelihood == measured[0].result.likelihood
    assert not found["generation"].HasField("likelihood")
