"""The decoder: a Llama-type transformer in Flax NNX, one set of arrays for each layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from tunix_rt.lm.attention import cached_attention, causal_attention
from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.divided import collected_after, rows_of
from tunix_rt.lm.rotary import rotary_table, rotate

Table = tuple[jax.Array, jax.Array]
KeysValues = tuple[jax.Array, jax.Array]


class Projection(nnx.Module):
    """A linear map without bias, to which `lora.add_lora` may add a low-rank term."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs | None) -> None:
        self.weight = nnx.Param(_normal(rngs, (outputs, inputs)))
        self.lora_a: nnx.Variable[jax.Array] | None = nnx.data(None)
        self.lora_b: nnx.Variable[jax.Array] | None = nnx.data(None)
        self.lora_scale = 0.0

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map x (rows, inputs) to (rows, outputs)."""
        y = self.product(x)
        if self.lora_a is not None and self.lora_b is not None:
            y = y + (x @ self.lora_a[...]) @ self.lora_b[...] * jnp.float32(self.lora_scale)
        return y

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        outputs, inputs = self.weight.shape
        return outputs, inputs

    def product(self, x: jax.Array) -> jax.Array:
        """The matrix's own part."""
        return x @ self.weight[...].T


class Norm(nnx.Module):
    """Root-mean-square normalisation with a learned scale."""

    def __init__(self, size: int, *, eps: float) -> None:
        self.scale = nnx.Param(jnp.ones((size,), jnp.float32))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise the last axis of x."""
        mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(mean_square + jnp.float32(self.eps)) * self.scale[...]


class Layer(nnx.Module):
    """Attention and feed-forward with residual connections, on activations of shape (rows, hidden)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs | None) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        queries, shared = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.input_norm = Norm(hidden, eps=config.rms_norm_eps)
        self.q = Projection(hidden, queries, rngs=rngs)
        self.k = Projection(hidden, shared, rngs=rngs)
        self.v = Projection(hidden, shared, rngs=rngs)
        self.o = Projection(queries, hidden, rngs=rngs)
        self.post_norm = Norm(hidden, eps=config.rms_norm_eps)
        self.gate = Projection(hidden, inner, rngs=rngs)
        self.up = Projection(hidden, inner, rngs=rngs)
        self.down = Projection(inner, hidden, rngs=rngs)

    def project(
        self, x: jax.Array, table: Table, shape: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Rotated queries and keys, and values, each (*shape, heads, head_dim), of x (rows, hidden)."""
        normed = self.input_norm(x)
        q, k, v = (part(normed).reshape(*shape, -1, self.head_dim) for part in (self.q, self.k, self.v))
        return rotate(q, table), rotate(k, table), v

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """Add the attention's result and the feed-forward to x (rows, hidden)."""
        x = x + self.o(attended.reshape(x.shape[0], -1))
        normed = self.post_norm(x)
        return x + self.down(jax.nn.silu(self.gate(normed)) * self.up(normed))


class Decoder(nnx.Module):
    """A causal language model; all parameters and activations are float32.

    Without `rngs` the matrices are shapes only, for weights to be filled in.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs | None) -> None:
        self.config = config
        self.embedding = nnx.Param(_normal(rngs, (config.vocab_size, config.hidden_size)))
        self.layers = nnx.List([Layer(config, rngs=rngs) for _ in range(config.num_layers)])
        self.norm = Norm(config.hidden_size, eps=config.rms_norm_eps)
        tied = config.tie_word_embeddings
        head = None if tied else nnx.Param(_normal(rngs, (config.vocab_size, config.hidden_size)))
        self.head: nnx.Param[jax.Array] | None = nnx.data(head)

    def hidden(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        segments: jax.Array,
        *,
        after: jax.Array | None = None,
        remat: bool = False,
    ) -> jax.Array:
        """Final normalised states (B * T, hidden) of tokens (B, T).

        A token sees earlier tokens of its own segment only and, with `after` (B, T), those of the
        segment named there; segment 0 is padding.
        With `remat`, a layer's inner values are computed again in the backward pass.
        """
        x, table = self._start(tokens, positions)
        step: Callable[..., jax.Array] = _layer_states
        if remat:
            step = nnx.remat(_layer_states, static_argnums=(4,))
        previous = x
        for layer in self.layers:
            whole = collected_after(layer, previous)
            previous, x = x, step(whole, x, table, segments, tokens.shape, after)
        return self.norm(x)

    def hidden_and_cache(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        segments: jax.Array,
        after: jax.Array | None = None,
    ) -> tuple[jax.Array, list[KeysValues]]:
        """As `hidden`, with each layer's keys and values (B, T, kv_heads, head_dim).

        A token also sees the earlier tokens of segment `after` (B, T), where one is given.
        """
        x, table = self._start(tokens, positions)
        cache = []
        for layer in self.layers:
            q, k, v = layer.project(x, table, tokens.shape)
            x = layer.finish(x, causal_attention(q, k, v, segments=segments, after=after))
            cache.append((k, v))
        return self.norm(x), cache

    def next_hidden(
        self, tokens: jax.Array, lengths: jax.Array, cache: list[KeysValues]
    ) -> tuple[jax.Array, list[KeysValues]]:
        """States (B, hidden) of one new token a row, and the cache with its keys and values added.

        tokens (B,); lengths (B,) is how many cache entries a row already has, and so the new token's
        position; the cache has keys (B, kv_heads, head_dim, S) and values (B, kv_heads, S, head_dim).
        """
        x, table = self._start(tokens, lengths)
        grown = []
        for layer, stored in zip(self.layers, cache, strict=True):
            q, k, v = layer.project(x, table, tokens.shape)
            mixed, stored = self.attend_cached(q, k, v, stored, lengths)
            x = layer.finish(x, mixed)
            grown.append(stored)
        return self.norm(x), grown

    def attend_cached(
        self, q: jax.Array, k: jax.Array, v: jax.Array, cache: KeysValues, lengths: jax.Array
    ) -> tuple[jax.Array, KeysValues]:
        """What one new token a row attends to, (B, heads, head_dim), and the cache with its k and v added."""
        keys, values = cache
        rows = jnp.arange(q.shape[0])
        keys = keys.at[rows, :, :, lengths].set(k, mode="drop", unique_indices=True)
        values = values.at[rows, :, lengths].set(v, mode="drop", unique_indices=True)
        return cached_attention(q, keys, values, lengths=lengths + 1), (keys, values)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """The embeddings (tokens.size, hidden)."""
        return rows_of(self.embedding, tokens.reshape(-1))

    def head_weight(self) -> jax.Array:
        """The output matrix (vocabulary, hidden): the embedding where the two are tied."""
        return self.embedding[...] if self.head is None else self.head[...]

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Scores (..., vocabulary) of states (..., hidden)."""
        return hidden @ self.head_weight().T

    def _start(self, tokens: jax.Array, positions: jax.Array) -> tuple[jax.Array, Table]:
        table = rotary_table(positions, self.config.head_dim, theta=self.config.rope_theta)
        return self.embed(tokens), table


def _layer_states(
    layer: Layer,
    x: jax.Array,
    table: Table,
    segments: jax.Array,
    shape: tuple[int, ...],
    after: jax.Array | None,
) -> jax.Array:
    q, k, v = layer.project(x, table, shape)
    return layer.finish(x, causal_attention(q, k, v, segments=segments, after=after))


def _normal(rngs: nnx.Rngs | None, shape: tuple[int, int]) -> Any:
    if rngs is None:
        return jax.ShapeDtypeStruct(shape, jnp.float32)  # type: ignore[no-untyped-call]
    return jnp.float32(0.02) * jax.random.normal(rngs.params(), shape, jnp.float32)


def parameter_count(model: nnx.Module) -> int:
    """How many numbers the model's own parameters hold, adapters left out."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
