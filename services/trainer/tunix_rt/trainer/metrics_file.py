"""The metrics of an attempt, one flushed line a step."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from tunix_rt.jobs.directory import metric_line


def open_metrics(path: Path, *, step: int) -> TextIO:
    """The file to append to; lines of an earlier process after `step`, or cut off, are removed."""
    if path.is_file():
        kept = [line for line in path.read_text(encoding="utf-8").splitlines(True) if _until(line, step)]
        path.write_text("".join(kept), encoding="utf-8")
    return path.open("a", encoding="utf-8")


def write_metrics(file: TextIO, step: int, values: Mapping[str, float]) -> None:
    """Append the values of a step with the present time."""
    file.write(metric_line(step, time.time(), values))
    file.flush()


def sync_metrics(file: TextIO) -> None:
    """Wait until the lines written so far are on disk; a pipe has no disk."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        os.fsync(file.fileno())


def _until(line: str, step: int) -> bool:
    return line.endswith("\n") and int(json.loads(line)["step"]) <= step
