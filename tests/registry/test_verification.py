"""Scores made again from what is stored, on a real registry; changes in the database are named."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from tunix_rt.jobs.evaluation_spec import complete_evaluation
from tunix_rt.scoring.items import item_of, predictions_jsonl, score_choices_of, score_output_of
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.scoring.summary import summarise
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import artifact_pb2, dataset_pb2, evaluation_pb2, job_service_pb2, registry_service_pb2

EvaluationSpec, ItemScore = evaluation_pb2.EvaluationSpec, evaluation_pb2.ItemScore
OUTPUTS = ["0 + 0 = 0\nAnswer: 0", "Answer: 3", "Answer: 4", "2 * 3 = 7\nAnswer: 6", "no idea", "Answer: 1"]


@pytest.fixture(scope="module")
def scorer():
    with closing(Scorer()) as made:
        yield made


async def dataset_of(registry, traces):
    split = dataset_pb2.Split(name="test", fraction=1.0)
    made = await registry.registry.CreateDataset(
        registry_service_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(splits=[split]))
    )
    messages = []
    for trace in traces:
        message = dataset_pb2.Trace(id=trace.id, prompt=trace.prompt, final_answer=trace.final_answer)
        message.meta.update(trace.meta)
        messages.append(message)
    await registry.append(made.name, messages)
    return await registry.registry.SealDataset(registry_service_pb2.SealDatasetRequest(name=made.name))


def plain_traces(count):
    metas = [{"section": "even" if i % 2 == 0 else "odd"} for i in range(count)]
    return [
        Trace(id=f"t{i}", prompt=f"What is {i} + {i}?", final_answer=str(2 * i), meta=meta)
        for i, meta in enumerate(metas)
    ]


async def store(registry, scorer, spec, traces, items):
    """A succeeded evaluation as the evaluator leaves it."""
    file = await registry.upload(predictions_jsonl(items))
    if spec.predictions:
        spec.predictions = file.sha256
    job = job_service_pb2.Job(name="evaluations/", evaluation=spec)
    name = (await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))).name
    await registry.claim("evaluation", "worker")
    record = job_service_pb2.RecordItemScoresRequest(name=name, attempt=1, item_scores=items)
    await registry.jobs.RecordItemScores(record)
    file.path = "predictions.jsonl"
    artifact = artifact_pb2.Artifact(kind="predictions", files=[file])
    await registry.jobs.RecordArtifact(
        job_service_pb2.RecordArtifactRequest(name=name, attempt=1, artifact=artifact)
    )
    complete = complete_evaluation(spec)
    result = summarise(
        items, traces, spec=complete, train=[], tokens_per_second=9.5, contaminated_count=0, scorer=scorer
    )
    await registry.jobs.FinishJob(job_service_pb2.FinishJobRequest(name=name, attempt=1, evaluation=result))
    return name


@pytest.fixture
async def evaluation(registry, scorer):
    """The name of an evaluation of six outputs, half of them right."""
    traces = plain_traces(len(OUTPUTS))
    dataset = (await dataset_of(registry, traces)).name
    spec = EvaluationSpec(subject="predictors/p", dataset=dataset, predictions="a" * 64)
    items = []
    for position, (trace, output) in enumerate(zip(traces, OUTPUTS, strict=True)):
        item = item_of(trace, position, 0)
        item.output, item.finish_reason, item.completion_tokens = output, "stop", 7
        score_output_of(item, trace, complete_evaluation(spec), scorer)
        items.append(item)
    return await store(registry, scorer, spec, traces, items)


async def verify(registry, name):
    request = registry_service_pb2.VerifyEvaluationRequest(name=name)
    return await registry.registry.VerifyEvaluation(request)


def change(registry, sql, *values):
    with psycopg.connect(registry.database, autocommit=True) as connection:
        assert connection.execute(sql, values).rowcount > 0


def change_item(registry, trace_id, **fields):
    """Writes an item anew, with its columns."""
    with psycopg.connect(registry.database, autocommit=True) as connection:
        (data,) = connection.execute(
            "SELECT item FROM item_scores WHERE trace_id = %s", [trace_id]
        ).fetchone()
        item = ItemScore.FromString(data)
        for name, value in fields.items():
            setattr(item, name, value)
        connection.execute(
            "UPDATE item_scores SET item = %s, outcome = %s, score = %s WHERE trace_id = %s",
            [item.SerializeToString(), item.outcome, item.score, trace_id],
        )


def change_result(registry, name, alter):
    with psycopg.connect(registry.database, autocommit=True) as connection:
        (data,) = connection.execute("SELECT result FROM evaluations WHERE name = %s", [name]).fetchone()
        result = evaluation_pb2.EvaluationResult.FromString(data)
        alter(result)
        connection.execute(
            "UPDATE evaluations SET result = %s WHERE name = %s", [result.SerializeToString(), name]
        )


async def test_what_nobody_has_changed_is_verified(registry, evaluation):
    assert await verify(registry, evaluation) == registry_service_pb2.VerifyEvaluationResponse(
        verified=True, item_count=6, scorer="exact-answer@2"
    )


async def test_a_changed_outcome_is_named(registry, evaluation):
    change_item(registry, "t1", outcome=ItemScore.CORRECT, score=1.0, strict_score=1.0)
    found = await verify(registry, evaluation)
    assert (found.verified, found.difference) == (
        False,
        "item `t1`: outcome is CORRECT, made again WRONG",
    )
    assert found.item_count == 2


async def test_a_changed_output_is_named(registry, evaluation):
    change_item(registry, "t1", output="Answer: 2")
    found = await verify(registry, evaluation)
    assert found.difference == "item `t1`: extracted_answer is `3`, made again `2`"


async def test_a_changed_expected_answer_is_named(registry, evaluation):
    change_item(registry, "t1", expected_answer="3", outcome=ItemScore.CORRECT, score=1.0)
    found = await verify(registry, evaluation)
    assert found.difference == "item `t1`: expected_answer is `3`, made again `2`"


async def test_an_output_that_was_changed_with_its_score_differs_from_the_result(registry, evaluation):
    changed = {"output": "Answer: 2", "extracted_answer": "2", "outcome": ItemScore.CORRECT}
    change_item(registry, "t1", **changed, score=1.0, strict_score=1.0)
    found = await verify(registry, evaluation)
    assert found.difference == "result.score.mean is 0.5, made again 0.6666666666666666"


async def test_an_output_that_changes_no_score_differs_from_the_file_of_outputs(registry, evaluation):
    change_item(registry, "t1", output="Answer:  3")
    found = await verify(registry, evaluation)
    assert found.difference.startswith("the stored items are not those of `artifacts/")


async def test_a_changed_column_is_named(registry, evaluation):
    change(registry, "UPDATE item_scores SET score = 1 WHERE trace_id = 't4'")
    found = await verify(registry, evaluation)
    assert found.difference == "item `t4`: score is 1.0 in the table, 0.0 in the item"


async def test_a_removed_item_is_named(registry, evaluation):
    change(registry, "DELETE FROM item_scores WHERE trace_id = 't4'")
    found = await verify(registry, evaluation)
    assert (found.difference, found.item_count) == ("5 outputs are stored, and the split has 6", 0)


@pytest.mark.parametrize(
    ("alter", "difference"),
    [
        (lambda r: setattr(r.score, "mean", 0.75), "result.score.mean is 0.75, made again 0.5"),
        (lambda r: setattr(r.outcomes, "wrong", 0), "result.outcomes.wrong is 0, made again 3"),
        (lambda r: r.ClearField("strict_score"), "result.strict_score is missing, made again there"),
        (lambda r: r.parts.pop(), "result.parts has 1 entries, made again 2"),
        (lambda r: setattr(r.reasoning, "step_count", 9), "result.reasoning.step_count is 9, made again 2"),
        (lambda r: setattr(r, "extracted_rate", 0.5), "result.extracted_rate is 0.5, made again 1.0"),
    ],
)
async def test_a_changed_result_is_named(registry, evaluation, alter, difference):
    change_result(registry, evaluation, alter)
    assert (await verify(registry, evaluation)).difference == difference


@pytest.mark.parametrize(
    ("change_spec", "reason"),
    [
        ({"scorer": "exact-answer@1"}, "It was scored by `exact-answer@1`, and this version of tunix-rt has"),
        (
            {"scorer": "judge@1", "judge": evaluation_pb2.Judge(subject="endpoints/e")},
            "The judge `endpoints/e` made the scores, and only it could make them again.",
        ),
        (
            {"method": "judge-calibration", "judge": evaluation_pb2.Judge(subject="endpoints/e")},
            "It is a calibration: only the judge `endpoints/e` could give its verdicts again.",
        ),
    ],
)
async def test_what_cannot_be_made_again_here_is_said(registry, evaluation, change_spec, reason):
    spec = EvaluationSpec(subject="predictors/p", dataset="", split="test", **change_spec)
    found = await registry.registry.GetEvaluation(registry_service_pb2.GetEvaluationRequest(name=evaluation))
    spec.dataset = found.spec.dataset
    change(registry, "UPDATE jobs SET spec = %s WHERE name = %s", spec.SerializeToString(), evaluation)
    made = await verify(registry, evaluation)
    assert made.unverifiable_reason.startswith(reason)
    assert (made.verified, made.difference, made.item_count) == (False, "", 0)


async def test_formulas_are_compared_again(registry, scorer):
    trace = Trace(id="t0", prompt="Simplify.", final_answer=r"\sqrt{8}")
    dataset = (await dataset_of(registry, [trace])).name
    spec = EvaluationSpec(subject="predictors/p", dataset=dataset, predictions="a" * 64)
    item = item_of(trace, 0, 0)
    item.output, item.finish_reason = r"Answer: 2\sqrt{2}", "stop"
    score_output_of(item, trace, complete_evaluation(spec), scorer)
    assert item.outcome == ItemScore.CORRECT
    name = await store(registry, scorer, spec, [trace], [item])
    assert (await verify(registry, name)).verified


async def test_choices_are_made_again_from_their_log_likelihoods(registry, scorer):
    trace = Trace(id="t0", prompt="Which?", final_answer="B", meta={"choices": ["one", "two"]})
    dataset = (await dataset_of(registry, [trace])).name
    spec = EvaluationSpec(subject=await registry.model(), dataset=dataset, method="multiple-choice")
    item = item_of(trace, 0, 0)
    item.choices.add(text="one", log_likelihood=-2.0, token_count=1)
    item.choices.add(text="two", log_likelihood=-1.5, token_count=1)
    score_choices_of(item, trace, complete_evaluation(spec))
    name = await store(registry, scorer, spec, [trace], [item])
    found = await verify(registry, name)
    assert (found.verified, found.difference, found.scorer) == (True, "", "log-likelihood")
    item.choices[0].log_likelihood = -1.0
    change(registry, "UPDATE item_scores SET item = %s", item.SerializeToString())
    assert (await verify(registry, name)).difference == (
        "item `t0`: extracted_answer is `two`, made again `one`"
    )


async def test_an_evaluation_without_a_result_cannot_be_verified(registry):
    dataset = (await dataset_of(registry, plain_traces(2))).name
    predictions = (await registry.upload(b"outputs")).sha256
    spec = EvaluationSpec(subject="predictors/p", dataset=dataset, predictions=predictions)
    job = job_service_pb2.Job(name="evaluations/", evaluation=spec)
    name = (await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))).name
    failure = await registry.failure_of(verify(registry, name))
    assert failure.reason == "EVALUATION_NOT_FINISHED"
    assert (await registry.failure_of(verify(registry, "evaluations/none"))).reason == "RESOURCE_NOT_FOUND"
    assert list((await registry.failure_of(verify(registry, "x"))).fields) == ["name"]
