"""A reasoning summary in sentences."""

from __future__ import annotations

from dataclasses import fields

from tunix_rt.answers.reasoning import ReasoningSummary


def summary_of(card: object) -> ReasoningSummary:
    """The summary in an object with the same attributes, such as a `ReasoningCard`."""
    return ReasoningSummary(**{field.name: getattr(card, field.name) for field in fields(ReasoningSummary)})


def reasoning_sentences(summary: ReasoningSummary) -> list[str]:
    """What the outputs do, the steps first; of outputs without steps only what applies to them."""
    sentences = _step_sentences(summary) if summary.step_count else ["No arithmetic step was found."]
    length = f"The median output has {summary.median_tokens:,.0f} tokens. Length is never quality."
    return [
        *sentences,
        f"{share_text(summary.format_rate)} of the outputs obey the format.",
        f"{share_text(summary.repetition)} of the four-word sequences are repetitions.",
        *([length] if summary.median_tokens else []),  # 0 where tokens were not counted
    ]


def share_text(share: float) -> str:
    """A share in whole percent, but neither 0 % nor 100 % unless it is just that."""
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{share * 100:.0f} %"


def _step_sentences(summary: ReasoningSummary) -> list[str]:
    count = summary.right_for_wrong_reasons
    steps = "step is" if summary.step_count == 1 else "steps are"
    return [
        f"{share_text(summary.true_step_rate)} of {summary.step_count:,} {steps} true.",
        {0: "No right answer rests on a false step.", 1: "1 right answer rests on a false step."}.get(
            count, f"{count:,} right answers rest on a false step."
        ),
        f"Of the outputs with steps, {share_text(summary.all_steps_true_rate)} have only true ones, and "
        f"{share_text(summary.answer_follows_rate)} answer with the result of the last one.",
    ]
