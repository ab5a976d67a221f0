"""The directory through which a supervisor and its child talk; standard library only.

The supervisor writes `spec.json`, `rows.safetensors`, `base/` and `checkpoints/`
before it starts the child. The child appends to `metrics.jsonl`, and leaves
`facts.json`, more checkpoints, `samples/` and `profile/` where they are asked
for, `model/` and, last, `outcome.json`.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHECKPOINT = re.compile(r"\d{8}")


@dataclass(frozen=True)
class JobDirectory:
    """The files of one attempt of a job."""

    root: Path

    @property
    def spec(self) -> Path:
        """What is to be done, as JSON with the field names of the proto."""
        return self.root / "spec.json"

    @property
    def traces(self) -> Path:
        """A dataset's canonical JSONL, one trace a line, each with its split; for rendering by hand."""
        return self.root / "traces.jsonl"

    @property
    def rows(self) -> Path:
        """The rendered rows that a run trains on, as safetensors."""
        return self.root / "rows.safetensors"

    @property
    def base(self) -> Path:
        """The weights to start from, in Hugging Face layout; may be a symbolic link."""
        return self.root / "base"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.root / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One line a measured step, as `metric_line` writes it."""
        return self.root / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """The child's standard output and standard error."""
        return self.root / "log.txt"

    @property
    def facts(self) -> Path:
        """What the child found out before its first step."""
        return self.root / "facts.json"

    @property
    def samples(self) -> Path:
        """A folder `{step:08}` for each step with samples, complete when it holds `samples.jsonl`."""
        return self.root / "samples"

    @property
    def profile(self) -> Path:
        """The profile of some steps; there when it is complete."""
        return self.root / "profile"

    @property
    def model(self) -> Path:
        """The final weights, in Hugging Face layout."""
        return self.root / "model"

    @property
    def outcome(self) -> Path:
        """How the child ended; written last."""
        return self.root / "outcome.json"

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint after `step` steps."""
        return self.checkpoints / f"{step:08}"

    def complete_checkpoints(self) -> list[tuple[int, Path]]:
        """The `(step, folder)` of every complete checkpoint, by step.

        A checkpoint is complete when its folder has its final name.
        """
        if not self.checkpoints.is_dir():
            return []
        found = [path for path in self.checkpoints.iterdir() if _CHECKPOINT.fullmatch(path.name)]
        return sorted((int(path.name), path) for path in found if path.is_dir())

    def remove_checkpoint(self, step: int) -> None:
        """Removes a checkpoint, which loses its name before its first file: nobody sees a part of it."""
        folder = self.checkpoint(step)
        removed = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        try:
            folder.rename(removed)
        except FileNotFoundError:
            return  # another process was faster
        shutil.rmtree(removed, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, whole or not at all. Raises ValueError for NaN and infinity."""
    write_whole(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises FileNotFoundError, ValueError."""
    return json.loads(path.read_text(encoding="utf-8"))


def metric_line(step: int, time: float, values: Mapping[str, float]) -> str:
    """The line of `metrics.jsonl` for one step, with its line end.

    `time` in seconds since 1970. Values that JSON has no number for are the
    texts `nan`, `inf` and `-inf`.
    """
    shown = {name: value if math.isfinite(value) else str(float(value)) for name, value in values.items()}
    return json.dumps({"step": step, "time": time, "values": shown}, allow_nan=False) + "\n"
