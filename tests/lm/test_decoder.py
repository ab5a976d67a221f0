from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.lm.attention import causal_attention
from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.model import Decoder, parameter_count
from tunix_rt.lm.scoring import Continuation, TextScorer
from tunix_rt.lm.weights import build_model

REFERENCE = Path(__file__).parent / "reference" / "tiny_llama.npz"


@pytest.fixture(scope="module")
def reference() -> tuple[Decoder, np.ndarray, np.ndarray]:
    """The model of transformers' reference numbers, its tokens and transformers' logits of them."""
    stored = np.load(REFERENCE)
    weights = {name.removeprefix("weight:"): stored[name] for name in stored.files if ":" in name}
    config = ModelConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=40,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        max_positions=64,
        rope_theta=5000.0,
        norm_eps=1e-6,
        tie_word_embeddings=False,
    )
    return build_model(config, weights), stored["ids"], stored["logits"]


def test_logits_equal_transformers_for_grouped_heads_and_an_own_head(reference) -> None:
    model, ids, expected = reference
    tokens = jnp.asarray(ids)[None]
    positions = jnp.arange(40, dtype=jnp.int32)[None]
    hidden = nnx.jit(Decoder.hidden)(model, tokens, positions, jnp.ones_like(tokens))
    np.testing.assert_allclose(model.logits(hidden), expected, atol=2e-4)


def test_log_likelihoods_equal_transformers(reference) -> None:
    model, ids, logits = reference
    tokens = tuple(ids.tolist())
    expected = logits.astype(np.float64)
    expected = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
    rest = [Continuation(tokens[:size], tokens[size:]) for size in (1, 7, 20, 39)]
    choices = [Continuation(tokens[:20], (token,)) for token in range(50)]
    scores = TextScorer(model).score([*rest, *choices])
    for item, score in zip(rest, scores, strict=False):
        size = len(item.context)
        values = expected[np.arange(size - 1, 39), tokens[size:]]
        np.testing.assert_allclose(score.log_probabilities, values, atol=1e-4, rtol=0)
    values = [score.log_probabilities[0] for score in scores[4:]]
    np.testing.assert_allclose(values, expected[19], atol=1e-4, rtol=0)
    assert [score.greedy for score in scores[4:]].index(True) == expected[19].argmax()


def test_attention_in_blocks_equals_the_plain_formula() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 150, heads, 8), np.float32) for heads in (4, 2, 2))
    segments = np.ones((2, 150), np.int32)
    segments[0, 60:], segments[1, 131:] = 2, 0
    expected = np.zeros((2, 150, 4, 8), np.float32)
    for row in range(2):
        for head in range(4):
            scores = q[row, :, head] @ k[row, :, head // 2].T / np.sqrt(8)
            same = segments[row][:, None] == segments[row][None]
            scores = np.where(np.tril(np.ones((150, 150), bool)) & same, scores, -np.inf)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            expected[row, :, head] = weights / weights.sum(axis=1, keepdims=True) @ v[row, :, head // 2]
    made = jax.jit(causal_attention)(*map(jnp.asarray, (q, k, v)), segments=jnp.asarray(segments))
    np.testing.assert_allclose(made, expected, atol=2e-5)


def test_packed_sequences_do_not_see_one_another(lively_model: Decoder) -> None:
    first, second = list(range(3, 20)), list(range(40, 50))
    alone = np.concatenate([_hidden(lively_model, [first]), _hidden(lively_model, [second])])
    packed = _hidden(lively_model, [first, second])
    np.testing.assert_allclose(packed, alone, atol=1e-4)


def test_remat_changes_no_gradient(lively_model: Decoder) -> None:
    tokens = jnp.arange(16, dtype=jnp.int32)[None]

    def loss(model: Decoder, remat: bool) -> jax.Array:
        hidden = model.hidden(tokens, tokens, jnp.ones_like(tokens), remat=remat)
        return jnp.mean(jax.nn.logsumexp(model.logits(hidden), axis=-1))

    plain, saving = (
        nnx.jit(nnx.grad(lambda model, remat=remat: loss(model, remat)))(lively_model)
        for remat in (False, True)
    )
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(saving), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_hidden_states_are_flat_and_float32(lively_model: Decoder) -> None:
    tokens = jnp.zeros((3, 5), jnp.int32)
    hidden = nnx.jit(Decoder.hidden)(lively_model, tokens, tokens, tokens)
    assert (hidden.shape, hidden.dtype) == ((15, 32), jnp.float32)
    assert bool(jnp.all(jnp.isfinite(hidden)))


@pytest.mark.parametrize(("tied", "count"), [(True, 64 * 32), (False, 2 * 64 * 32)])
def test_parameter_count(tied: bool, count: int) -> None:
    config = ModelConfig(64, 32, 48, 1, 4, 2, 8, 128, tie_word_embeddings=tied)
    layer = 32 * (32 + 16 + 16 + 32) + 3 * 32 * 48 + 2 * 32
    assert parameter_count(Decoder(config, rngs=None)) == count + layer + 32


def _hidden(model: Decoder, sequences: list[list[int]]) -> np.ndarray:
    tokens = np.concatenate(sequences).astype(np.int32)[None]
    positions = np.concatenate([np.arange(len(part)) for part in sequences]).astype(np.int32)[None]
    segments = np.repeat(np.arange(1, len(sequences) + 1), [len(part) for part in sequences])
    arrays = (jnp.asarray(each) for each in (tokens, positions, segments.astype(np.int32)[None]))
    return np.asarray(nnx.jit(Decoder.hidden)(model, *arrays))
