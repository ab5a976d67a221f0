from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.trainer.length_buckets import bucket_lengths, bucket_of, epoch_batches
from tunix_rt.trainer.mixing import Mixture


def test_a_single_part_of_weight_1_is_every_trace_in_order():
    assert Mixture([0, 0, 0], [1.0], seed=0).epoch(3) == [0, 1, 2]


def test_weight_2_takes_each_trace_of_the_part_twice():
    mixture = Mixture([0, 1, 1], [1.0, 2.0], seed=0)
    assert Counter(mixture.epoch(0)) == {0: 1, 1: 2, 2: 2}


def test_weight_one_half_takes_one_half_and_then_the_other():
    mixture = Mixture([0, 1, 1, 1, 1], [1.0, 0.5], seed=0)
    first, second = (set(mixture.epoch(epoch)) - {0} for epoch in (0, 1))
    assert (len(first), len(second), first | second) == (2, 2, {1, 2, 3, 4})


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 23), st.sampled_from([0.1, 0.25, 0.5, 1.0, 1.2, 3.0]), st.integers(-5, 5))
def test_over_whole_cycles_every_trace_is_taken_equally_often(count, weight, seed):
    mixture = Mixture([0] * count, [weight], seed=seed)
    taken = Counter(index for epoch in range(20) for index in mixture.epoch(epoch))
    assert taken == dict.fromkeys(range(count), round(20 * weight))


def test_bucket_lengths_are_few_and_multiples_of_16():
    assert bucket_lengths(512) == (64, 128, 192, 256, 384, 512)
    assert bucket_lengths(100) == (16, 32, 48, 64, 80, 100)
    assert bucket_lengths(16) == (16,)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 96), min_size=1, max_size=60),
    st.integers(1, 7),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_every_trace_is_in_one_batch_and_only_one_batch_is_short(lengths, batch_size, seed, epoch):
    batches = epoch_batches(lengths, bucket_lengths(96), batch_size=batch_size, seed=seed, epoch=epoch)
    assert Counter(index for batch in batches for index in batch) == Counter(range(len(lengths)))
    short = [len(batch) for batch in batches if len(batch) < batch_size]
    assert short == ([len(lengths) % batch_size] if len(lengths) % batch_size else [])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 96), min_size=1, max_size=60), st.integers(1, 7), st.integers(1, 3))
def test_every_epoch_has_the_same_lengths_of_batches(lengths, batch_size, epoch):
    buckets = bucket_lengths(96)

    def shapes(number):
        batches = epoch_batches(lengths, buckets, batch_size=batch_size, seed=3, epoch=number)
        return Counter(bucket_of(max(lengths[index] for index in batch), buckets) for batch in batches)

    assert shapes(epoch) == shapes(0)
