"""Formats values for the page: percent, losses, rates, times and names."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.gateway.sentence import items_test, p_value_text, shown_interval, subject_label
from tunix_rt.rpc.names import MODEL_VERSION, PREDICTOR, matches
from tunix_rt.v1 import evaluation_pb2, job_pb2, model_pb2

NONE = "–"
SHOWN_TEMPLATE = 60  # characters
_STATES: dict[int, str] = {
    job_pb2.JOB_STATE_QUEUED: "queued",
    job_pb2.JOB_STATE_RUNNING: "running",
    job_pb2.JOB_STATE_SUCCEEDED: "succeeded",
    job_pb2.JOB_STATE_FAILED: "failed",
    job_pb2.JOB_STATE_CANCELLED: "cancelled",
}


def percent(share: float) -> str:
    """A share of 1 in percent with one digit."""
    return f"{share * 100:.1f} %"


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits; a dash for None."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def state_word(state: job_pb2.JobState.ValueType) -> str:
    """The state of a job in lower case; `unknown` for one that this page does not know."""
    return _STATES.get(state, "unknown")


def outcome_word(outcome: evaluation_pb2.ItemScore.Outcome.ValueType) -> str:
    """The outcome of an item in words; `unknown` for one that this page does not know."""
    known = evaluation_pb2.ItemScore.Outcome
    return known.Name(outcome).lower().replace("_", " ") if outcome in known.values() else "unknown"


def size(size_bytes: int) -> str:
    """A number of bytes for people: `1.3 MB`."""
    amount, units = float(size_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 999.5 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "bytes" or amount >= 99.5 else f"{amount:.1f} {units[0]}"


def moment(time: Timestamp) -> str:
    """A time in UTC to the minute; a dash if it is not set."""
    if not time.seconds:
        return NONE
    return datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(seconds: float) -> str:
    """A length of time, such as `2 h 5 min` or `42 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min"


def run_time(status: job_pb2.JobStatus, now: float) -> str:
    """How long a job has run, or ran; a dash before its start."""
    if not status.start_time.seconds:
        return NONE
    start = status.start_time.seconds + status.start_time.nanos / 1e9
    end = status.end_time.seconds + status.end_time.nanos / 1e9 if status.end_time.seconds else now
    return span(max(0.0, end - start))


def decoding_text(decoding: evaluation_pb2.Decoding) -> str:
    """How text was generated, in words."""
    parts = [f"temperature {decoding.temperature:g}" if decoding.temperature else "greedy"]
    parts.append(f"up to {decoding.max_tokens} tokens")
    if decoding.temperature:
        if decoding.top_k:
            parts.append(f"top-k {decoding.top_k}")
        if 0 < decoding.top_p < 1:
            parts.append(f"top-p {decoding.top_p:g}")
        if decoding.min_p:
            parts.append(f"min-p {decoding.min_p:g}")
    if decoding.repetition_penalty not in (0, 1):
        parts.append(f"repetition penalty {decoding.repetition_penalty:g}")
    if decoding.stop:
        parts.append("stops at " + ", ".join(f"{stop!r}" for stop in decoding.stop))
    if decoding.temperature:
        parts.append(f"seed {decoding.seed}")
    return ", ".join(parts)


def method_text(spec: evaluation_pb2.EvaluationSpec) -> str:
    """What is measured; empty for generation, which is the usual."""
    if spec.method in ("", "generation"):
        return ""
    divided = f", log-likelihood by {spec.normalization}" if spec.normalization not in ("", "none") else ""
    return spec.method.replace("-", " ") + divided


def spec_text(spec: evaluation_pb2.EvaluationSpec) -> str:
    """What makes evaluations comparable, in one line."""
    limit = f"first {spec.limit} items" if spec.limit else "all items"
    weights = "int8 weights" if spec.weight_type == "int8" else ""
    parts = [f"split {spec.split}", limit, method_text(spec), spec.scorer, f"format {spec.format}", weights]
    if spec.HasField("decoding"):
        parts.append(decoding_text(spec.decoding))
    if spec.samples > 1:
        parts.append(f"{spec.samples} samples an item")
    if spec.HasField("few_shot"):
        shots = spec.few_shot
        parts.append(f"{shots.count} examples from {shots.split}, seed {shots.seed}")
    if spec.HasField("judge"):
        parts.append(judge_text(spec.judge))
    if spec.answer_pattern:
        parts.append(f"answer pattern {spec.answer_pattern}")
    if spec.system_prompt:
        parts.append("with a system prompt")
    if spec.prompt_template:
        cut = spec.prompt_template[:SHOWN_TEMPLATE]
        parts.append(f"prompt {cut!r}" + (" …" if len(cut) < len(spec.prompt_template) else ""))
    return " · ".join(part for part in parts if part)


def judge_text(judge: evaluation_pb2.Judge) -> str:
    """Who judges, in a few words."""
    parts = ["judged by", judge.model, "at" if judge.model else "", subject_label(judge.subject)]
    if judge.rubric:
        parts.append("by a rubric of its own")
    return " ".join(part for part in parts if part)


def shown_output(output: str) -> str:
    """What a model wrote; says so where there is nothing to see."""
    if output.strip():
        return output
    return f"({len(output)} characters of white space)" if output else "(empty)"


def page_of(name: str) -> str:
    """The path of the page of a run, an evaluation or a model version; empty for anything else."""
    shown = name.startswith(("runs/", "evaluations/")) or matches(name, MODEL_VERSION)
    return f"/{name}" if shown else ""


def stage_word(stage: model_pb2.ModelStage.ValueType) -> str:
    """The stage of a model version in lower case; empty for none."""
    known = model_pb2.ModelStage
    if not stage:
        return ""
    return known.Name(stage).removeprefix("MODEL_STAGE_").lower() if stage in known.values() else "unknown"


def imported(subject: str) -> bool:
    """Whether the outputs of a subject were made elsewhere."""
    return matches(subject, PREDICTOR)


FILTERS: dict[str, Any] = {
    "size": size,
    "percent": percent,
    "number": number,
    "state_word": state_word,
    "outcome_word": outcome_word,
    "moment": moment,
    "label": subject_label,
    "p_value": p_value_text,
    "shown_interval": shown_interval,
    "items_test": items_test,
    "spec_text": spec_text,
    "page_of": page_of,
    "stage_word": stage_word,
    "imported": imported,
    "shown_output": shown_output,
}
