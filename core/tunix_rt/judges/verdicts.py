"""What a judge has said: from log-probabilities, or from a text that is read strictly."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

from tunix_rt.judges.requests import Case

MAX_COMMENT = 2000
_LAST_LINE = re.compile(r"Verdict:\s*(\w+)\.?", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """A judge's probability that the output is right, or the first of a pair; None without a verdict.

    `comment` is what the judge wrote, or why there is no verdict. It is empty only beside a probability.
    """

    probability: float | None
    comment: str = ""
    timed_out: bool = False

    @property
    def accepts(self) -> bool | None:
        """Whether the output is accepted; None where the judge leans to neither side."""
        if self.probability is None or self.probability == 0.5:
            return None
        return self.probability > 0.5


def undecided(why: str, *, timed_out: bool = False) -> Verdict:
    """No verdict, and why."""
    return Verdict(None, shortened(why) or "no verdict", timed_out)


def verdict_of_log_likelihoods(first: float, second: float) -> Verdict:
    """P(first) / (P(first) + P(second)) of the two options after the request."""
    if not (math.isfinite(first) and math.isfinite(second)):
        return undecided("the log-likelihoods of the verdicts are not finite")
    difference = second - first
    if difference > 700:  # exp would overflow, and the probability is 0 in any case
        return Verdict(0.0)
    probability = 1 / (1 + math.exp(difference))
    if probability == 0.5:
        return Verdict(probability, "both verdicts are equally likely")
    return Verdict(probability)


def read_verdict(text: str, case: Case, *, cut: bool = False) -> Verdict:
    """The verdict in what a judge wrote: a JSON object with `verdict`, or a last line `Verdict: …`.

    The words are `correct` and `incorrect`, or `A` and `B` for a pair, in any case of letters. Anything
    else is undecided, never a guess, and so is a text that was `cut` at the token limit.
    """
    words = {"correct": 1.0, "incorrect": 0.0} if case.second is None else {"a": 1.0, "b": 0.0}
    if cut:
        return undecided(f"(cut at the token limit) {text}")
    word, comment = _json_verdict(text)
    if word is None:
        lines = [line.strip() for line in text.strip().splitlines()]
        match = _LAST_LINE.fullmatch(lines[-1].replace("*", "").strip("` ")) if lines else None
        word, comment = (match.group(1) if match else None), text
    probability = words.get(word.casefold()) if word is not None else None
    if probability is None:
        return undecided(f"(no readable verdict) {text}")
    return Verdict(probability, shortened(comment))


def shortened(text: str) -> str:
    """At most MAX_COMMENT characters of the text."""
    plain = text.strip()
    return plain if len(plain) <= MAX_COMMENT else plain[: MAX_COMMENT - 2] + " …"


def _json_verdict(text: str) -> tuple[str | None, str]:
    """The verdict's word and the comment of a JSON object; None where the text is no such object."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None, ""
    if not isinstance(record, dict) or not isinstance(record.get("verdict"), str):
        return None, ""
    comment = record.get("comment")
    return record["verdict"].strip(), comment if isinstance(comment, str) and comment.strip() else text
