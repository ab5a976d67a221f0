from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.trainer.packing import epoch_rows, pack, permutation

lengths_in_rows = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def test_permutation_never_changes():
    assert permutation(8, seed=1, epoch=0, purpose="traces").tolist() == [1, 7, 5, 6, 3, 4, 2, 0]


def test_permutation_depends_on_seed_epoch_and_purpose():
    orders = {
        tuple(permutation(50, seed=seed, epoch=epoch, purpose=purpose))
        for seed in (-1, 0, 2**40)
        for epoch in (0, 1)
        for purpose in ("traces", "rows")
    }
    assert len(orders) == 12


@settings(deadline=None, max_examples=50)
@given(lengths_in_rows, st.integers(0, 3), st.integers(0, 3))
def test_every_trace_is_in_one_row_and_fits(lengths, seed, epoch):
    rows = epoch_rows(lengths, 40, seed=seed, epoch=epoch)
    assert Counter(index for row in rows for index in row) == Counter(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 40 for row in rows)


@settings(deadline=None, max_examples=30)
@given(lengths_in_rows)
def test_every_epoch_has_equally_many_rows(lengths):
    assert len({len(epoch_rows(lengths, 40, seed=7, epoch=epoch)) for epoch in range(4)}) == 1


def test_best_fit_takes_the_row_with_least_room():
    assert pack([6, 5, 4, 4], 10, range(4)) == [[0, 2], [1, 3]]


def test_packing_real_lengths_wastes_little():
    lengths = np.random.Philox(key=3).random_raw(2000) % 220 + 40
    rows = epoch_rows(lengths.tolist(), 512, seed=0, epoch=0)
    assert 1 - int(lengths.sum()) / (len(rows) * 512) < 0.015
