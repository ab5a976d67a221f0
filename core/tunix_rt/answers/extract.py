"""Finding the answer that a text gives."""

from __future__ import annotations

import re
from dataclasses import dataclass

WHOLE_TEXT_WORDS = 6  # a single line of at most so many words is an answer by itself

_REASONING = re.compile(r"<(reasoning|think|thinking)>.*?</\1>", re.IGNORECASE | re.DOTALL)
_UNFINISHED = re.compile(r"<(?:reasoning|think|thinking)>", re.IGNORECASE)
_HEADLESS = re.compile(r"\A(?:(?!<(?:reasoning|think|thinking)>).)*</(?:reasoning|think|thinking)>", re.I | re.S)
_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.IGNORECASE | re.DOTALL)
_OPEN_TAG = re.compile(r"<answer>((?:(?!</?answer>).)*)\Z", re.IGNORECASE | re.DOTALL)
_LINE = re.compile(
    r"\b(?:answer|result)[*_`\s]{0,4}[::=][*_`]{0,3}[ \t]*(?P<inline>[^\n]*)(?:\n\s*(?P<next>[^\n]+))?",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^#+\s*(?:final\s+)?answer\s*\n+\s*(?P<next>[^\n]+)", re.IGNORECASE | re.MULTILINE)
_HASHES = re.compile(r"^####[ \t]*(?P<inline>\S[^\n]*)$", re.MULTILINE)
_PHRASE = re.compile(
    r"\banswer\s+(?:\w+\s+){0,4}?(?:is|equals|would be)\b[*_`\s]{0,4}:?[*_`\s]{0,4}(?P<inline>[^\n]+)", re.IGNORECASE
)
_NUMBER = re.compile(
    r"(?<![\w.,/])(?:(?<![)\]])[-−–+])?[$€£]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:(?<=\d)\.\d+|(?<!\d)\.\d+)?(?<=\d)"
    r"(?:[eE][-+]?\d+)?(?:/\d+)?\s?%?"
)
_SENTENCE_END = re.compile(r"(?<=[^\s\d])[.!?](?=\s+[A-Z])|(?<=\d)[.!?](?=\s+[A-Z])")


@dataclass(frozen=True)
class Extraction:
    """The answer found in a text and the rule that found it.

    `rule` is "tag", "open_tag", "answer_line", "boxed", "hashes", "answer_phrase", "whole_text" or
    "last_number"; with no answer it is "unfinished_reasoning" or "none".
    """

    answer: str | None
    rule: str

    @property
    def explicit(self) -> bool:
        """Whether the text marked its answer as such; a cut text has no other kind of answer."""
        return self.rule in {"tag", "answer_line", "boxed", "hashes", "answer_phrase"}


def extract_answer(text: str) -> Extraction:
    """Finds the answer by the first rule that applies, in this order.

    `<answer>` tags, an `Answer:` line, `\\boxed{}`, a `####` line, "the answer is …", a short text
    that is nothing but the answer, the last number. Of several matches of one rule the last counts.
    Finished reasoning is removed first; after unfinished reasoning only a marked answer counts.
    """
    visible = _HEADLESS.sub("", _REASONING.sub("\n", text))
    cut = _UNFINISHED.search(visible)
    if cut is not None:
        visible = visible[: cut.start()]
    marked = _marked_answer(visible)
    if marked is not None:
        return marked
    if cut is not None:
        return Extraction(answer=None, rule="unfinished_reasoning")
    return _unmarked_answer(visible)


def _marked_answer(text: str) -> Extraction | None:
    for rule, answer in (
        ("tag", _last_tag(text)),
        ("open_tag", _open_tag(text)),
        ("answer_line", _last_line(text, _LINE) or _last_line(text, _HEADING)),
        ("boxed", _last_boxed(text)),
        ("hashes", _last_line(text, _HASHES)),
        ("answer_phrase", _last_line(text, _PHRASE)),
    ):
        if answer:
            return Extraction(answer=answer, rule=rule)
    return None


def _unmarked_answer(text: str) -> Extraction:
    stripped = text.strip()
    if stripped and "\n" not in stripped and len(stripped.split()) <= WHOLE_TEXT_WORDS:
        answer = clean_answer(stripped)
        if answer:
            return Extraction(answer=answer, rule="whole_text")
    number = last_number(stripped)
    if number is not None:
        return Extraction(answer=number, rule="last_number")
    return Extraction(answer=None, rule="none")


def last_number(text: str) -> str | None:
    """The last number of a text as it is written there, with its sign, percent sign or denominator.

    A minus that follows a digit, a letter or a bracket is an operator: "12-5" ends with 5, not -5.
    """
    found = None
    for match in re.finditer(r"\d", text):
        found = match
    if found is None:
        return None
    matches = [m.group().strip() for m in _NUMBER.finditer(text) if m.group().strip()]
    if matches:
        return matches[-1]
    return re.findall(r"\d+(?:\.\d+)?", text)[-1]


def clean_answer(text: str) -> str:
    """The answer without markdown, quotes, LaTeX delimiters, `\\boxed{}` and the closing full stop."""
    answer = text.strip()
    for _ in range(8):
        before = answer
        boxed = _last_boxed(answer)
        if boxed and re.fullmatch(r"\W{0,3}\\(?:boxed|fbox)\{.*\}\W{0,3}", answer, re.DOTALL):
            answer = boxed
        answer = re.sub(r"^[>#*_`~\s]+(?=\S)|[*_`~\s]+$", "", answer)
        answer = re.sub(r"^(?:\*\*|__)|(?:\*\*|__)(?=[.!]?$)", "", answer)
        for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ('"', '"'), ("'", "'")):
            if (
                len(answer) > len(opening) + len(closing)
                and answer.startswith(opening)
                and answer.endswith(closing)
                and opening not in answer[len(opening) : -len(closing)]
            ):
                answer = answer[len(opening) : -len(closing)].strip()
        if answer.startswith("“") and answer.endswith("”"):
            answer = answer[1:-1].strip()
        answer = re.sub(r"(?<=[^.\s])[.!;,]$", "", answer.strip()).strip()
        if answer == before:
            break
    return answer


def _last_tag(text: str) -> str | None:
    bodies = [clean_answer(match.group(1)) for match in _TAG.finditer(text)]
    return next((body for body in reversed(bodies) if body), None)


def _open_tag(text: str) -> str | None:
    match = _OPEN_TAG.search(text)
    if match is None or not match.group(1).strip():
        return None
    return clean_answer(match.group(1).strip().splitlines()[0])


def _last_line(text: str, pattern: re.Pattern[str]) -> str | None:
    for match in reversed(list(pattern.finditer(text))):
        groups = match.groupdict()
        inline = clean_answer(_first_sentence(groups.get("inline") or ""))
        if inline:
            return inline
        following = re.sub(r"^[-•]\s+", "", (groups.get("next") or "").strip())
        if following and clean_answer(following):
            return clean_answer(following)
    return None


def _first_sentence(line: str) -> str:
    end = _SENTENCE_END.search(line)
    return line if end is None else line[: end.start()]


def _last_boxed(text: str) -> str | None:
    """The inside of the last `\\boxed{…}`, its braces balanced; an unbalanced one is no answer."""
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))):
        depth = 1
        for position in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                inside = text[match.end() : position].strip()
                return _last_boxed(inside) or clean_answer(inside)
    return None
