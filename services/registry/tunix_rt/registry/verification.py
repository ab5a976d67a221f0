"""Makes the score of an evaluation again from its stored items, and names the first difference; pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from google.protobuf.message import Message

from tunix_rt.answers.score import SCORER
from tunix_rt.jobs.evaluation_spec import GENERATION, MULTIPLE_CHOICE
from tunix_rt.jobs.judge_spec import is_calibration, is_judged_by
from tunix_rt.registry.stored_evaluation import StoredEvaluation, StoredItem
from tunix_rt.scoring.items import (
    LIKELIHOOD_RULE,
    item_of,
    predictions_jsonl,
    score_choices_of,
    score_output_of,
    score_reference_of,
)
from tunix_rt.scoring.judged import add_judged
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.scoring.summary import summarise
from tunix_rt.traces.choices import item_choices
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec, ItemScore
from tunix_rt.v1.registry_service_pb2 import VerifyEvaluationResponse

TOLERANCE = 1e-9  # relative; sums and quantiles may differ in the last digits on another machine
_SHOWN = 200
_MEASURED = ("prompt_tokens", "completion_tokens", "latency", "cached", "judge_score", "judge_comment")
_COLUMNS = ("trace_id", "position", "sample", "outcome", "score")


def verify(stored: StoredEvaluation) -> VerifyEvaluationResponse:
    """Whether the stored items give the stored result; formulas are compared by worker processes."""
    made = VerifyEvaluationResponse(scorer=stored.spec.scorer or LIKELIHOOD_RULE)
    if reason := unverifiable_reason(stored.spec):
        made.unverifiable_reason = reason
        return made
    with closing(Scorer()) as scorer:
        made.difference = next(_set_differences(stored), "")
        for each in stored.items:
            if made.difference:
                return made
            made.difference = next(_item_differences(each, stored, scorer), "")
            made.item_count += 1
        made.difference = made.difference or next(_result_differences(stored, scorer), "")
    made.verified = not made.difference
    return made


def unverifiable_reason(spec: EvaluationSpec) -> str:
    """Why scores cannot be made again here; empty if they can."""
    if is_calibration(spec):
        return f"It is a calibration: only the judge `{spec.judge.subject}` could give its verdicts again."
    if is_judged_by(spec):
        return f"The judge `{spec.judge.subject}` made the scores, and only it could make them again."
    if spec.method in ("", GENERATION) and spec.scorer != SCORER:
        return f"It was scored by `{spec.scorer}`, and this version of tunix-rt has `{SCORER}`."
    return ""


def _set_differences(stored: StoredEvaluation) -> Iterator[str]:
    """Whether these are outputs of this dataset, and all of them."""
    if stored.dataset_sha256 != stored.sealed_sha256:
        yield f"`{stored.spec.dataset}` has the SHA-256 {stored.sealed_sha256}, not {stored.dataset_sha256}"
    wanted, count = len(stored.traces) * max(stored.spec.samples, 1), len(stored.items)
    if count != wanted:
        yield f"{count} outputs are stored, and the split has {wanted}"


def _result_differences(stored: StoredEvaluation, scorer: Scorer) -> Iterator[str]:
    """What of the result the items do not give, and whether they are those of the file of outputs."""
    items = [each.item for each in stored.items]
    again = summarise(
        items,
        stored.traces,
        spec=stored.spec,
        train=stored.train,
        tokens_per_second=stored.result.tokens_per_second,
        contaminated_count=stored.result.contaminated_count,
        scorer=scorer,
    )
    if stored.spec.HasField("judge"):
        add_judged(again, items, stored.spec, stored.calibration)
    yield from _message_differences("result", stored.result, again)
    digest = hashlib.sha256(predictions_jsonl(items)).hexdigest()
    if stored.predictions and digest not in stored.predictions.values():
        yield f"the stored items are not those of `{max(stored.predictions)}`, which holds the outputs"


def _item_differences(each: StoredItem, stored: StoredEvaluation, scorer: Scorer) -> Iterator[str]:
    name = f"item `{each.trace_id}`" + (f", sample {each.sample}" if each.sample else "")
    for column in _COLUMNS:
        if (kept := getattr(each, column)) != (own := getattr(each.item, column)):
            field = each.item.DESCRIPTOR.fields_by_name[column]
            yield f"{name}: {column} is {_text(field, kept)} in the table, {_text(field, own)} in the item"
    if each.position >= len(stored.traces):
        yield f"{name}: there is no position {each.position} in the split"
        return
    again = rescored(each.item, stored.traces[each.position], stored.spec, scorer)
    yield from _message_differences(name, each.item, again)


def rescored(item: ItemScore, trace: Trace, spec: EvaluationSpec, scorer: Scorer) -> ItemScore:
    """The item as it is scored now, from what was generated or measured."""
    made = item_of(trace, item.position, item.sample)
    for name in _MEASURED:
        _take_over(made, item, name)
    failed = ItemScore(outcome=ItemScore.FAILED)
    failed.MergeFrom(made)
    try:
        return made if _score(made, item, trace, spec, scorer) else failed
    except ValueError:  # an answer type, choices or a text that the scorer refuses
        return failed


def _score(made: ItemScore, item: ItemScore, trace: Trace, spec: EvaluationSpec, scorer: Scorer) -> bool:
    """Scores in place; false where nothing was generated or measured. Raises ValueError."""
    if spec.method in ("", GENERATION):
        made.output, made.finish_reason = item.output, item.finish_reason
        if item.finish_reason:
            score_output_of(made, trace, spec, scorer)
        if spec.HasField("judge"):
            made.timed_out = item.timed_out  # of the judge too, whose time is not measured again
        return bool(item.finish_reason)
    if spec.method == MULTIPLE_CHOICE:
        for text, choice in zip(item_choices(trace).texts, item.choices, strict=True):
            made.choices.add(text=text, log_likelihood=choice.log_likelihood, token_count=choice.token_count)
        score_choices_of(made, trace, spec)
        return True
    if item.HasField("log_likelihood"):
        made.log_likelihood = item.log_likelihood
        score_reference_of(made)
    return item.HasField("log_likelihood")


def _take_over(made: ItemScore, item: ItemScore, name: str) -> None:
    field = item.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not item.HasField(name):  # type: ignore[arg-type]
        return
    if field.message_type:
        getattr(made, name).CopyFrom(getattr(item, name))
    else:
        setattr(made, name, getattr(item, name))


def _message_differences(path: str, stored: Message, again: Message) -> Iterator[str]:
    """The fields of two messages of one type that differ, in the order of their numbers."""
    for field in stored.DESCRIPTOR.fields:
        old, new = getattr(stored, field.name), getattr(again, field.name)
        where = f"{path}: {field.name}" if path.startswith("item ") else f"{path}.{field.name}"
        if field.is_repeated:
            if len(old) != len(new):
                yield f"{where} has {len(old)} entries, made again {len(new)}"
            for index, (one, other) in enumerate(zip(old, new, strict=False)):
                yield from _message_differences(f"{where}[{index}]", one, other)
        elif field.message_type:
            if stored.HasField(field.name) != again.HasField(field.name):
                yield f"{where} is {_there(stored, field.name)}, made again {_there(again, field.name)}"
            yield from _message_differences(where, old, new)
        elif not _same(old, new):
            yield f"{where} is {_text(field, old)}, made again {_text(field, new)}"


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, float):
        return math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-12) or (old != old and new != new)
    return bool(old == new)


def _there(message: Message, name: str) -> str:
    return "there" if message.HasField(name) else "missing"


def _text(field: Any, value: Any) -> str:
    if field.enum_type:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    return f"`{value[:_SHOWN]}`" if isinstance(value, str) else f"{value}"
