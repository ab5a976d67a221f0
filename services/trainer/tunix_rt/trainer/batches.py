"""Batches of packed rows: batch `b` is a pure function of the examples, the seed and `b`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.packing import epoch_rows, pack

_NAMED = 20


@dataclass(frozen=True)
class Example:
    """A rendered trace; a token's weight is its share in the loss when it is predicted."""

    trace: str
    tokens: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Arrays (rows, length): `weights[r, t]` weighs the prediction of `targets[r, t]` from position t.

    Segments count the traces of a row from 1, 0 is padding; positions restart with each segment.
    """

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    traces: tuple[str, ...]

    @property
    def token_count(self) -> int:
        """Tokens that are no padding."""
        return int(np.count_nonzero(self.segments))

    @property
    def weighted_count(self) -> int:
        """Predictions that count in the loss."""
        return int(np.count_nonzero(self.weights))

    @property
    def visible_pairs(self) -> int:
        """Pairs of a token and a token that it sees: itself and the earlier ones of its trace."""
        return int((self.positions[self.segments > 0] + 1).sum(dtype=np.int64))


def check_lengths(examples: Sequence[Example], max_length: int) -> None:
    """Raises TrainingFailure that names the traces that do not fit in a row; nothing is ever cut."""
    long = [example for example in examples if len(example.tokens) > max_length]
    if not long:
        return
    named = ", ".join(f"{example.trace} ({len(example.tokens)} tokens)" for example in long[:_NAMED])
    more = f" and {len(long) - _NAMED} more" if len(long) > _NAMED else ""
    longest = max(len(example.tokens) for example in long)
    raise TrainingFailure(
        "TRACES_INVALID",
        f"{len(long)} traces are longer than max_length {max_length}: {named}{more}. "
        f"Set max_length to {longest} or leave these traces out.",
    )


class TrainingBatches:
    """The endless, reproducible sequence of training batches; batch 0 belongs to step 1."""

    def __init__(self, examples: Sequence[Example], *, batch_size: int, max_length: int, seed: int) -> None:
        check_lengths(examples, max_length)
        self._examples = examples
        self._lengths = [len(example.tokens) for example in examples]
        self._batch_size, self._max_length, self._seed = batch_size, max_length, seed
        self._planned = (0, epoch_rows(self._lengths, max_length, seed=seed, epoch=0))
        self.rows = len(self._planned[1])

    @property
    def padding_share(self) -> float:
        """The share of places in an epoch's rows that hold no token."""
        return 1.0 - sum(self._lengths) / (self.rows * self._max_length)

    def steps(self, epochs: float) -> int:
        """The steps that see at least `epochs` times every row."""
        return max(1, math.ceil(epochs * self.rows / self._batch_size))

    def epochs(self, steps: int) -> float:
        """How often so many steps have seen every row."""
        return steps * self._batch_size / self.rows

    def batch(self, index: int) -> Batch:
        """The batch at an index from 0; rows go on into the next epoch without a gap."""
        first = index * self._batch_size
        rows = [self._row(place) for place in range(first, first + self._batch_size)]
        return fill_batch(self._examples, rows, batch_size=self._batch_size, max_length=self._max_length)

    def _row(self, place: int) -> list[int]:
        epoch, index = divmod(place, self.rows)
        if self._planned[0] != epoch:
            rows = epoch_rows(self._lengths, self._max_length, seed=self._seed, epoch=epoch)
            self._planned = (epoch, rows)
        return self._planned[1][index]


def validation_batches(examples: Sequence[Example], *, batch_size: int, max_length: int) -> Iterator[Batch]:
    """Every example once, in a fixed order; the last batch is filled up with empty rows."""
    check_lengths(examples, max_length)
    rows = pack([len(example.tokens) for example in examples], max_length, range(len(examples)))
    for first in range(0, len(rows), batch_size):
        chosen = rows[first : first + batch_size]
        yield fill_batch(examples, chosen, batch_size=batch_size, max_length=max_length)


def fill_batch(
    examples: Sequence[Example], rows: Sequence[Sequence[int]], *, batch_size: int, max_length: int
) -> Batch:
    """Lay the rows' examples side by side into arrays of one fixed shape."""
    shape = (batch_size, max_length)
    tokens, positions, segments, targets = (np.zeros(shape, np.int32) for _ in range(4))
    weights = np.zeros(shape, np.float32)
    for row, indices in enumerate(rows):
        start = 0
        for segment, index in enumerate(indices, start=1):
            example = examples[index]
            length = len(example.tokens)
            stop = start + length
            tokens[row, start:stop] = example.tokens
            positions[row, start:stop] = np.arange(length)
            segments[row, start:stop] = segment
            targets[row, start : stop - 1] = example.tokens[1:]
            weights[row, start : stop - 1] = example.weights[1:]
            start = stop
    named = tuple(dict.fromkeys(examples[index].trace for indices in rows for index in indices))
    return Batch(tokens, positions, segments, targets, weights, traces=named)
