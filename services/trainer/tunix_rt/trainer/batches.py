"""Batches of packed or padded rows: batch `b` is a pure function of the examples, the seed and `b`."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.length_buckets import bucket_lengths, bucket_of, epoch_batches
from tunix_rt.trainer.mixing import Mixture
from tunix_rt.trainer.packing import epoch_rows, pack

SHARED = -1  # the segment of the start that all traces of a row have in common
SHORTEST_START = 16  # tokens, under which a start is not shared
_NAMED = 20


@dataclass(frozen=True)
class Example:
    """A rendered trace; a token's weight is its share in the loss when it is predicted.

    `part` is the part of the mixture that it is of, 0 for the run's own dataset; `prompt_length` the
    tokens before the last assistant's turn; `cut` the tokens left off its start.
    """

    trace: str
    tokens: np.ndarray
    weights: np.ndarray
    part: int = 0
    prompt_length: int = 0
    cut: int = 0


@dataclass(frozen=True)
class Batch:
    """Arrays (rows, length): `weights[r, t]` weighs the prediction of `targets[r, t]` from position t.

    Segments count the traces of a row from 1, 0 is padding; positions restart with each segment. A row may
    begin with the start that its traces have in common, of segment SHARED: theirs go on from its positions.
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
        return int((self.positions[self.segments != 0] + 1).sum(dtype=np.int64))


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


def shared_start(examples: Sequence[Example]) -> int:
    """How many tokens all examples begin with, none of them or the next one weighted; 0 for a few."""
    first = examples[0].tokens if examples else np.zeros(0, np.int32)
    common = len(first)
    for example in examples:
        weighted = np.flatnonzero(example.weights[1:])
        limit = min(common, len(example.tokens), int(weighted[0]) if weighted.size else common)
        different = np.flatnonzero(example.tokens[:limit] != first[:limit])
        common = int(different[0]) if different.size else limit
        if common < SHORTEST_START:
            return 0
    return common


class TrainingBatches:
    """The endless, reproducible sequence of training batches; batch 0 belongs to step 1.

    An epoch is a list of units: packed rows, of which each batch takes the next `batch_size`, going on
    into the next epoch without a gap; or, `padded`, whole batches of one trace a row. `weights` are those
    of the mixture's parts. With `share`, packed rows hold what all examples begin with once.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        batch_size: int,
        max_length: int,
        seed: int,
        padded: bool = False,
        weights: Sequence[float] = (1.0,),
        share: bool = False,
    ) -> None:
        check_lengths(examples, max_length)
        self._examples = examples
        self.shared_tokens = shared_start(examples) if share and not padded else 0
        self._lengths = [len(example.tokens) - self.shared_tokens for example in examples]
        self._batch_size, self._seed, self._padded = batch_size, seed, padded
        self._buckets = bucket_lengths(max_length) if padded else (max_length,)
        self._mixture = Mixture([example.part for example in examples], weights, seed=seed)
        self._planned: tuple[int, list[list[int]]] = (-1, [])
        self._starts = [0]  # the number of units before each epoch that was looked at
        first = self._epoch(0)
        if not first:
            raise TrainingFailure("SPLIT_EMPTY", "The mixture's weights leave no trace in the first epoch.")
        self._count = len(first)  # of units, in every epoch of a constant mixture
        self.rows = sum(len(batch) for batch in first) if padded else len(first)

    @property
    def padding_share(self) -> float:
        """The share of places in the first epoch's rows that hold no token."""
        units = self._epoch(0)
        tokens = sum(self._lengths[index] for unit in units for index in unit)
        rows = self._batch_size if self._padded else 1
        places = sum(rows * self._length(unit) for unit in units)
        return 1.0 - (tokens + self.shared_tokens * len(units)) / places

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """The lengths that batches may have."""
        if not self._padded:
            return self._buckets
        if self._mixture.constant:
            return tuple(sorted({self._length(batch) for batch in self._epoch(0)}))
        return tuple(sorted({bucket_of(length, self._buckets) for length in self._lengths}))

    def lengths_for(self, longest: int) -> tuple[int, ...]:
        """`row_lengths`, and the one for traces of up to `longest` tokens if these would not fit."""
        return tuple(
            sorted({*self.row_lengths, bucket_of(max(longest, self.row_lengths[-1]), self._buckets)})
        )

    def first_epoch(self) -> list[int]:
        """The indices of the examples of the first epoch, in the order of training."""
        return [index for unit in self._epoch(0) for index in unit]

    def steps(self, epochs: float) -> int:
        """The steps that see at least `epochs` times every row."""
        whole = int(epochs)
        units = self._start(whole) + (epochs - whole) * len(self._epoch(whole))
        return max(1, math.ceil(units if self._padded else units / self._batch_size))

    def epochs(self, steps: int) -> float:
        """How often so many steps have seen every row."""
        return steps * self._batch_size / self.rows

    def batch(self, index: int) -> Batch:
        """The batch at an index from 0."""
        if self._padded:
            rows = [[each] for each in self._unit(index)]
            return self.laid_out(rows, self._length(self._unit(index)))
        first = index * self._batch_size
        rows = [self._unit(place) for place in range(first, first + self._batch_size)]
        return self.laid_out(rows, self._buckets[-1])

    def laid_out(self, rows: Sequence[Sequence[int]], length: int) -> Batch:
        """A batch of some rows of some length; without rows, one for its shapes."""
        return fill_batch(
            self._examples,
            rows,
            batch_size=self._batch_size,
            max_length=length,
            shared_tokens=self.shared_tokens,
        )

    def _length(self, unit: Sequence[int]) -> int:
        longest = max(self._lengths[index] for index in unit)
        return bucket_of(longest, self._buckets) if self._padded else self._buckets[-1]

    def _unit(self, place: int) -> list[int]:
        if self._mixture.constant:
            epoch, index = divmod(place, self._count)
        else:
            while self._starts[-1] <= place:
                self._start(len(self._starts))
            epoch = bisect_right(self._starts, place) - 1
            index = place - self._starts[epoch]
        return self._epoch(epoch)[index]

    def _start(self, epoch: int) -> int:
        """The number of units before an epoch."""
        if self._mixture.constant:
            return epoch * self._count
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self._epoch(len(self._starts) - 1)))
        return self._starts[epoch]

    def _epoch(self, epoch: int) -> list[list[int]]:
        if self._planned[0] != epoch:
            chosen = self._mixture.epoch(epoch)
            lengths = [self._lengths[index] for index in chosen]
            if self._padded:
                size, seed = self._batch_size, self._seed
                units = epoch_batches(lengths, self._buckets, batch_size=size, seed=seed, epoch=epoch)
            else:
                capacity = self._buckets[-1] - self.shared_tokens
                units = epoch_rows(lengths, capacity, seed=self._seed, epoch=epoch)
            self._planned = (epoch, [[chosen[place] for place in unit] for unit in units])
        return self._planned[1]


def validation_batches(
    examples: Sequence[Example], *, batch_size: int, max_length: int, share: bool = False
) -> Iterator[Batch]:
    """Every example once, in a fixed order; the last batch is filled up with empty rows.

    With `share`, a row holds what all examples begin with once.
    """
    check_lengths(examples, max_length)
    shared = shared_start(examples) if share else 0
    lengths = [len(example.tokens) - shared for example in examples]
    rows = pack(lengths, max_length - shared, range(len(examples)))
    for first in range(0, len(rows), batch_size):
        chosen = rows[first : first + batch_size]
        yield fill_batch(examples, chosen, batch_size=batch_size, max_length=max_length, shared_tokens=shared)


def fill_batch(
    examples: Sequence[Example],
    rows: Sequence[Sequence[int]],
    *,
    batch_size: int,
    max_length: int,
    shared_tokens: int = 0,
) -> Batch:
    """Lay the rows' examples side by side into arrays of one fixed shape.

    Where they share their first tokens, these stand once at the beginning of the row.
    """
    shape = (batch_size, max_length)
    tokens, positions, segments, targets = (np.zeros(shape, np.int32) for _ in range(4))
    weights = np.zeros(shape, np.float32)
    for row, indices in enumerate(rows):
        start = shared_tokens if indices else 0
        if start:
            tokens[row, :start] = examples[indices[0]].tokens[:start]
            positions[row, :start] = np.arange(start)
            segments[row, :start] = SHARED
        for segment, index in enumerate(indices, start=1):
            own = examples[index].tokens[shared_tokens:]
            stop = start + len(own)
            tokens[row, start:stop] = own
            positions[row, start:stop] = np.arange(shared_tokens, shared_tokens + len(own))
            segments[row, start:stop] = segment
            targets[row, start : stop - 1] = own[1:]
            weights[row, start : stop - 1] = examples[index].weights[shared_tokens + 1 :]
            start = stop
    named = tuple(dict.fromkeys(examples[index].trace for indices in rows for index in indices))
    return Batch(tokens, positions, segments, targets, weights, traces=named)
