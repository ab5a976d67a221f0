"""Renders the rows of a job directory by hand: `python -m tunix_rt.trainer.rows.by_hand DIRECTORY`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tunix_rt.jobs.directory import JobDirectory, read_json
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.traces.jsonl import read_canonical
from tunix_rt.traces.trace import Trace, TraceError
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.rows.problems import refusal
from tunix_rt.trainer.rows.recipe import Recipe, Source
from tunix_rt.trainer.rows.rendering import render_rows
from tunix_rt.trainer.rows.row_file import rows_bytes
from tunix_rt.trainer.specfile import TrainSpec, parse_spec


def render_directory(directory: JobDirectory) -> None:
    """Writes `rows.safetensors` from `spec.json`, `traces.jsonl` and the tokenizer in `base`.

    The traces of a mixture's parts are read from `traces.1.jsonl` and so on. Raises TrainingFailure for
    rows that cannot be trained on, ModelError for a broken tokenizer.
    """
    spec = parse_spec(read_json(directory.spec))
    own = read_traces(directory.traces)
    parts = [
        read_traces(directory.root / f"traces.{number + 1}.jsonl") for number in range(len(spec.mixture))
    ]
    recipe = by_hand_recipe(spec)
    train = [[trace for trace, split in own if split == spec.train_split]]
    train += [
        [trace for trace, split in part if split == named.split]
        for part, named in zip(parts, spec.mixture, strict=True)
    ]
    wanted = spec.validation_split if recipe.validation else None
    validation = [trace for trace, split in own if split == wanted]
    if not train[0] or (wanted and not validation):
        empty = spec.train_split if not train[0] else spec.validation_split
        present = ", ".join(sorted({split for _, split in own})) or "none"
        message = f"The dataset has no traces in split {empty!r}; its splits are {present}."
        raise TrainingFailure("SPLIT_EMPTY", message)
    rows = render_rows(recipe, Tokenizer.load(directory.base), train, validation)
    if message := refusal(rows.problems):
        raise TrainingFailure("ROWS_INVALID", message)
    directory.rows.write_bytes(rows_bytes(rows))


def by_hand_recipe(spec: TrainSpec) -> Recipe:
    """The recipe of a spec whose datasets have no digests."""
    parts = [Source(part.dataset, "", part.split) for part in spec.mixture]
    return Recipe(
        train=(Source("traces", "", spec.train_split), *parts),
        validation=Source("traces", "", spec.validation_split) if spec.validate_every != 0 else None,
        tokenizer="",
        format=spec.format,
        system_prompt=spec.system_prompt,
        max_length=spec.max_length,
        overlong=spec.overlong,
    )


def read_traces(path: Path) -> list[tuple[Trace, str]]:
    """The traces of a dataset's file with their splits. Raises TrainingFailure, reason TRACES_INVALID."""
    try:
        with path.open("rb") as lines:
            return read_canonical(lines)
    except TraceError as error:
        raise TrainingFailure("TRACES_INVALID", str(error)) from error


def main(arguments: Sequence[str]) -> int:
    """Renders a directory, and says what it made or why not."""
    directory = JobDirectory(Path(arguments[0]))
    try:
        render_directory(directory)
    except (TrainingFailure, ModelError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    digest = hashlib.sha256(directory.rows.read_bytes()).hexdigest()
    print(f"{directory.rows} {digest}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
