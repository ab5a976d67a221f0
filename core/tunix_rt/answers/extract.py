"""Finding the answer that a text gives."""

from __future__ import annotations

import re
from dataclasses import dataclass

WHOLE_TEXT_WORDS = 6  # a single line of at most so many words is an answer by itself

_REASONING_TAG = re.compile(r"<(/?)(?:reasoning|think|thinking)>", re.IGNORECASE)
_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.IGNORECASE | re.DOTALL)
_OPEN_TAG = re.compile(r"<answer>((?:(?!</?answer>).)*)\Z", re.IGNORECASE | re.DOTALL)
_BOXED_PART = re.compile(r"\\(?:boxed|fbox)\s*\{|[{}]")
_ONLY_BOXED = re.compile(r"\W{0,3}\\(?:boxed|fbox)\s*\{.*\}\W{0,3}", re.DOTALL)

_NEXT_LINE = r"(?:(?=\n\s*(?P<next>[^\n]+))|)"
_LINE = re.compile(
    rf"(?<![^\W_])answer[*_`\s]{{0,4}}[:\uFF1A=][*_`]{{0,3}}[ \t]*(?P<inline>[^\n]*){_NEXT_LINE}",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"^#+[ \t]*(?:final[ \t]+)?answer[ \t]*\n\s*(?P<next>[^\n]+)", re.IGNORECASE | re.MULTILINE
)
_HASHES = re.compile(r"^####[ \t]*(?P<inline>\S[^\n]*)$", re.MULTILINE)
_PHRASE = re.compile(
    r"\banswer[ \t]+(?:\w+[ \t]+){0,4}?(?:is|equals|would be)\b[*_`\s]{0,4}:?[*_`\s]{0,4}(?P<inline>[^\n]+)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?:(?<=[\d%)\]}])|(?<=[a-z]{4}))[.!?](?=\s+[A-Z])")
_NUMBER = re.compile(
    r"(?:(?<![\w)\]%])[-\u2212\u2013+])?[$€£]?(?<![A-Za-z_\d.])"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?:/\d+)?(?: ?%)?"
)
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ('"', '"'), ("'", "'"), ("“", "”"))


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
        """Whether the text marks its answer as such and, for a tag, has closed it."""
        return self.rule in {"tag", "answer_line", "boxed", "hashes", "answer_phrase"}


def extract_answer(text: str) -> Extraction:
    """Finds the answer by the first rule that applies, in this order.

    `<answer>` tags, an `Answer:` line, `\\boxed{}`, a `####` line, "the answer is …", a short text
    that is nothing but the answer, the last number. Of several matches of one rule the last counts.
    Finished reasoning is removed first; beside unfinished reasoning only a marked answer counts.
    """
    visible, unfinished = without_reasoning(text)
    marked = _marked_answer(visible)
    if marked is not None:
        return marked
    if unfinished:
        return Extraction(answer=None, rule="unfinished_reasoning")
    return _unmarked_answer(visible)


def without_reasoning(text: str) -> tuple[str, bool]:
    """The text outside `<reasoning>` and `<think>`, and whether such a tag was left open.

    A closing tag without an opening one ends reasoning that the prompt began.
    """
    parts: list[str] = []
    position, inside = 0, False
    for tag in _REASONING_TAG.finditer(text):
        closing = bool(tag.group(1))
        if not closing and not inside:
            parts.append(text[position : tag.start()])
        elif closing and not inside:
            parts.clear()
        inside = not closing
        position = tag.end()
    if not inside:
        parts.append(text[position:])
    return "\n".join(parts), inside


def last_number(text: str) -> str | None:
    """The last number of a text as it is written there, with its sign, percent sign or denominator.

    A minus that follows a digit, a letter or a bracket is an operator: "12-5" ends with 5, not -5.
    Digits inside a word (`x2`) are no number.
    """
    numbers = [match.group() for match in _NUMBER.finditer(text)]
    return numbers[-1] if numbers else None


def clean_answer(text: str) -> str:
    """The answer without markdown, quotes, LaTeX delimiters, `\\boxed{}` and the closing full stop."""
    answer = text.strip()
    for _ in range(8):  # wrappers may be nested; eight layers are more than any text has
        before = answer
        if _ONLY_BOXED.fullmatch(answer):
            answer = _last_boxed_inside(answer) or answer
        answer = answer.lstrip(">#*_`~ \t\r\n").rstrip("*_`~ \t\r\n")
        for opening, closing in _DELIMITERS:
            inside = answer[len(opening) : len(answer) - len(closing)]
            if inside and answer == opening + inside + closing and opening not in inside:
                answer = inside.strip()
        answer = re.sub(r"(?<=[^.\s])[.!;,]$", "", answer).strip()
        if answer == before:
            break
    return answer


def _marked_answer(text: str) -> Extraction | None:
    rules = (
        ("tag", _last_tag),
        ("open_tag", _open_tag),
        ("answer_line", _answer_line),
        ("boxed", _last_boxed),
        ("hashes", lambda body: _last_line(body, _HASHES)),
        ("answer_phrase", lambda body: _last_line(body, _PHRASE)),
    )
    for rule, find in rules:
        answer = find(text)
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
    return Extraction(answer=number, rule="none" if number is None else "last_number")


def _last_tag(text: str) -> str | None:
    bodies = (clean_answer(match.group(1)) for match in reversed(list(_TAG.finditer(text))))
    return next((body for body in bodies if body), None)


def _open_tag(text: str) -> str | None:
    match = _OPEN_TAG.search(text)
    body = match.group(1).strip() if match else ""
    return clean_answer(body.splitlines()[0]) if body else None


def _answer_line(text: str) -> str | None:
    return _last_line(text, _LINE) or _last_line(text, _HEADING)


def _last_line(text: str, pattern: re.Pattern[str]) -> str | None:
    for match in reversed(list(pattern.finditer(text))):
        groups = match.groupdict()
        inline = clean_answer(_first_sentence(groups.get("inline") or ""))
        if inline:
            return inline
        following = re.sub(r"^[-•]\s+", "", (groups.get("next") or "").strip())
        if clean_answer(following):
            return clean_answer(following)
    return None


def _first_sentence(line: str) -> str:
    end = _SENTENCE_END.search(line)
    return line if end is None else line[: end.start()]


def _last_boxed(text: str) -> str | None:
    inside = _last_boxed_inside(text)
    return clean_answer(inside) if inside else None


def _last_boxed_inside(text: str) -> str | None:
    """The inside of the last `\\boxed{…}` whose braces balance; of nested ones the innermost."""
    open_braces: list[tuple[int, bool]] = []
    last: tuple[int, int] | None = None
    for part in _BOXED_PART.finditer(text):
        if part.group() != "}":
            open_braces.append((part.end(), part.group() != "{"))
        elif open_braces:
            start, boxed = open_braces.pop()
            if boxed and (last is None or start > last[0]):
                last = (start, part.start())
    return None if last is None else text[last[0] : last[1]].strip()
