"""What a job starts from: its spec, its rendered traces and the plan that follows from them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from tunix_rt.jobs.directory import JobDirectory, read_json
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import weights_digest
from tunix_rt.trainer.batches import TrainingBatches, check_lengths
from tunix_rt.trainer.examples import Splits, read_examples
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.plan import Plan
from tunix_rt.trainer.specfile import TrainSpec, parse_spec


@dataclass(frozen=True)
class Inputs:
    """Everything read from a job directory but the weights.

    `identity` hashes spec, dataset and base model: a checkpoint with another one is of another run. How
    the run lies on devices is no part of it.
    """

    spec: TrainSpec
    splits: Splits
    batches: TrainingBatches
    plan: Plan
    base_digest: str
    identity: str


def read_inputs(directory: JobDirectory) -> Inputs:
    """Read and check spec and traces.

    Raises TrainingFailure for what is wrong with them, ModelError for a broken tokenizer or base.
    """
    spec = _read_spec(directory)
    splits = read_examples(directory.traces, Tokenizer.load(directory.base), spec)
    check_lengths(splits.validation, spec.max_length)
    batches = TrainingBatches(
        splits.train, batch_size=spec.batch_size, max_length=spec.max_length, seed=spec.seed
    )
    base_digest = weights_digest(directory.base)
    with directory.traces.open("rb") as file:
        traces = hashlib.file_digest(file, "sha256").hexdigest()
    trained = {name: value for name, value in asdict(spec).items() if name != "sharding"}
    identity = hashlib.sha256(json.dumps([trained, traces, base_digest]).encode()).hexdigest()
    return Inputs(spec, splits, batches, Plan.of(spec, batches), base_digest, identity)


def _read_spec(directory: JobDirectory) -> TrainSpec:
    try:
        return parse_spec(read_json(directory.spec))
    except (OSError, ValueError) as error:
        raise TrainingFailure("INVALID_FIELDS", f"spec.json cannot be read: {error}.") from error
