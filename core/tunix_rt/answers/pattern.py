"""Whether a regular expression may be used to find answers."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

MAX_LENGTH = 200
MAX_REPEATS = 6
MAX_OPTIONS = 10

_TOKEN = re.compile(
    r"(?P<escape>\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|.))|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<open>\((?:\?(?:P<\w+>|P=\w+|P>|[a-zA-Z-]*:|[a-zA-Z]+(?=\))|<?[=!]|>|\(\w+\)|#[^)]*)?)?)"
    r"|(?P<close>\))|(?P<repeat>[*+?]|\{\d*,?\d*\})(?P<mode>[?+]?)|(?P<either>\|)|(?P<other>.)",
    re.DOTALL,
)


@lru_cache(maxsize=256)
def check_pattern(pattern: str) -> str | None:
    """What is wrong with a pattern for answers, as the rest of a sentence, or None.

    Python's syntax. Refused is what does not compile, what matches the empty text, and what may take
    exponential time or a high power of the text's length: references to groups, repeats of something that
    itself repeats or has alternatives, more than MAX_REPEATS repeats (`?` and `{3}` aside), more than
    MAX_OPTIONS of `?` and `|`, and more than one repeat of nearly any character (`.`, `[^…]`, `\\S`,
    `\\W`, `\\D`, a group) before the end.
    """
    if len(pattern) > MAX_LENGTH:
        return f"has {len(pattern)} characters; at most {MAX_LENGTH} are allowed."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        return f"is not a regular expression: {error}."
    problem = _cost_problem(pattern)
    if problem is None and compiled.search("") is not None:
        return "matches the empty text; it must ask for at least one character."
    return problem


def _cost_problem(pattern: str) -> str | None:
    groups = [False]  # of each open group: whether it repeats something or has alternatives
    varied, atom = False, ""  # of the last atom
    repeats, wide, options = 0, 0, 0
    tokens = list(_TOKEN.finditer(pattern))
    last = max((i for i, token in enumerate(tokens) if token.lastgroup != "close"), default=0)
    for index, token in enumerate(tokens):
        kind = token.lastgroup if token.lastgroup != "mode" else "repeat"
        if kind == "open":
            if token.group().startswith(("(?P=", "(?(")):
                return "refers to a group; that may take too long."
            if re.match(r"\(\?[a-zA-Z]*x", token.group()):
                return "has the flag x; write the pattern without spaces and comments."
            groups.append(False)
        elif kind == "close":
            varied, atom = groups.pop(), ")"
            groups[-1] = groups[-1] or varied
        elif kind == "either":
            groups[-1] = True
            options += 1
        elif kind == "repeat" and atom:
            repeat = token.group("repeat")
            fixed = re.fullmatch(r"\{\d*\}", repeat) is not None
            if varied and repeat != "?":
                return "repeats a group that repeats or has alternatives; that may take too long."
            if not fixed and repeat != "?":
                repeats += 1
                wide += _is_wide(atom) and index < last
            options += repeat == "?"
            groups[-1] = groups[-1] or not fixed
            varied, atom = not fixed, ""
        else:
            varied, atom = False, token.group()
            if re.fullmatch(r"\\[1-9]", atom):
                return "refers to a group; that may take too long."
    if repeats > MAX_REPEATS:
        return f"has {repeats} repeats; at most {MAX_REPEATS} are allowed."
    if options > MAX_OPTIONS:
        return f"has {options} options (`?` and `|`); at most {MAX_OPTIONS} are allowed."
    if wide > 1:
        return "has more than one repeat over nearly any character before its end; that may take too long."
    return None


def _is_wide(atom: str) -> bool:
    return atom == "." or atom.startswith("[^") or atom in {r"\S", r"\W", r"\D", ")"}
