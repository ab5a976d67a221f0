"""A run as it would be trained, from its rendered rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.trainer.batches import Example
from tunix_rt.trainer.length_buckets import bucket_lengths, bucket_of
from tunix_rt.trainer.memory import estimate_memory
from tunix_rt.trainer.plan import Plan
from tunix_rt.trainer.rows.row_file import read_rows
from tunix_rt.trainer.run_batches import batches_of
from tunix_rt.trainer.specfile import TrainSpec
from tunix_rt.v1.run_pb2 import RunSpec
from tunix_rt.v1.trainer_service_pb2 import (
    LengthCount,
    MemoryEstimate,
    PreviewRow,
    PreviewToken,
    RowProblem,
    RunPreview,
)

DEFAULT_ROWS, MAX_ROWS = 3, 100


def preview(
    spec: RunSpec, train: TrainSpec, path: Path, *, tokenizer: Tokenizer, config: ModelConfig, count: int
) -> RunPreview:
    """The preview of a complete spec with the rows of a file; `count` of them are shown.

    Raises TrainingFailure for a spec that does not fit its rows. Where all rows are refused, the numbers
    of an epoch are 0.
    """
    rows = read_rows(path)
    made = RunPreview(spec=spec, rows_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    made.problems.extend(
        RowProblem(
            reason=each.reason,
            message=each.message,
            count=each.count,
            examples=each.examples,
            refused=each.refused,
        )
        for each in rows.problems
    )
    if not rows.train:
        return made
    batches = batches_of(train, rows)
    order = [rows.train[index] for index in batches.first_epoch()]
    made.rows.extend(
        preview_row(example, tokenizer, rows.sources[example.part][0]) for example in order[:count]
    )
    made.trace_count = len(order)
    made.row_count = batches.rows
    made.token_count = sum(len(example.tokens) for example in order)
    made.weighted_token_count = sum(int((example.weights[1:] > 0).sum()) for example in order)
    made.padding_share = batches.padding_share
    made.steps_per_epoch = batches.steps(1)
    made.step_count = Plan.of(train, batches).steps
    buckets = bucket_lengths(spec.max_length)
    lengths = Counter(bucket_of(len(example.tokens), buckets) for example in order)
    made.lengths.extend(LengthCount(up_to_tokens=each, count=lengths[each]) for each in buckets)
    longest = batches.row_lengths[-1]
    memory = estimate_memory(config, train, rows=train.micro_batch_size, length=longest)
    made.memory.CopyFrom(
        MemoryEstimate(
            weights_bytes=memory.weights,
            gradients_bytes=memory.gradients,
            optimizer_bytes=memory.optimizer,
            activations_bytes=memory.activations,
            total_bytes=memory.total,
        )
    )
    return made


def preview_row(example: Example, tokenizer: Tokenizer, dataset: str) -> PreviewRow:
    """A rendered trace with the text and weight of each token."""
    tokens = [
        PreviewToken(id=int(token), text=tokenizer.spell(int(token)), weight=float(weight))
        for token, weight in zip(example.tokens, example.weights, strict=True)
    ]
    return PreviewRow(trace=example.trace, dataset=dataset, tokens=tokens, cut_tokens=example.cut)
