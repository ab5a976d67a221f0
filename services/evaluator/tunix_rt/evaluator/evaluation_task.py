"""What an evaluation is to find out, and the scores that are known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from tunix_rt.evaluator.messages import Item, ItemDone, ItemFailed
from tunix_rt.evaluator.recorder import Recorder
from tunix_rt.evaluator.results import scored_item
from tunix_rt.jobs.evaluation_spec import PERPLEXITY
from tunix_rt.jobs.judge_spec import is_judged_by
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.scoring.items import failed_item
from tunix_rt.scoring.judged import unscored
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.traces.few_shot import ExamplePool, few_shot_messages
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec, ItemScore

Place = tuple[int, int]  # the position of an item in the split, and the number of the sample


@dataclass(frozen=True)
class Task:
    """What is to be scored: every sample of these items, perhaps with examples before the question."""

    spec: EvaluationSpec
    traces: Sequence[Trace]
    pool: ExamplePool | None

    @property
    def size(self) -> int:
        """How many outputs there are in all."""
        return len(self.traces) * self.spec.samples

    def places(self) -> Iterator[Place]:
        """All places, the longest questions first, so that prompts of one length run side by side."""
        for at in sorted(range(len(self.traces)), key=lambda at: -len(self.traces[at].prompt)):
            for sample in range(self.spec.samples):
                yield at, sample

    def messages(self, trace: Trace) -> tuple[Mapping[str, str], ...]:
        """The chat messages of an item. Raises ValueError for one that cannot be asked or scored."""
        spec, examples = self.spec, self.spec.few_shot
        needless = spec.method == PERPLEXITY or (is_judged_by(spec) and bool(spec.judge.rubric))
        if trace.messages:
            raise ValueError("it is a conversation, which can only be trained on")
        if not trace.final_answer and not needless:
            raise ValueError("there is no answer to score by")
        drawn = self.pool.draw(trace, examples.count, seed=examples.seed) if self.pool else ()
        return tuple(
            few_shot_messages(trace.prompt, drawn, spec.format, spec.system_prompt, spec.prompt_template)
        )


@dataclass(frozen=True)
class Scores:
    """The scores of a task by place, those of earlier attempts among them; new ones are stored."""

    task: Task
    scorer: Scorer
    recorder: Recorder
    known: dict[Place, ItemScore]

    def add(self, score: ItemScore) -> None:
        """Takes a score. Raises the error with which storing has ended, if it has."""
        self.known[score.position, score.sample] = score
        self.recorder.add(score)
        self.recorder.check()

    def fail(self, place: Place, why: str) -> None:
        """Takes an output that could not be generated or scored; raises as `add`."""
        self.add(self._failed(place, why))

    def of(self, event: ItemDone | ItemFailed) -> ItemScore:
        """The score of an output, computed now and not taken; a judge's is made later."""
        place, trace = (event.item, event.sample), self.task.traces[event.item]
        if isinstance(event, ItemFailed):
            return self._failed(place, event.message)
        try:
            return unscored(scored_item(trace, event, self.task.spec, self.scorer), self.task.spec)
        except ValueError as error:  # an answer type or a text that the scorer refuses
            return self._failed(place, f"cannot be scored: {error}")

    def missing_items(self) -> Iterator[Item]:
        """The items for the engine, made one after the other as they are asked for.

        Those that cannot be asked or scored fail.
        """
        missing = (place for place in self.task.places() if place not in self.known)
        for position, samples in groupby(missing, key=lambda place: place[0]):
            try:
                messages = self.task.messages(self.task.traces[position])
            except ValueError as error:
                for place in samples:
                    self.fail(place, str(error))
                continue
            for _, sample in samples:
                yield Item(position, messages=messages, sample=sample)

    def _failed(self, place: Place, why: str) -> ItemScore:
        position, sample = place
        trace = self.task.traces[position]
        get_logger().warning("item failed", item=trace.id, position=position, sample=sample, error=why)
        return failed_item(trace, position, sample)
