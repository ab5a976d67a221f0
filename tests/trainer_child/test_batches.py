import numpy as np
import pytest

from tunix_rt.trainer.batches import (
    Example,
    TrainingBatches,
    fill_batch,
    shared_start,
    validation_batches,
)
from tunix_rt.trainer.failure import TrainingFailure


def example(trace: str, tokens: list[int], prompt: int) -> Example:
    weights = [0.0] * prompt + [1.0] * (len(tokens) - prompt)
    return Example(trace, np.array(tokens, np.int32), np.array(weights, np.float32))


A = example("a", [5, 6, 7, 8], 2)
B = example("b", [9, 10, 11], 1)


def test_row_holds_traces_side_by_side():
    batch = fill_batch([A, B], [[0, 1]], batch_size=2, max_length=8)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 9, 10, 11, 0], [0] * 8]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0], [0] * 8]
    assert batch.segments.tolist() == [[1, 1, 1, 1, 2, 2, 2, 0], [0] * 8]
    assert batch.traces == ("a", "b")


def test_weights_stand_where_completion_tokens_are_predicted():
    batch = fill_batch([A, B], [[0, 1]], batch_size=1, max_length=8)
    assert batch.weights.tolist() == [[0, 1, 1, 0, 1, 1, 0, 0]]
    assert batch.targets.tolist() == [[6, 7, 8, 0, 10, 11, 0, 0]]
    assert (batch.token_count, batch.weighted_count) == (7, 4)


START = list(range(20))


def test_a_shared_start_stands_once_and_positions_go_on_from_it():
    examples = [example("a", [7, 8, 5, 6], 3), example("b", [7, 8, 9, 4], 3)]
    batch = fill_batch(examples, [[0, 1]], batch_size=2, max_length=8, shared_tokens=2)
    assert batch.tokens.tolist() == [[7, 8, 5, 6, 9, 4, 0, 0], [0] * 8]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 2, 3, 0, 0], [0] * 8]
    assert batch.segments.tolist() == [[-1, -1, 1, 1, 2, 2, 0, 0], [0] * 8]
    assert batch.targets.tolist() == [[0, 0, 6, 0, 4, 0, 0, 0], [0] * 8]
    assert batch.weights.tolist() == [[0, 0, 1, 0, 1, 0, 0, 0], [0] * 8]
    assert (batch.token_count, batch.visible_pairs) == (6, 1 + 2 + 3 + 4 + 3 + 4)


def test_a_shared_start_ends_where_examples_differ_and_before_the_last_token_that_is_not_learnt():
    assert shared_start([example("a", [*START, 1, 2], 21), example("b", [*START, 3, 4], 21)]) == 20
    assert shared_start([example("a", [*START, 1], 20), example("b", [*START, 2], 20)]) == 19
    assert shared_start([example("a", [*START, 1], 17), example("b", [*START, 1], 20)]) == 16


def test_a_start_of_fewer_than_sixteen_tokens_is_not_shared():
    assert shared_start([example("a", START[:18], 16), example("b", START[:18], 17)]) == 0
    assert shared_start([]) == 0


def test_rows_hold_more_traces_behind_a_shared_start():
    examples = [example(f"t{n}", [*START, n, n + 1, n + 2, n + 3], 22) for n in range(9)]
    apart = TrainingBatches(examples, batch_size=1, max_length=32, seed=0)
    shared = TrainingBatches(examples, batch_size=1, max_length=32, seed=0, share=True)
    assert (apart.rows, shared.rows, shared.shared_tokens) == (9, 3, 20)
    assert shared.padding_share == 0
    assert sum(shared.batch(row).weighted_count for row in range(3)) == 9 * 2


def test_too_long_traces_are_named_and_never_cut():
    long = example("long-one", list(range(20)), 3)
    with pytest.raises(TrainingFailure, match=r"long-one \(20 tokens\).*Set max_length to 20") as caught:
        TrainingBatches([A, long], batch_size=1, max_length=16, seed=0)
    assert caught.value.reason == "TRACES_INVALID"


def test_batch_is_a_function_of_its_index():
    examples = [example(f"t{n}", list(range(n + 4)), 2) for n in range(20)]
    straight = TrainingBatches(examples, batch_size=3, max_length=32, seed=5)
    jumping = TrainingBatches(examples, batch_size=3, max_length=32, seed=5)
    batches = [straight.batch(index) for index in range(12)]
    for index in (11, 2, 7, 0):
        assert jumping.batch(index).tokens.tobytes() == batches[index].tokens.tobytes()


def test_an_epoch_shows_every_trace_once():
    examples = [example(f"t{n}", list(range(n % 7 + 4)), 2) for n in range(24)]
    batches = TrainingBatches(examples, batch_size=1, max_length=16, seed=1)
    for epoch in range(3):
        rows = range(epoch * batches.rows, (epoch + 1) * batches.rows)
        shown = [trace for row in rows for trace in batches.batch(row).traces]
        assert sorted(shown) == sorted(item.trace for item in examples)


def test_epochs_differ_in_order_and_seeds_too():
    examples = [example(f"t{n}", list(range(n % 7 + 4)), 2) for n in range(24)]
    batches = TrainingBatches(examples, batch_size=1, max_length=16, seed=1)
    other = TrainingBatches(examples, batch_size=1, max_length=16, seed=2)
    first = [batches.batch(row).traces for row in range(batches.rows)]
    second = [batches.batch(row).traces for row in range(batches.rows, 2 * batches.rows)]
    assert first != second
    assert first != [other.batch(row).traces for row in range(other.rows)]


def test_steps_cover_the_epochs():
    examples = [example(f"t{n}", [1] * 16, 2) for n in range(10)]
    batches = TrainingBatches(examples, batch_size=4, max_length=16, seed=0)
    assert [batches.steps(epochs) for epochs in (0.01, 1, 2, 2.5)] == [1, 3, 5, 7]


def test_validation_shows_every_trace_once_in_one_shape():
    examples = [example(f"t{n}", [1] * 12, 2) for n in range(7)]
    batches = list(validation_batches(examples, batch_size=4, max_length=16))
    assert [batch.tokens.shape for batch in batches] == [(4, 16), (4, 16)]
    assert [trace for batch in batches for trace in batch.traces] == [f"t{n}" for n in range(7)]
