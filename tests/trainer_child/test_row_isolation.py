"""What shares a row or a batch with a trace does not change its loss, and padding changes nothing."""

import jax
import numpy as np
import pytest
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.model import Decoder
from tunix_rt.trainer.batches import Example, fill_batch
from tunix_rt.trainer.loss import completion_loss
from tunix_rt.trainer.program import batch_arrays

VOCABULARY = 41
CONFIG = ModelConfig(
    vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_layers=2, num_heads=4, num_kv_heads=2,
    head_dim=4, max_positions=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def loss_and_gradient():
    graph, state = nnx.split(Decoder(CONFIG, rngs=nnx.Rngs(3)))

    @jax.jit
    @jax.value_and_grad
    def graded(state, arrays):
        model = nnx.merge(graph, state)
        hidden = model.hidden(arrays["tokens"], arrays["positions"], arrays["segments"], remat=False)
        return completion_loss(hidden, model.head_weight(), arrays["gathered"], train_head=True)[0]

    def of(examples, rows, max_length=32, shared_tokens=0):
        batch = fill_batch(
            examples, rows, batch_size=len(rows), max_length=max_length, shared_tokens=shared_tokens
        )
        loss, gradient = graded(state, batch_arrays(batch))
        return np.asarray(loss), [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]

    return of


def example(name, length, *, seed, learnt=True):
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, length).astype(np.int32)
    weights = (np.arange(length) >= length // 3).astype(np.float32)
    return Example(name, tokens, weights * learnt)


B = example("b", 13, seed=2)


@pytest.mark.parametrize("rows", [[[0, 1]], [[1, 0]], [[0], [1]]], ids=["before", "after", "beside"])
def test_changing_one_trace_leaves_the_loss_and_gradient_of_another_bit_for_bit(loss_and_gradient, rows):
    first = loss_and_gradient([example("a", 11, seed=1, learnt=False), B], rows)
    other = loss_and_gradient([example("a", 11, seed=9, learnt=False), B], rows)
    assert first[0].tobytes() == other[0].tobytes()
    for one, two in zip(first[1], other[1], strict=True):
        np.testing.assert_array_equal(one, two)


def test_padding_changes_neither_loss_nor_gradient(loss_and_gradient):
    first = loss_and_gradient([B], [[0]], max_length=16)
    other = loss_and_gradient([B], [[0], []], max_length=48)
    np.testing.assert_allclose(first[0], other[0], atol=1e-5)
    for one, two in zip(first[1], other[1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def started(name, length, *, seed):
    """An example of 9 tokens more, that others begin with too."""
    own = example(name, length, seed=seed)
    start = np.arange(9, dtype=np.int32)
    return Example(name, np.append(start, own.tokens), np.append(np.zeros(9, np.float32), own.weights))


def test_a_start_that_traces_share_gives_their_loss_and_gradient(loss_and_gradient):
    examples = [started("a", 11, seed=1), started("b", 5, seed=2), started("c", 7, seed=3)]
    apart = loss_and_gradient(examples, [[0], [1, 2]])
    shared = loss_and_gradient(examples, [[0, 1, 2]], shared_tokens=9)
    np.testing.assert_allclose(shared[0], apart[0], atol=1e-6)
    for one, two in zip(shared[1], apart[1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_changing_one_trace_behind_a_shared_start_leaves_the_loss_of_another_bit_for_bit(loss_and_gradient):
    start, b = np.arange(9, dtype=np.int32), started("b", 5, seed=2)
    losses = [
        loss_and_gradient(
            [
                Example("a", np.append(start, example("a", 11, seed=seed).tokens), np.zeros(20, np.float32)),
                b,
            ],
            [[0, 1]],
            shared_tokens=9,
        )[0].tobytes()
        for seed in (1, 9)
    ]
    assert losses[0] == losses[1]
