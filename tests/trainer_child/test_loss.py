import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.model import Decoder
from tunix_rt.trainer.batches import Example, fill_batch
from tunix_rt.trainer.loss import CHUNK, completion_loss, gather_rows
from tunix_rt.trainer.program import batch_arrays

POSITIONS, HIDDEN, VOCABULARY = 3 * CHUNK, 8, 37


def slow_loss(hidden, head, targets, weights):
    """Loss, accuracy, entropy and gradients at hidden and head, one position after the other, in float64."""
    hidden, head = np.asarray(hidden, np.float64), np.asarray(head, np.float64)
    loss = correct = entropy = 0.0
    hidden_grad, head_grad = np.zeros_like(hidden), np.zeros_like(head)
    for place, (target, weight) in enumerate(zip(targets, weights / weights.sum(), strict=True)):
        logits = head @ hidden[place]
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        loss -= weight * np.log(probabilities[target])
        correct += weight * (logits.argmax() == target)
        entropy -= weight * (probabilities * np.log(probabilities)).sum()
        error = weight * (probabilities - np.eye(VOCABULARY)[target])
        hidden_grad[place] = error @ head
        head_grad += np.outer(error, hidden[place])
    return loss, correct, entropy, hidden_grad, head_grad


@pytest.fixture(scope="module", params=[5, CHUNK + 3, POSITIONS], ids=["one chunk", "two chunks", "all"])
def problem(request):
    random = np.random.default_rng(request.param)
    weights = np.zeros(POSITIONS, np.float32)
    chosen = random.choice(POSITIONS, request.param, replace=False)
    weights[chosen] = random.uniform(0.5, 2.0, request.param)
    return {
        "hidden": random.normal(size=(POSITIONS, HIDDEN)).astype(np.float32),
        "head": random.normal(size=(VOCABULARY, HIDDEN)).astype(np.float32),
        "targets": random.integers(0, VOCABULARY, POSITIONS).astype(np.int32),
        "weights": weights,
    }


def loss_of(hidden, head, gathered, train_head=True):
    return completion_loss(hidden, head, gathered, train_head=train_head)


def gathered_of(problem):
    return gather_rows(problem["targets"].reshape(3, -1), problem["weights"].reshape(3, -1))


def test_a_head_in_16_bits_equals_the_formula_on_rounded_numbers(problem):
    hidden = jnp.asarray(problem["hidden"]).astype(jnp.bfloat16)
    rounded = jnp.asarray(problem["head"]).astype(jnp.bfloat16)

    def graded(hidden, head):
        sums = loss_of(hidden, head, gathered_of(problem))
        return sums.loss, sums

    (_, sums), made = jax.jit(jax.value_and_grad(graded, (0, 1), has_aux=True))(hidden, problem["head"])
    *expected, at_hidden, at_head = slow_loss(hidden, rounded, problem["targets"], problem["weights"])
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-6)
    assert [each.dtype for each in made] == [jnp.bfloat16, jnp.float32]
    for one, other in zip(made, (at_hidden, at_head), strict=True):
        np.testing.assert_allclose(np.asarray(one, np.float32), other, atol=2e-2 * np.abs(other).max())


def test_loss_accuracy_and_entropy_equal_the_formula(problem):
    sums = jax.jit(loss_of)(problem["hidden"], problem["head"], gathered_of(problem))
    expected = slow_loss(**problem)
    np.testing.assert_allclose(sums, expected[:3], rtol=1e-5, atol=1e-6)


def test_sums_by_xla_equal_those_of_the_kernels(problem, monkeypatch):
    given = problem["hidden"], problem["head"], gathered_of(problem)
    graded = jax.value_and_grad(lambda *given: loss_of(*given)[0], argnums=(0, 1))
    own = jax.jit(lambda *given: (loss_of(*given), graded(*given)))(*given)
    monkeypatch.setattr("tunix_rt.lm.training_ops.own_kernels", lambda *_: False)
    plain = jax.jit(lambda *given: (loss_of(*given), graded(*given)))(*given)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), own, plain)


def test_another_total_scales_loss_and_gradient(problem):
    targets, weights = problem["targets"].reshape(3, -1), problem["weights"].reshape(3, -1)
    doubled = gather_rows(targets, weights, total=2 * float(weights.sum()))
    sums = jax.jit(loss_of)(problem["hidden"], problem["head"], doubled)
    np.testing.assert_allclose(2 * np.array(sums), slow_loss(**problem)[:3], rtol=1e-5, atol=1e-6)


def test_gradients_equal_the_formula(problem):
    graded = jax.jit(jax.grad(lambda *given: 3 * loss_of(*given)[0], argnums=(0, 1)))
    gradients = graded(problem["hidden"], problem["head"], gathered_of(problem))
    expected = slow_loss(**problem)
    np.testing.assert_allclose(gradients[0], 3 * expected[3], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradients[1], 3 * expected[4], rtol=1e-4, atol=1e-6)


def test_frozen_head_has_no_gradient_and_hidden_the_same(problem):
    def loss(hidden, head, train_head):
        return loss_of(hidden, head, gathered_of(problem), train_head)[0]

    graded = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
    frozen = graded(problem["hidden"], problem["head"], False)
    trained = graded(problem["hidden"], problem["head"], True)
    assert not frozen[1].any()
    np.testing.assert_array_equal(frozen[0], trained[0])


def test_a_soft_cap_bounds_the_logits_of_loss_and_gradient(problem):
    """Against the same formula left to automatic differentiation."""

    def plain(hidden, head):
        logits = 3.0 * jnp.tanh(hidden @ head.T / 3.0)
        losses = jax.nn.logsumexp(logits, axis=1) - logits[jnp.arange(POSITIONS), problem["targets"]]
        return jnp.sum(losses * problem["weights"]) / jnp.sum(problem["weights"])

    def capped(hidden, head):
        return completion_loss(hidden, head, gathered_of(problem), train_head=True, softcap=3.0)[0]

    wanted, made = (jax.value_and_grad(each, argnums=(0, 1)) for each in (plain, capped))
    one, other = (each(problem["hidden"], problem["head"]) for each in (wanted, made))
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(right, left, rtol=1e-4, atol=1e-6)


def test_no_weighted_position_gives_zero():
    gathered = gather_rows(np.zeros((2, 4), np.int32), np.zeros((2, 4), np.float32))
    sums = loss_of(jnp.ones((8, HIDDEN)), jnp.ones((VOCABULARY, HIDDEN)), gathered)
    assert [float(value) for value in sums] == [0.0, 0.0, 0.0]


CONFIG = ModelConfig(
    vocab_size=VOCABULARY,
    hidden_size=16,
    intermediate_size=32,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    max_positions=64,
)


def examples_of_lengths(*lengths: int) -> list[Example]:
    random = np.random.default_rng(4)
    examples = []
    for number, length in enumerate(lengths):
        tokens = random.integers(0, VOCABULARY, length).astype(np.int32)
        weights = (np.arange(length) >= length // 3).astype(np.float32)
        examples.append(Example(str(number), tokens, weights))
    return examples


def loss_and_gradient(rows, remat=False):
    """Of one decoder, for examples laid out in rows."""
    graph, state = nnx.split(Decoder(CONFIG, rngs=nnx.Rngs(3)))
    batch = fill_batch(examples_of_lengths(9, 14, 6, 3), rows, batch_size=len(rows), max_length=32)
    arrays = batch_arrays(batch)

    @jax.jit
    @jax.value_and_grad
    def graded(state):
        model = nnx.merge(graph, state)
        hidden = model.hidden(arrays["tokens"], arrays["positions"], arrays["segments"], remat=remat)
        return completion_loss(hidden, model.head_weight(), arrays["gathered"], train_head=True)[0]

    loss, gradient = graded(state)
    return float(loss), jax.tree.leaves(gradient)


@pytest.fixture(scope="module")
def packed():
    return loss_and_gradient([[0, 1, 2, 3]])


def check_equal(one, other):
    assert abs(one[0] - other[0]) < 1e-5
    for left, right in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_packed_traces_give_the_loss_and_gradient_of_traces_alone(packed):
    check_equal(packed, loss_and_gradient([[0], [1], [2], [3]]))


def test_remat_gives_the_same_loss_and_gradient(packed):
    check_equal(packed, loss_and_gradient([[0, 1, 2, 3]], remat=True))
