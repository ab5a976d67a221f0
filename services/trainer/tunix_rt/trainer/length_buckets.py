"""Batches of single traces padded to a shared length: pure functions of lengths, seed and epoch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from tunix_rt.trainer.packing import permutation

_EIGHTHS = (1, 2, 3, 4, 6, 8)
_MULTIPLE = 16


def bucket_lengths(max_length: int) -> tuple[int, ...]:
    """The few lengths that rows are padded to, up to `max_length`: eighths of it, in multiples of 16."""
    rounded = (-(-max_length * part // (8 * _MULTIPLE)) * _MULTIPLE for part in _EIGHTHS)
    return tuple(sorted({min(length, max_length) for length in rounded}))


def bucket_of(length: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds a length."""
    return buckets[bisect_left(buckets, length)]


def epoch_batches(
    lengths: Sequence[int], buckets: Sequence[int], *, batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """The batches of one epoch in the order of training; every index is in one of them.

    Traces of one bucket stand together in an order of their own; what does not fill a batch goes into one
    with the next bucket, so that only one batch has fewer rows, among the shortest. How many batches
    there are of each bucket depends on the lengths alone.
    """
    order = [int(index) for index in permutation(len(lengths), seed=seed, epoch=epoch, purpose="traces")]
    ranked = sorted(order, key=lambda index: bucket_of(lengths[index], buckets))
    first = len(ranked) % batch_size or batch_size
    cuts = [0, *range(first, len(ranked) + 1, batch_size)]
    batches = [ranked[start:stop] for start, stop in pairwise(cuts)]
    return [batches[index] for index in permutation(len(batches), seed=seed, epoch=epoch, purpose="rows")]
