"""Where a text calculates: sequences of numbers, operators and equality signs amid words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunix_rt.answers.calculation import Token, tokenize

OPERANDS = frozenset({"number", "close", "percent", "square"})
RELATIONS = frozenset({"equals", "approx"})
_ARITHMETIC = OPERANDS | RELATIONS | {"operator", "power", "open", "label", "date"}

# Beside these words a number is not the whole of what is meant.
_BINDING_WORDS = """
    of times plus minus by over than less mod modulo log ln sqrt root half twice double triple point
    negative dozen hundred thousand million billion trillion percent squared cubed divided multiplied
    remainder r
"""
# After these words a sentence goes on; they are no units.
_SENTENCE_WORDS = """
    a an and as at because but for from if in is left more now on or per remaining since so still that
    the then therefore this thus to total we when where which while with
"""
_BINDING = frozenset(_BINDING_WORDS.split())
_SENTENCE = frozenset(_SENTENCE_WORDS.split())
_NUMBERED = frozenset({"step", "part", "case", "line", "question", "problem", "item"})
_BREAKING_MARKS = frozenset("√∛∜∑∏∫±∓∂~")


@dataclass(frozen=True)
class Run:
    """Arithmetic tokens without a break; a broken end belongs to something that is not arithmetic."""

    tokens: tuple[Token, ...]
    start_broken: bool
    end_broken: bool
    cut: bool


def arithmetic_runs(text: str) -> Iterator[Run]:
    """The maximal sequences of arithmetic tokens that contain an `=` or `≈`, units included."""
    tokens = list(tokenize(text))
    if "*" in text:
        tokens = _without_emphasis(tokens)
    run: list[Token] = []
    depth = 0
    start_broken = False

    def ended(*, broken: bool = False, cut: bool = False) -> Iterator[Run]:
        nonlocal run, depth
        if any(token.kind in RELATIONS for token in run):
            if run[-1].kind == "open" and run[-1].gap:
                run.pop()
            yield Run(tuple(run), start_broken, broken, cut)
        run, depth = [], 0

    for place, token in enumerate(tokens):
        following = _same_line(tokens, place + 1)
        if token.first:
            yield from ended()
        if token.kind == "word":
            role = _role(token, run, following, tokens, place)
            if role in {"operator", "unit", "percent"}:
                run.append(token._replace(kind=role, text="*" if role == "operator" else token.text))
            else:
                yield from ended(broken=role == "broken")
        elif token.kind == "close" and depth == 0:
            yield from ended()
        elif token.kind in _ARITHMETIC:
            if not run:
                start_broken = _starts_broken(tokens, place)
            elif _ends_a_heading(tokens, place, run):
                run = []
                if token.text == "-":
                    continue
            depth += (token.kind == "open") - (token.kind == "close")
            run.append(token)
        elif token.text == "?":
            run, depth = [], 0
        else:
            yield from ended(cut=token.kind == "ellipsis", broken=token.text in _BREAKING_MARKS)
    yield from ended()


def _role(word: Token, run: list[Token], following: Token | None, tokens: Sequence[Token], place: int) -> str:
    """What a word is within a run: an operator, a percent sign, a unit, the end, or a broken end."""
    name = word.text.casefold()
    last = run[-1] if run else None
    if last is None:
        return "end"
    leads_on = following is not None and following.kind in {"number", "open", "label"}
    if last.kind in OPERANDS and name == "x" and leads_on:
        return "operator"
    if name == "of" and leads_on and (last.kind == "percent" or _is_fraction(run)):
        return "operator"
    if name == "percent" and last.kind == "number":
        return "percent"
    if name in _BINDING:
        return "broken"
    if name in _SENTENCE:
        return "broken" if name == "and" and leads_on and last.kind == "unit" else "end"
    if last.kind not in OPERANDS:
        return "end"
    return "broken" if leads_on or _continues_word(tokens, place) else "unit"


def _continues_word(tokens: Sequence[Token], place: int) -> bool:
    """Whether what follows is glued to the word, as the digit of `x2` or the power of `m²` is."""
    following = _same_line(tokens, place + 1)
    return following is not None and not following.gap and following.kind in {"number", "power", "square"}


def _is_fraction(run: list[Token]) -> bool:
    kinds = [token.kind for token in run[-3:]]
    return kinds == ["number", "operator", "number"] and run[-2].text == "/"


def _starts_broken(tokens: Sequence[Token], place: int) -> bool:
    token = tokens[place]
    if place == 0 or token.first or token.kind in RELATIONS:
        return False
    before = tokens[place - 1]
    if before.kind in {"other", "ellipsis"}:
        return before.text in _BREAKING_MARKS or before.kind == "ellipsis"
    if before.kind != "word":
        return token.kind in {"operator", "power"} and not _is_sign(tokens, place)
    if not token.gap or before.text.casefold() in _BINDING or before.text.startswith("\\"):
        return True
    if _is_part_of_measure(tokens, place - 1):
        return True
    is_variable = len(before.text) == 1 and before.text not in {"a", "A", "I"}
    return token.kind in {"operator", "power"} and (is_variable or not _is_sign(tokens, place))


def _is_part_of_measure(tokens: Sequence[Token], place: int) -> bool:
    """Whether a word joins numbers of one measure, as in `2 hours 30 minutes` or `5 feet and 3 inches`."""
    name = tokens[place].text.casefold()
    if name == "and" and place > 0 and tokens[place - 1].kind == "word":
        place -= 1
    elif name in _SENTENCE:
        return False
    return place > 0 and tokens[place - 1].kind == "number" and not tokens[place].first


def _is_sign(tokens: Sequence[Token], place: int) -> bool:
    following = _same_line(tokens, place + 1)
    return tokens[place].text == "-" and following is not None and not following.gap


def _ends_a_heading(tokens: Sequence[Token], place: int, run: list[Token]) -> bool:
    """Whether a token is the dash of `Step 2 - …` or the bracket of `Step 2 (…)`."""
    return (
        (tokens[place].text == "-" or tokens[place].kind == "open")
        and tokens[place].gap
        and len(run) == 1
        and run[0].kind == "number"
        and place > 1
        and tokens[place - 2].text.casefold() in _NUMBERED
    )


def _same_line(tokens: Sequence[Token], place: int) -> Token | None:
    return tokens[place] if place < len(tokens) and not tokens[place].first else None


def _without_emphasis(tokens: list[Token]) -> list[Token]:
    """The tokens without asterisks that make text bold or italic."""
    kept: list[Token] = []
    gap = first = False
    for place, token in enumerate(tokens):
        token = token._replace(gap=token.gap or gap, first=token.first or first)
        gap = first = False
        following = _same_line(tokens, place + 1)
        if token.text in {"*", "**"} and _is_emphasis(token, kept[-1] if kept else None, following):
            gap, first = token.gap, token.first
        else:
            kept.append(token)
    return kept


def _is_emphasis(token: Token, before: Token | None, following: Token | None) -> bool:
    glued = following is not None and not following.gap
    if token.first or before is None or before.kind not in OPERANDS:
        return glued and (token.gap or before is None or before.kind != "word")
    return not token.gap and not (following is not None and following.kind in {"number", "open", "word"})
