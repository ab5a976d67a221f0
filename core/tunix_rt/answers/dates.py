"""Dates as people write them."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_MONTH = "|".join(f"{name}|{name[:3]}" for name in _MONTHS) + "|sept"
_WEEKDAY = rf"(?:(?P<weekday>{'|'.join(_DAYS)})\s*,?\s+(?:the\s+)?)?"
_FORMS = (
    r"(?P<year>\d{4})(?P<between>[-/.])(?P<month>\d{1,2})(?P=between)(?P<day>\d{1,2})",
    rf"{_WEEKDAY}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:\s+day)?(?:\s+of)?[\s-]+(?P<name>{_MONTH})\b\.?"
    r"(?:,?[\s-]+(?P<year>\d{4}))?",
    rf"{_WEEKDAY}\b(?P<name>{_MONTH})\b\.?\s+(?:the\s+)?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?!\d)"
    r"(?:,?\s+(?P<year>\d{4}))?",
    rf"\b(?P<name>{_MONTH})\b\.?,?\s+(?P<year>\d{{4}})",
    r"(?P<day>\d{1,2})\.\s?(?P<month>\d{1,2})\.\s?(?P<year>\d{4})",
    r"(?P<first>\d{1,2})(?P<between>[-/])(?P<second>\d{1,2})(?P=between)(?P<year>\d{4})",
)
_PATTERNS = tuple(re.compile(rf"(?<![\w.,/-]){form}(?![\w/-]|[.,]\d)", re.IGNORECASE) for form in _FORMS)
_TEXT_LIMIT = 200
LAST_DATE_LIMIT = 2000


@dataclass(frozen=True)
class Date:
    """A day; year or day is 0 where the text gives none.

    `order` is "" or, where day and month could change places (`03/04/2024`), "ambiguous": then month
    and day are the numbers in the order in which they stand.
    """

    year: int
    month: int
    day: int
    order: str = ""


def parse_date(text: str) -> Date | None:
    """Reads the one date that a short text states, or None when it states none, several or no real one.

    ISO (`2024-03-04`), `4 March 2024`, `March 4, 2024`, `4.3.2024` (day first, as dots are used),
    `3/14/2024`; without a year `4 March`, without a day `March 2024`. A weekday must be the right one.
    """
    if len(text) > _TEXT_LIMIT:
        return None
    for pattern in _PATTERNS:
        match = pattern.search(text)
        if match is None:
            continue
        rest = text[: match.start()] + " " + text[match.end() :]
        if re.search(r"\d|\b(?:not|or|never)\b", rest, re.IGNORECASE):
            return None
        return _date(match)
    return None


def last_date(text: str) -> str | None:
    """The last date of a text as it is written there, or None. Only the end of the text is read."""
    shown = text[-LAST_DATE_LIMIT:]
    matches = [match for pattern in _PATTERNS for match in pattern.finditer(shown)]
    return max(matches, key=lambda match: (match.end(), len(match.group()))).group() if matches else None


def is_date(text: str) -> bool:
    """Whether a text is nothing but a date."""
    return any(pattern.fullmatch(text) and parse_date(text) for pattern in _PATTERNS)


def _date(match: re.Match[str]) -> Date | None:
    groups = match.groupdict()
    year = int(groups["year"] or 0)
    if groups.get("first"):
        return _either_order(year, int(groups["first"]), int(groups["second"]))
    name = (groups.get("name") or "").casefold()
    month = _month_number(name) if name else int(groups["month"])
    date = _real(year, month, int(groups.get("day") or 0))
    weekday = groups.get("weekday")
    if date is None or not weekday or not year:
        return date
    right = calendar.weekday(year, month, date.day) == _DAYS.index(weekday.casefold())
    return date if right else None


def _month_number(name: str) -> int:
    return next(number for number, month in enumerate(_MONTHS, start=1) if month.startswith(name[:3]))


def _either_order(year: int, first: int, second: int) -> Date | None:
    readings = {_real(year, first, second), _real(year, second, first)} - {None}
    if len(readings) == 2:
        return Date(year=year, month=first, day=second, order="ambiguous")
    return readings.pop() if readings else None


def _real(year: int, month: int, day: int) -> Date | None:
    """The date if the calendar has it; without a day any month, without a year also 29 February."""
    if not 1 <= month <= 12 or (year == 0 and day == 0):
        return None
    days = calendar.monthrange(year or 2000, month)[1]
    return Date(year=year, month=month, day=day) if 0 <= day <= days else None
