"""Lists of answers in one text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tunix_rt.answers.extract import clean_answer
from tunix_rt.answers.numbers import plain_text

ITEM_LIMIT = 10_000

_EMPTY = frozenset({"∅", "\\emptyset", "\\varnothing"})
_BULLET = re.compile(r"\s*(?:[-•*]|\(?\d{1,3}[.)])\s+")


def split_items(text: str) -> list[str]:
    """The items of a list or set, without brackets and quotes.

    Lines, where there are several; else what `;`, `, `, `,` or "and" separates outside inner brackets.
    """
    if text.strip() in _EMPTY:
        return []
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and not text.strip().startswith(("[", "{", "(")):
        parts = [_BULLET.sub("", line, count=1) for line in lines[: ITEM_LIMIT + 1]]
    else:
        parts = _split_line(plain_text(text))
    return [item for item in (clean_answer(part) for part in parts) if item]


def covers(
    items: Sequence[str], others: Sequence[str], matches: Callable[[str, str], bool], *, once: bool
) -> bool:
    """Whether every other item is matched by some item; with `once`, each by one of its own.

    The assignment is found by augmenting paths (Kuhn 1955).
    """
    if not once:
        return all(any(matches(item, other) for item in items) for other in others)
    fits = [[i for i, item in enumerate(items) if matches(item, other)] for other in others]
    owner: dict[int, int] = {}

    def assign(other: int, tried: set[int]) -> bool:
        for item in fits[other]:
            if item not in tried:
                tried.add(item)
                if item not in owner or assign(owner[item], tried):
                    owner[item] = other
                    return True
        return False

    return all(assign(other, set()) for other in range(len(others)))


def nesting(text: str) -> int:
    """How deep the brackets of a text are nested."""
    depth, deepest = 0, 0
    for sign in re.findall(r"[\[\](){}]", text):
        depth = depth + 1 if sign in "[({" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _split_line(body: str) -> list[str]:
    if body[:1] in "[{(" and body[-1:] in "]})" and _is_one_bracket(body):
        body = body[1:-1]
    body = re.sub(r"\s+and\s+", ", ", re.sub(r",\s+and\s+", ", ", body))
    separator = ";" if ";" in body else (", " if ", " in body else ("," if "," in body else None))
    if separator is None:
        return body.split() if re.fullmatch(r"[-+.\d\s/%]+", body) else [body]
    if not re.search(r"[\[({]", body):
        return body.split(separator, ITEM_LIMIT)
    return _split_outside_brackets(body, separator)


def _is_one_bracket(body: str) -> bool:
    """Whether the first bracket is closed by the last character only."""
    depth = 0
    for position, sign in enumerate(body):
        depth += (sign in "[{(") - (sign in "]})")
        if depth <= 0:
            return position == len(body) - 1
    return True


def _split_outside_brackets(body: str, separator: str) -> list[str]:
    parts: list[str] = []
    depth, start = 0, 0
    for position, sign in enumerate(body):
        depth = max(0, depth + (sign in "[{(") - (sign in "]})"))
        if depth == 0 and len(parts) < ITEM_LIMIT and body.startswith(separator, position):
            parts.append(body[start:position])
            start = position + len(separator)
    return [*parts, body[start:]]
