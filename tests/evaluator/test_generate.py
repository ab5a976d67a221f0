"""The Generate and ScoreAnswers calls, over a real channel."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tunix_rt.v1.evaluation_pb2 import Decoding, ItemScore
from tunix_rt.v1.evaluator_service_pb2 import AnswerToScore, GenerateRequest, ScoreAnswersRequest

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

PROMPTS = ["What is 2 + 2?", "What is 3 + 9?", "What is 14 + 5?"]
SAMPLED = Decoding(max_tokens=40, temperature=1.5, seed=5)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tiny(stack: Any) -> str:
    return await stack.make_model()


async def texts(stack: Any, **fields: Any) -> dict[int, str]:
    found: dict[int, str] = defaultdict(str)
    async for response in stack.evaluator.Generate(GenerateRequest(**fields)):
        found[response.index] += response.text
    return dict(found)


async def test_text_is_streamed_for_every_prompt(stack: Any, tiny: str) -> None:
    request = GenerateRequest(subject=tiny, prompts=PROMPTS, decoding=SAMPLED)
    responses = [response async for response in stack.evaluator.Generate(request)]
    assert len(responses) > len(PROMPTS)
    last = {response.index: response for response in responses}
    assert sorted(last) == [0, 1, 2]
    assert all(response.finish_reason in {"stop", "length"} for response in last.values())
    assert all(0 < response.completion_tokens <= 40 for response in last.values())


async def test_the_same_seed_gives_the_same_text(stack: Any, tiny: str) -> None:
    first = await texts(stack, subject=tiny, prompts=PROMPTS, decoding=SAMPLED)
    assert await texts(stack, subject=tiny, prompts=PROMPTS, decoding=SAMPLED) == first
    other = Decoding(max_tokens=40, temperature=1.5, seed=6)
    assert await texts(stack, subject=tiny, prompts=PROMPTS, decoding=other) != first


async def test_int8_weights_give_text_too(stack: Any, tiny: str) -> None:
    made = await texts(stack, subject=tiny, prompts=PROMPTS, decoding=SAMPLED, weight_type="int8")
    assert len(made) == len(PROMPTS)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await texts(stack, subject=tiny, prompts=PROMPTS, weight_type="int4")
    assert "weight_type: is `int4`" in (caught.value.details() or "")


async def test_format_and_system_prompt_reach_the_model(stack: Any, tiny: str) -> None:
    requests = [
        {},
        {"format": "tags"},
        {"format": "none"},
        {"format": "none", "system_prompt": "Be brief."},
        {"system_prompt": "Be brief."},
    ]
    found = [
        (await texts(stack, subject=tiny, prompts=PROMPTS[:1], decoding=SAMPLED, **each))[0]
        for each in requests
    ]
    assert len(set(found)) == len(requests)


async def test_a_cancelled_call_leaves_the_engine(stack: Any, tiny: str) -> None:
    decoding = Decoding(max_tokens=400, temperature=1.5, seed=1)
    call = stack.evaluator.Generate(GenerateRequest(subject=tiny, prompts=PROMPTS, decoding=decoding))
    assert (await call.read()).text
    call.cancel()

    async def idle() -> bool:
        return stack.running.engine.open_requests == 0

    await stack.eventually(idle)
    assert await texts(stack, subject=tiny, prompts=PROMPTS[:1], decoding=Decoding(max_tokens=4))


async def test_a_prompt_that_does_not_fit_is_named(stack: Any, tiny: str) -> None:
    request = GenerateRequest(subject=tiny, prompts=["2 + 2?", "7 + " * 600], decoding=SAMPLED)
    call = stack.evaluator.Generate(request)
    failure = await stack.failure_of(call.read())
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["prompts[1]"])


async def test_bad_fields_are_named_together(stack: Any) -> None:
    request = GenerateRequest(subject="tiny", prompts=[""], decoding=Decoding(max_tokens=-1), format="xml")
    failure = await stack.failure_of(stack.evaluator.Generate(request).read())
    assert failure.fields == ["decoding.max_tokens", "format", "prompts[0]", "subject"]


async def test_answers_are_scored(stack: Any) -> None:
    answers = [
        AnswerToScore(output="2 + 2 = 4\nAnswer: 4", expected_answer="4"),
        AnswerToScore(output="<answer>0.5</answer>", expected_answer="1/2"),
        AnswerToScore(output="Answer: 5", expected_answer="4"),
        AnswerToScore(output="I do not know that at all, sorry.", expected_answer="4"),
        AnswerToScore(output="2 + 2 is 4 and", expected_answer="4", finish_reason="length"),
    ]
    response = await stack.evaluator.ScoreAnswers(ScoreAnswersRequest(answers=answers))
    outcomes = [each.outcome for each in response.scored_answers]
    assert outcomes == [
        ItemScore.CORRECT,
        ItemScore.CORRECT,
        ItemScore.WRONG,
        ItemScore.NO_ANSWER,
        ItemScore.TRUNCATED,
    ]
    assert [each.extracted_answer for each in response.scored_answers] == ["4", "0.5", "5", "", ""]
    assert (response.score.mean, response.score.count, response.score.method) == (0.4, 5, "wilson")


@pytest.mark.parametrize(
    ("text_format", "strict"), [("", [1, 1, 0]), ("answer-line", [1, 0, 0]), ("tags", [0, 1, 0])]
)
async def test_the_strict_score_asks_for_the_format(stack: Any, text_format: str, strict: list[int]) -> None:
    outputs = ["2 + 2 = 4\nAnswer: 4", "<answer>4</answer>", "It is 4"]
    answers = [AnswerToScore(output=output, expected_answer="4") for output in outputs]
    request = ScoreAnswersRequest(answers=answers, format=text_format)
    response = await stack.evaluator.ScoreAnswers(request)
    assert [each.score for each in response.scored_answers] == [1, 1, 1]
    assert [each.strict_score for each in response.scored_answers] == strict


async def test_answers_are_found_by_a_pattern(stack: Any) -> None:
    answers = [AnswerToScore(output="result=4; Answer: 5", expected_answer="4")]
    request = ScoreAnswersRequest(answers=answers, answer_pattern=r"result=([0-9]+)")
    (scored,) = (await stack.evaluator.ScoreAnswers(request)).scored_answers
    assert (scored.extracted_answer, scored.score, scored.rule) == ("4", 1, "pattern")


async def test_formulas_are_scored(stack: Any) -> None:
    answers = [
        AnswerToScore(output=r"Answer: $2\sqrt{2}$", expected_answer=r"\sqrt{8}"),
        AnswerToScore(output=r"\boxed{3\sqrt{2}}", expected_answer=r"\sqrt{8}"),
    ]
    response = await stack.evaluator.ScoreAnswers(ScoreAnswersRequest(answers=answers))
    assert [each.outcome for each in response.scored_answers] == [ItemScore.CORRECT, ItemScore.WRONG]


async def test_answers_to_score_are_checked(stack: Any) -> None:
    request = ScoreAnswersRequest(format="xml", answer_pattern="(")
    failure = await stack.failure_of(stack.evaluator.ScoreAnswers(request))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.fields == ["answer_pattern", "answers", "format"]


async def test_every_token_comes_with_its_log_probability(stack: Any, tiny: str) -> None:
    request = GenerateRequest(subject=tiny, prompts=PROMPTS, decoding=SAMPLED, log_probabilities=True)
    responses = [response async for response in stack.evaluator.Generate(request)]
    for index in range(3):
        mine = [response for response in responses if response.index == index]
        tokens = [token for response in mine for token in response.tokens]
        assert len(tokens) == mine[-1].completion_tokens
        assert "".join(token.text for token in tokens) == "".join(response.text for response in mine)
        assert all(token.log_probability < 0 for token in tokens)


async def test_tokens_are_sent_only_when_asked_for(stack: Any, tiny: str) -> None:
    request = GenerateRequest(subject=tiny, prompts=PROMPTS[:1], decoding=SAMPLED)
    responses = [response async for response in stack.evaluator.Generate(request)]
    assert not any(response.tokens for response in responses)


async def test_samples_of_a_prompt_differ(stack: Any, tiny: str) -> None:
    request = GenerateRequest(subject=tiny, prompts=PROMPTS[:2], decoding=SAMPLED, samples=3)
    found: dict[tuple[int, int], str] = defaultdict(str)
    ended = []
    async for response in stack.evaluator.Generate(request):
        found[response.index, response.sample] += response.text
        if response.finish_reason:
            ended.append((response.index, response.sample))
    assert sorted(ended) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert len(set(found.values())) == 6
    alone = await texts(stack, subject=tiny, prompts=PROMPTS[:1], decoding=SAMPLED)
    assert alone[0] == found[0, 0]
