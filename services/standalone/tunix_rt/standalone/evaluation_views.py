"""Evaluations in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunix_rt.answers.reasoning_words import reasoning_sentences, summary_of
from tunix_rt.answers.steps import find_steps
from tunix_rt.jobs.evaluation_spec import is_imported
from tunix_rt.standalone.charts import interval_bar
from tunix_rt.standalone.judge_views import calibration_view, judged_rows
from tunix_rt.standalone.output import new_table
from tunix_rt.standalone.views import (
    fields_table,
    number_text,
    outcome_text,
    score_text,
    state_text,
    time_text,
)
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import job_pb2 as job_pb

_BAR = 30
_MAX_TEXT = 2000
_WITHOUT_RATES = "exact-answer@1"  # its results do not say what was cut or timed out
_VARIANTS = (
    ("strict_score", "strict", "answers in the asked-for format only"),
    ("completed_score", "completed", "outputs that stopped by themselves"),
    ("clustered_score", "clustered", "errors clustered by family"),
)
_STYLES = {
    evaluation_pb.ItemScore.CORRECT: "green",
    evaluation_pb.ItemScore.WRONG: "red",
    evaluation_pb.ItemScore.FAILED: "red",
}


def evaluation_view(evaluation: evaluation_pb.Evaluation) -> RenderableType:
    """An evaluation: its subject, and its result or its state; sections only of what was computed."""
    spec = evaluation.spec
    by = f" by {spec.task}" if spec.task else ""
    title = Text.assemble((evaluation.name, "bold"), f" {spec.subject} on {spec.dataset}{by}")
    if evaluation.status.state != job_pb.JOB_STATE_SUCCEEDED:
        return Group(title, _state_table(evaluation.status))
    result = evaluation.result
    if result.HasField("calibration"):
        return Group(title, calibration_view(result.calibration))
    parts: list[RenderableType] = [title, _figures(spec, result)]
    scores = score_table(result)
    if scores.row_count > 1:
        parts.append(scores)
    if result.HasField("reasoning"):
        sentences = reasoning_sentences(summary_of(result.reasoning))
        parts.append(Text("Reasoning", style="italic"))
        parts += [Text(f"  {sentence}") for sentence in sentences]
    if result.parts:
        parts.append(_named_table("Parts", result.parts, result.score.mean))
    if len(result.pass_at_k) > 1 or len(result.majority_at_k) > 1:
        samples = [*result.pass_at_k, *result.majority_at_k]
        parts.append(_named_table("More samples", samples, None))
    return Group(*parts)


def score_table(result: evaluation_pb.EvaluationResult) -> Table:
    """The score, its variants, and what rules without a model reach, each with its interval."""
    table = new_table("Score", "95 % interval", "0 % … 100 %", "Items", "", title="Scores")
    rows = [("score", result.score, result.score.method)]
    for field, name, note in _VARIANTS:
        if result.HasField(field):  # type: ignore[arg-type]
            rows.append((name, getattr(result, field), note))
    for named in result.normalizations:
        note = "not divided" if named.name == "none" else f"divided by the {named.name} of the choice"
        rows.append((f"by {named.name}", named.score, f"log-likelihood {note}"))
    rows += [(named.name, named.score, "without a model") for named in result.baselines]
    for name, score, note in rows:
        style = "dim" if note == "without a model" else "bold" if name == "score" else ""
        table.add_row(name, score_text(score), _bar(score), f"{score.count}", note, style=style)
    return table


def evaluation_table(evaluations: Iterable[evaluation_pb.Evaluation]) -> Table:
    """Evaluations as a table."""
    table = new_table("Evaluation", "State", "Subject", "Dataset", "Split", "Score", "Items", "Created")
    for evaluation in evaluations:
        scored = evaluation.HasField("result")
        table.add_row(
            evaluation.name,
            state_text(evaluation.status),
            evaluation.spec.subject,
            evaluation.spec.dataset,
            evaluation.spec.split,
            score_text(evaluation.result.score) if scored else "–",
            f"{evaluation.result.score.count}" if scored else "–",
            time_text(evaluation.status.create_time),
        )
    return table


def items_view(items: Sequence[evaluation_pb.ItemScore]) -> RenderableType:
    """Items with question, answers and output; false steps stand out."""
    table = new_table("Item", "Outcome", "Question", "Expected", "Found", "Output", lines=True)
    for item in items:
        outcome = evaluation_pb.ItemScore.Outcome.Name(item.outcome).lower().replace("_", " ")
        name = item.trace_id + (f"\nsample {item.sample + 1}" if item.sample else "")
        texts = (item.prompt, item.expected_answer, item.extracted_answer or "–")
        table.add_row(
            Text(name),
            Text(outcome, style=_STYLES.get(item.outcome, "yellow")),
            *(Text(text) for text in texts),
            _choices(item) if item.HasField("log_likelihood") else marked_output(item.output),
        )
    return table


def _choices(item: evaluation_pb.ItemScore) -> Text:
    """The log-likelihood of each choice, or that of the reference text."""
    if not item.choices:
        return Text(f"log-likelihood {item.log_likelihood:.2f} of {item.completion_tokens} tokens")
    lines = [f"{choice.log_likelihood:9.2f}  {choice.text}" for choice in item.choices]
    return Text("\n".join(lines))


def marked_output(output: str) -> Text:
    """The beginning of an output with its false steps in red and underlined."""
    shown = output[:_MAX_TEXT]
    cut = len(output) > len(shown)
    text = Text(shown + (" …" if cut else ""))
    for step in find_steps(shown):
        if not step.true and not (cut and step.end > len(shown) - 40):
            text.stylize("red underline", step.start, step.end)
    return text


def _state_table(status: job_pb.JobStatus) -> Table:
    rows: list[tuple[str, str | Text]] = [("state", state_text(status))]
    if status.error.message:
        rows.append(("error", status.error.message))
    if status.progress_total:
        rows.append(("items", f"{status.progress} of {status.progress_total}"))
    return fields_table(rows)


def _figures(spec: evaluation_pb.EvaluationSpec, result: evaluation_pb.EvaluationResult) -> Table:
    score = "token probability" if spec.method == "perplexity" else "score"
    rows: list[tuple[str, str | Text]] = [
        (score, f"{score_text(result.score)} of {result.score.count} items ({result.score.method})"),
        ("outcomes", outcome_text(result.outcomes)),
    ]
    if result.HasField("likelihood"):
        rows += _likelihood(result.likelihood)
    else:
        rows += _rates(spec, result)
    if result.HasField("judged"):
        rows += judged_rows(result.judged)
    rows.append(("speed", _speed(result)))
    if result.cached_count:
        rows.append(("from the cache", f"{result.cached_count} outputs"))
    if is_imported(spec):
        rows.append(("contaminated", "not checked: what the predictor was trained on is not known"))
    if result.contaminated_count:
        contaminated = f"{result.contaminated_count} items were in the training data"
        rows.append(("contaminated", Text(contaminated, style="red")))
    if result.duplicate_count:
        duplicates = f"{result.duplicate_count} items ask what another item asks"
        rows.append(("duplicates", Text(duplicates, style="red")))
    return fields_table(rows)


def _rates(
    spec: evaluation_pb.EvaluationSpec, result: evaluation_pb.EvaluationResult
) -> list[tuple[str, str | Text]]:
    """How the outputs ended; older results do not say whether they were cut or timed out."""
    rows: list[tuple[str, str | Text]] = [
        ("answer found", f"{result.extracted_rate * 100:.0f} %"),
        ("stopped by itself", f"{result.stopped_rate * 100:.0f} %"),
    ]
    if spec.scorer != _WITHOUT_RATES:
        rows.append(("cut at the limit", f"{result.truncated_rate * 100:.0f} %"))
        rows.append(("past a deadline", f"{result.timed_out_rate * 100:.0f} % of the items"))
    return rows


def _speed(result: evaluation_pb.EvaluationResult) -> str:
    """Tokens and items a second; a dash where they were not measured."""
    if not result.tokens_per_second:
        return "–"
    tokens, items = number_text(result.tokens_per_second), number_text(result.items_per_second)
    return f"{tokens} tokens/s, {items} items/s"


def _likelihood(likelihood: evaluation_pb.Likelihood) -> list[tuple[str, str | Text]]:
    low, high = number_text(likelihood.perplexity_low), number_text(likelihood.perplexity_high)
    return [
        ("perplexity", f"{number_text(likelihood.perplexity)} [{low}, {high}]"),
        ("bits a byte", number_text(likelihood.bits_per_byte)),
        ("reference text", f"{likelihood.token_count} tokens, {likelihood.byte_count} bytes"),
    ]


def _named_table(title: str, scores: Iterable[evaluation_pb.NamedScore], whole: float | None) -> Table:
    table = new_table("", "95 % interval", "0 % … 100 %", "Items", title=title)
    for named in scores:
        table.add_row(named.name, score_text(named.score), _bar(named.score, whole), f"{named.score.count}")
    return table


def _bar(score: evaluation_pb.Score, whole: float | None = None) -> Text:
    """The interval on a scale; a `┊` where the score of all items stands, if the interval leaves it free."""
    bar = interval_bar(score.low, score.mean, score.high, width=_BAR)
    if whole is not None:
        place = round(whole * (_BAR - 1))
        bar = bar[:place] + "┊" + bar[place + 1 :] if bar[place] in "·─" else bar
    return Text(bar, style="cyan")
