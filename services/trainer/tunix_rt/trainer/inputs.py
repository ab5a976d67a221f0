"""What a job starts from: its spec, its rendered rows and the plan that follows from them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from tunix_rt.jobs.directory import JobDirectory, read_json
from tunix_rt.lm.weights import weights_digest
from tunix_rt.trainer.batches import TrainingBatches, check_lengths
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.plan import Plan
from tunix_rt.trainer.rows.rendering import Rows
from tunix_rt.trainer.rows.row_file import read_rows
from tunix_rt.trainer.run_batches import batches_of
from tunix_rt.trainer.specfile import TrainSpec, parse_spec


@dataclass(frozen=True)
class Inputs:
    """Everything read from a job directory but the weights.

    `identity` hashes spec, rows and base model: a checkpoint with another one is of another run. How the run
    lies on devices is no part of it.
    """

    spec: TrainSpec
    rows: Rows
    rows_digest: str
    batches: TrainingBatches
    plan: Plan
    base_digest: str
    identity: str

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """The lengths that rows of training and validation have; validation has the longest one."""
        longest = max((len(example.tokens) for example in self.rows.validation), default=0)
        return self.batches.lengths_for(longest)


def read_inputs(directory: JobDirectory) -> Inputs:
    """Read and check spec and rows.

    Raises TrainingFailure for what is wrong with them, ModelError for a broken base.
    """
    spec = _read_spec(directory)
    rows = read_rows(directory.rows)
    check_lengths(rows.validation, spec.max_length)
    batches = batches_of(spec, rows)
    base_digest = weights_digest(directory.base)
    with directory.rows.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    trained = {name: value for name, value in asdict(spec).items() if name != "sharding"}
    identity = hashlib.sha256(json.dumps([trained, digest, base_digest]).encode()).hexdigest()
    return Inputs(spec, rows, digest, batches, Plan.of(spec, batches), base_digest, identity)


def _read_spec(directory: JobDirectory) -> TrainSpec:
    try:
        return parse_spec(read_json(directory.spec))
    except (OSError, ValueError) as error:
        raise TrainingFailure("INVALID_FIELDS", f"spec.json cannot be read: {error}.") from error
