"""Every reason in the code stands in docs/errors.md, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

from tunix_rt.rpc.errors import Reason

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_the_page_lists_exactly_the_reasons_of_the_code() -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(reason.value for reason in Reason)


def test_every_reason_is_raised_somewhere() -> None:
    root = PAGE.parents[1]
    sources = [p for folder in ("core", "services") for p in (root / folder).rglob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    elsewhere = "\n".join(path.read_text() for path in sources if path.name != "errors.py")
    unused = [
        reason.name
        for reason in Reason
        if f"Reason.{reason.name}" not in text and f'"{reason.name}"' not in elsewhere
    ]
    assert unused == []
