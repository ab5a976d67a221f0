"""Finding the answer that a text gives."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tunix_rt.answers.dates import last_date

FORMATS = ("", "answer-line", "tags", "boxed")
WHOLE_TEXT_WORDS = 6  # a single line of at most so many words is an answer by itself
PATTERN_TEXT_LIMIT = 10_000  # a pattern looks at so many characters at the end of a text

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
    r"\b(?:answer|(?:correct|right|best)[ \t]+(?:option|choice))[ \t]+(?:\w+[ \t]+){0,4}?"
    r"(?:is|equals|would be)\b[*_`\s]{0,4}:?[*_`\s]{0,4}(?P<inline>[^\n]+)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?:(?<=[\d%)\]}])|(?<=[a-z]{4}))[.!?](?=\s+[A-Z])")
_NUMBER = re.compile(
    r"(?:(?<![\w)\]%])[-\u2212\u2013+])?[$€£¥₹]?(?<![A-Za-z_\d.])"
    r"(?:\d{1,3}(?:\.\d{3})+,\d{1,2}(?![\d,])|\d{1,3}(?:\.\d{3}){2,}(?![\d.])"
    r"|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?:/\d+)?(?: ?%)?"
)
_NOT_A_NUMBER = frozenset({"choice", "date", "boolean", "list", "multiset", "set", "expression"})
_FIRST_LETTER = re.compile(
    r"[\s*_`>#\"']{0,9}(?:(?:option|choice)\s{1,4})?(?:[(\[](?P<bracket>[A-Ja-j])[)\]]|(?P<marked>[A-Ja-j])[).:]"
    r"|(?P<bare>[B-HJ])\b|(?P<lone>[A-Ja-j])[*_`]{0,3}[ \t]*(?:\n|\Z|(?=because|since|as\b|is\b|,|-)))",
    re.IGNORECASE,
)
_CLOSING_SIGN = re.compile(r"(?<=[^.\s])[.;,]$|(?<=[^.\s)])(?<!\b[a-z])!$")  # not of `(n-1)!` and `n!`
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ('"', '"'), ("'", "'"), ("“", "”"))


@dataclass(frozen=True)
class Extraction:
    """The answer found in a text and the rule that found it.

    `rule` is "tag", "open_tag", "answer_line", "boxed", "hashes", "answer_phrase", "whole_text",
    "first_letter", "last_date", "last_number" or "pattern"; with no answer it is
    "unfinished_reasoning" or "none".
    `at_end` says that nothing follows the answer, so that a cut text may have cut it too.
    """

    answer: str | None
    rule: str
    at_end: bool = False

    @property
    def explicit(self) -> bool:
        """Whether the text marks its answer as such and, for a tag, has closed it."""
        return self.rule in {"tag", "answer_line", "boxed", "hashes", "answer_phrase", "pattern"}


def extract_answer(text: str, answer_type: str = "", *, pattern: str = "") -> Extraction:
    """Finds the answer by the first rule that applies, in this order.

    `<answer>` tags, an `Answer:` line, `\\boxed{}`, a `####` line, "the answer is …", a short text
    that is nothing but the answer, the last number. Of several matches of one rule the last counts.
    In place of the last number stands for a choice the letter that the text begins with, for a date the
    last date, and for a truth value, a collection or an expression nothing.
    A `pattern`, one that `check_pattern` accepts, takes the place of all rules: its last match counts, and
    of it the first group that matched, or all of it.
    Finished reasoning is removed first; beside unfinished reasoning only a marked answer counts.
    """
    visible, unfinished = without_reasoning(text)
    marked = _matched_answer(visible, pattern) if pattern else _marked_answer(visible)
    if marked is not None:
        return replace(marked, at_end=False) if unfinished else marked
    if unfinished:
        return Extraction(answer=None, rule="unfinished_reasoning")
    if pattern:
        return Extraction(answer=None, rule="none")
    return _unmarked_answer(visible, answer_type)


def answer_in_format(text: str, format: str) -> str | None:  # noqa: A002
    """The answer that stands exactly where a format asks for it, or None.

    "answer-line": the last line is `Answer: …`. "tags": the text ends with `<answer>…</answer>`.
    "boxed": the last line is `\\boxed{…}`, perhaps between signs of markdown or LaTeX.
    Finished reasoning is removed first. Raises ValueError for any other format.
    """
    visible, unfinished = without_reasoning(text)
    visible = visible.rstrip()
    if format == "answer-line":
        line = visible.rpartition("\n")[2].strip()
        answer = line.removeprefix("Answer:") if line.startswith("Answer:") else ""
    elif format == "tags":
        body, closing, _ = visible.rpartition("</answer>") if visible.endswith("</answer>") else ("", "", "")
        answer = body.rpartition("<answer>")[2] if closing and "<answer>" in body else ""
    elif format == "boxed":
        line = visible.rpartition("\n")[2].strip()
        answer = line if _ONLY_BOXED.fullmatch(line) else ""
    else:
        raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS[1:])}.")
    return (clean_answer(answer) or None) if not unfinished else None


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
    if answer[:1].isalnum() and answer[-1:].isalnum():
        return answer  # nothing that is removed begins or ends so
    for _ in range(8):  # wrappers may be nested; eight layers are more than any text has
        before = answer
        if _ONLY_BOXED.fullmatch(answer):
            answer = _last_boxed_inside(answer) or answer
        answer = answer.lstrip(">#*_`~ \t\r\n").rstrip("*_`~ \t\r\n")
        for opening, closing in _DELIMITERS:
            inside = answer[len(opening) : len(answer) - len(closing)]
            if inside and answer == opening + inside + closing and opening not in inside:
                answer = inside.strip()
        answer = _CLOSING_SIGN.sub("", answer).strip()
        if answer == before:
            break
    return answer


def _matched_answer(text: str, pattern: str) -> Extraction | None:
    found: Extraction | None = None
    shown = text[-PATTERN_TEXT_LIMIT:]
    end = len(shown.rstrip(" \t"))
    for match in re.finditer(pattern, shown):
        group = next((i for i in range(1, len(match.groups()) + 1) if match.group(i)), 0)
        answer = clean_answer(match.group(group))
        if answer:
            found = Extraction(answer=answer, rule="pattern", at_end=match.end(group) >= end)
    return found


def _marked_answer(text: str) -> Extraction | None:
    tag = _last_tag(text)
    if tag:
        return Extraction(answer=tag, rule="tag")
    opened = _open_tag(text)
    if opened:
        return Extraction(answer=opened, rule="open_tag", at_end=True)
    found = _last_line(text, _LINE, "answer_line") or _last_line(text, _HEADING, "answer_line")
    if found is not None:
        return found
    boxed = last_boxed(text)
    if boxed:
        return Extraction(answer=boxed, rule="boxed")
    return _last_line(text, _HASHES, "hashes") or _last_line(text, _PHRASE, "answer_phrase")


def _unmarked_answer(text: str, answer_type: str) -> Extraction:
    stripped = text.strip()
    short = clean_answer(stripped) if _is_short_line(stripped) else ""
    if answer_type == "choice":
        letter = _first_letter(stripped)
        if letter and short.upper() != letter:
            return Extraction(answer=letter, rule="first_letter")
    if short:
        return Extraction(answer=short, rule="whole_text", at_end=True)
    if answer_type == "date" and (date := last_date(stripped)):
        return Extraction(answer=date, rule="last_date", at_end=True)
    number = None if answer_type in _NOT_A_NUMBER else last_number(stripped)
    return Extraction(answer=number, rule="none" if number is None else "last_number", at_end=True)


def _is_short_line(text: str) -> bool:
    return bool(text) and "\n" not in text and len(text.split(None, WHOLE_TEXT_WORDS)) <= WHOLE_TEXT_WORDS


def _first_letter(text: str) -> str | None:
    match = _FIRST_LETTER.match(text)
    return next(letter for letter in match.groups() if letter).upper() if match else None


def _last_tag(text: str) -> str | None:
    if "</" not in text:
        return None
    bodies = (clean_answer(match.group(1)) for match in reversed(list(_TAG.finditer(text))))
    return next((body for body in bodies if body), None)


def _open_tag(text: str) -> str | None:
    match = _OPEN_TAG.search(text)
    body = match.group(1).strip() if match else ""
    return clean_answer(body.splitlines()[0]) if body else None


def _last_line(text: str, pattern: re.Pattern[str], rule: str) -> Extraction | None:
    end = len(text.rstrip(" \t"))
    for match in reversed(list(pattern.finditer(text))):
        groups = match.groupdict()
        line = groups.get("inline") or ""
        sentence = _first_sentence(line)
        if inline := clean_answer(sentence):
            at_end = sentence == line and match.end("inline") >= end
            return Extraction(answer=inline, rule=rule, at_end=at_end)
        if following := clean_answer(re.sub(r"^[-•]\s+", "", (groups.get("next") or "").strip())):
            return Extraction(answer=following, rule=rule, at_end=match.end("next") >= end)
    return None


def _first_sentence(line: str) -> str:
    end = _SENTENCE_END.search(line)
    return line if end is None else line[: end.start()]


def last_boxed(text: str) -> str | None:
    """The cleaned inside of the last `\\boxed{…}` of a text, None if it has none."""
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
