"""What an attempt does with a judge: asks it about outputs, or measures it; each verdict is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from tunix_rt.evaluator.calibrating import calibration_result, impossible_items, judging_item, judgings_of
from tunix_rt.evaluator.judging import Judges, OpenJudge
from tunix_rt.evaluator.recorder import Recorder
from tunix_rt.evaluator.subjects import DatasetStore, require_split, stored_scores
from tunix_rt.jobs.judge_spec import is_judged_by
from tunix_rt.jobs.models import Subject
from tunix_rt.jobs.remote import persist
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.judges.calibration import Judging
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.scoring.judged import awaits_verdict, output_case, with_verdict
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationResult, EvaluationSpec, ItemScore, JudgeCalibration

T = TypeVar("T")
_Scores = dict[tuple[int, int], ItemScore]  # by position and sample
_Asked = tuple[int, int, Judging]  # position, sample, and what is asked


@dataclass(frozen=True)
class JudgeJobs:
    """The judge's part of evaluations; verdicts that an earlier attempt has stored are kept."""

    registry: Any
    jobs: Any
    judges: Judges
    scorer: Scorer
    kappa: float

    async def open(
        self, claimed: ClaimedJob, spec: EvaluationSpec, subject: Subject
    ) -> tuple[OpenJudge | None, JudgeCalibration | None]:
        """The judge of an evaluation, if it has one, and what is known of it."""
        if not spec.HasField("judge"):
            return None, None
        judge = await _patiently(claimed, lambda: self.judges.open(spec.judge))
        refuse_own_judge(spec, judge.digest, subject.digest, "spec")
        return judge, await _patiently(claimed, lambda: self.judges.calibration(spec.judge, judge.digest))

    async def judge(
        self,
        claimed: ClaimedJob,
        spec: EvaluationSpec,
        judge: OpenJudge,
        scores: Sequence[ItemScore],
        traces: Sequence[Trace],
    ) -> list[ItemScore]:
        """The scores with the judge's verdicts."""
        made = list(scores)
        waiting = [index for index, score in enumerate(made) if awaits_verdict(score)]
        generated = sum(bool(score.finish_reason) for score in made)
        claimed.progress = len(made) + generated - len(waiting)
        claimed.progress_total = len(made) + generated
        get_logger().info("judging", outputs=len(waiting), judge=spec.judge.subject)
        cases = [output_case(made[at], traces[made[at].position], spec) for at in waiting]
        async with Recorder(self.jobs, claimed) as recorder, aclosing(judge.verdicts(cases)) as verdicts:
            async for number, verdict in verdicts:
                at = waiting[number]
                made[at] = with_verdict(made[at], verdict, spec)
                recorder.add(made[at])
                recorder.check()
        return made

    async def calibrate(
        self, claimed: ClaimedJob, spec: EvaluationSpec, datasets: DatasetStore
    ) -> EvaluationResult:
        """Asks a judge about answers whose truth is known."""
        judge = await _patiently(claimed, lambda: self.judges.open(spec.judge))
        claimed.weights_digest = judge.digest
        dataset = await _patiently(claimed, lambda: datasets.get(spec.dataset))
        require_split(dataset, spec.split)
        traces = await _patiently(claimed, lambda: datasets.traces(dataset, spec.split))
        traces = traces[: spec.limit] if spec.limit else traces
        known = await _patiently(claimed, lambda: stored_scores(self.registry, claimed.name))
        scores: _Scores = {(item.position, item.sample): item for item in known}
        claimed.progress, claimed.progress_total = len(scores), len(traces) * spec.samples
        made = await asyncio.to_thread(judgings_of, traces, spec, self.scorer)
        async with Recorder(self.jobs, claimed) as recorder:
            asked = _asked(made, traces, scores, recorder)
            async with aclosing(judge.verdicts([judging.case for _, _, judging in asked])) as verdicts:
                async for number, verdict in verdicts:
                    position, sample, judging = asked[number]
                    item = judging_item(traces[position], position, sample, judging, verdict)
                    scores[position, sample] = item
                    recorder.add(item)
                    recorder.check()
        return await asyncio.to_thread(calibration_result, list(scores.values()), self.kappa)


def refuse_own_judge(spec: EvaluationSpec, judge_digest: str, subject_digest: str, field: str) -> None:
    """Raises InvalidArgument where weights would score their own outputs."""
    if is_judged_by(spec) and judge_digest == subject_digest:
        text = f"is `{spec.judge.subject}`, which has the weights of the subject. Let another model judge."
        raise InvalidArgument.of(f"{field}.judge.subject", text)


def _asked(
    made: Sequence[tuple[Judging, ...] | str], traces: Sequence[Trace], scores: _Scores, recorder: Recorder
) -> list[_Asked]:
    """What is still to be asked; items about which nothing can be asked are recorded as failed."""
    asked: list[_Asked] = []
    for position, judgings in enumerate(made):
        if isinstance(judgings, str):
            get_logger().warning("item cannot be judged", item=traces[position].id, error=judgings)
            for item in impossible_items(traces[position], position):
                if (position, item.sample) not in scores:
                    scores[position, item.sample] = item
                    recorder.add(item)
            continue
        places = [(position, sample, judging) for sample, judging in enumerate(judgings)]
        asked += [each for each in places if each[:2] not in scores]
    return asked


async def _patiently(claimed: ClaimedJob, call: Callable[[], Awaitable[T]]) -> T:
    return await persist(call, claimed.name, until=claimed.lease_lost)
