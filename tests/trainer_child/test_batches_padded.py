"""Padded batches and mixtures: what an epoch shows, and that a batch depends on its index alone."""

from collections import Counter

import numpy as np
import pytest

from tunix_rt.trainer.batches import Example, TrainingBatches
from tunix_rt.trainer.failure import TrainingFailure


def examples(*lengths, part=0):
    return [
        Example(f"p{part}-{n}", np.arange(length, dtype=np.int32), np.ones(length, np.float32), part)
        for n, length in enumerate(lengths)
    ]


LENGTHS = [5, 60, 12, 33, 17, 40, 9, 64, 30, 21, 8]
MIXED = examples(*LENGTHS) + examples(10, 20, 30, 15, 25, part=1)


def test_padded_rows_hold_one_trace_and_share_a_length():
    batches = TrainingBatches(examples(*LENGTHS), batch_size=4, max_length=64, seed=1, padded=True)
    for index in range(3):
        batch = batches.batch(index)
        assert batch.tokens.shape[1] in batches.row_lengths
        assert batch.segments.max(axis=1).tolist()[: len(batch.traces)] == [1] * len(batch.traces)


def test_padded_epochs_show_every_trace_once():
    batches = TrainingBatches(examples(*LENGTHS), batch_size=4, max_length=64, seed=1, padded=True)
    assert (batches.rows, batches.steps(1), batches.steps(2.5)) == (11, 3, 8)
    for epoch in range(3):
        shown = [trace for step in range(3) for trace in batches.batch(3 * epoch + step).traces]
        assert sorted(shown) == sorted(example.trace for example in examples(*LENGTHS))


def test_buckets_pad_less_than_the_longest_row():
    few = TrainingBatches(examples(*LENGTHS), batch_size=4, max_length=64, seed=1, padded=True)
    assert few.padding_share < 1 - sum(LENGTHS) / (12 * 64)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("weight", [2.0, 0.3, 1.5])
def test_a_batch_of_a_mixture_is_a_function_of_its_index(padded, weight):
    def make():
        return TrainingBatches(
            MIXED, batch_size=3, max_length=64, seed=5, padded=padded, weights=[1.0, weight]
        )

    straight, jumping = make(), make()
    batches = [straight.batch(index) for index in range(20)]
    for index in (19, 3, 11, 0):
        assert jumping.batch(index).tokens.tobytes() == batches[index].tokens.tobytes()


def test_a_mixture_shows_its_parts_by_their_weights():
    batches = TrainingBatches(MIXED, batch_size=1, max_length=64, seed=5, weights=[1.0, 2.0])
    shown = Counter(trace for row in range(batches.rows) for trace in (batches.batch(row).traces))
    assert set(shown) == {example.trace for example in MIXED}
    order = [MIXED[index].part for index in batches.first_epoch()]
    assert Counter(order) == {0: len(LENGTHS), 1: 10}


def test_lengths_of_validation_traces_are_among_those_compiled():
    batches = TrainingBatches(examples(5, 9), batch_size=2, max_length=64, seed=0, padded=True)
    assert batches.row_lengths == (16,)
    assert batches.lengths_for(40) == (16, 48)


def test_weights_that_leave_no_trace_are_refused():
    with pytest.raises(TrainingFailure, match="leave no trace"):
        TrainingBatches(examples(5, 6), batch_size=1, max_length=16, seed=0, weights=[0.1])
