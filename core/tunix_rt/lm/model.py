"""The decoder of all model families in Flax NNX, one set of arrays for each layer."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from tunix_rt.lm.attention import cached_attention, capped, causal_attention
from tunix_rt.lm.config import Activation, ModelConfig, NormKind
from tunix_rt.lm.divided import collected_after, rows_of
from tunix_rt.lm.dropout import drop
from tunix_rt.lm.recomputation import WIDE_BYTES, keep, keep_wide, recomputed
from tunix_rt.lm.rotary import rotary_table, rotate
from tunix_rt.lm.tensor_names import has_bias, projection_shape
from tunix_rt.lm.training_ops import linear, rms_norm, silu_gate

KeysValues = tuple[jax.Array, jax.Array]
Turns = tuple[jax.Array, jax.Array]


class Table(NamedTuple):
    """The tokens' positions, and cosine and sine of their angles in layers without and with a window."""

    positions: jax.Array
    full: Turns | None
    local: Turns | None


class Projection(nnx.Module):
    """A linear map, to which `lora.add_lora` may add a low-rank term."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False, rngs: nnx.Rngs | None) -> None:
        self.weight = nnx.Param(_normal(rngs, (outputs, inputs)))
        zeros = nnx.Param(jnp.zeros((outputs,), jnp.float32)) if bias else None
        self.bias: nnx.Param[jax.Array] | None = nnx.data(zeros)
        self.lora_a: nnx.Variable[jax.Array] | None = nnx.data(None)
        self.lora_b: nnx.Variable[jax.Array] | None = nnx.data(None)
        self.lora_keys: nnx.Variable[jax.Array] | None = nnx.data(None)
        self.lora_scale = self.lora_dropout = 0.0

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map x (rows, inputs) to (rows, outputs)."""
        y = self.product(x)
        if self.bias is not None:
            y = y + self.bias[...]
        if self.lora_a is not None and self.lora_b is not None:
            seen = x if self.lora_keys is None else drop(x, self.lora_keys[...], self.lora_dropout)
            y = y + (seen @ self.lora_a[...]) @ self.lora_b[...] * jnp.asarray(self.lora_scale, x.dtype)
        return y

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        outputs, inputs = self.weight.shape
        return outputs, inputs

    def product(self, x: jax.Array) -> jax.Array:
        """The matrix's own part."""
        return linear(x, self.weight[...])


class Norm(nnx.Module):
    """Normalisation with a learned scale: of the root mean square, or of mean and variance with a bias."""

    def __init__(self, size: int, *, eps: float, kind: NormKind = "rms") -> None:
        start = jnp.zeros if kind == "rms_offset" else jnp.ones
        self.scale = nnx.Param(start((size,), jnp.float32))
        zeros = nnx.Param(jnp.zeros((size,), jnp.float32)) if kind == "layer" else None
        self.bias: nnx.Param[jax.Array] | None = nnx.data(zeros)
        self.eps = eps
        self.kind = kind

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise the last axis of x, in float32; the type is kept."""
        wide, scale = x.astype(jnp.float32), self.scale[...].astype(jnp.float32)
        if self.kind == "rms_offset":
            scale = scale + jnp.float32(1)
        if self.bias is None:
            return rms_norm(wide, scale, self.eps).astype(x.dtype)
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        return (rms_norm(wide, scale, self.eps) + self.bias[...].astype(jnp.float32)).astype(x.dtype)


class Layer(nnx.Module):
    """Attention and feed-forward with residual connections, on activations of shape (rows, hidden)."""

    def __init__(self, config: ModelConfig, index: int = 0, *, rngs: nnx.Rngs | None) -> None:
        def norm(size: int, wanted: bool = True) -> Any:
            return nnx.data(Norm(size, eps=config.norm_eps, kind=config.norm) if wanted else None)

        def projection(short: str) -> Projection:
            outputs, inputs = projection_shape(config, short)
            return Projection(inputs, outputs, bias=has_bias(config, short), rngs=rngs)

        hidden = config.hidden_size
        self.head_dim = config.head_dim
        self.activation: Activation = config.activation
        self.scale, self.softcap = config.query_scale, config.attention_softcap
        self.window = config.window(index)
        self.input_norm: Norm = norm(hidden)
        self.q, self.k, self.v, self.o = (projection(short) for short in ("q", "k", "v", "o"))
        self.q_norm: Norm | None = norm(config.head_dim, config.qk_norm)
        self.k_norm: Norm | None = norm(config.head_dim, config.qk_norm)
        self.attended_norm: Norm | None = norm(hidden, config.post_norms)
        self.post_norm: Norm = norm(hidden)
        self.gate: Projection | None = nnx.data(projection("gate") if config.gated_mlp else None)
        self.up, self.down = projection("up"), projection("down")
        self.fed_norm: Norm | None = norm(hidden, config.post_norms)

    def project(
        self, x: jax.Array, table: Table, shape: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Rotated queries and keys, and values, each (*shape, heads, head_dim), of x (rows, hidden)."""
        normed = self.input_norm(x)
        q, k, v = (part(normed).reshape(*shape, -1, self.head_dim) for part in (self.q, self.k, self.v))
        q = q if self.q_norm is None else self.q_norm(q)
        k = k if self.k_norm is None else self.k_norm(k)
        turns = table.full if self.window is None or table.local is None else table.local
        return (q, k, v) if turns is None else (rotate(q, turns), rotate(k, turns), v)

    def attend(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        *,
        table: Table,
        segments: jax.Array,
        after: jax.Array | None,
    ) -> jax.Array:
        """What the tokens of whole sequences attend to, (B, T, heads, head_dim)."""
        return causal_attention(
            q,
            k,
            v,
            segments=segments,
            after=after,
            scale=self.scale,
            window=self.window,
            softcap=self.softcap,
            positions=None if self.window is None else table.positions,
        )

    def attend_cached(
        self, q: jax.Array, keys: jax.Array, values: jax.Array, *, lengths: jax.Array
    ) -> jax.Array:
        """What one query a row attends to among the first `lengths` entries of its cache."""
        return cached_attention(
            q, keys, values, lengths=lengths, scale=self.scale, window=self.window, softcap=self.softcap
        )

    def attends_plainly(self, capacity: int) -> bool:
        """Whether attention to a cache of so many places is that of a Llama."""
        seen = self.window is None or self.window >= capacity
        return seen and self.scale is None and self.softcap is None

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """Add the attention's result and the feed-forward to x (rows, hidden)."""
        mixed = self.o(attended.reshape(x.shape[0], -1))
        x = keep(x + (mixed if self.attended_norm is None else self.attended_norm(mixed)))
        normed = self.post_norm(x)
        if self.gate is None:
            fed = self.down(_activated(keep_wide(self.up(normed)), self.activation))
        else:
            gate, up = keep_wide(self.gate(normed)), keep_wide(self.up(normed))
            fed = self.down(_gated(gate, up, self.activation))
        return x + (fed if self.fed_norm is None else self.fed_norm(fed))


def _gated(gate: jax.Array, up: jax.Array, activation: Activation) -> jax.Array:
    return silu_gate(gate, up) if activation == "silu" else _activated(gate, activation) * up


def _activated(x: jax.Array, activation: Activation) -> jax.Array:
    if activation == "silu":
        return jax.nn.silu(x)
    return jax.nn.gelu(x, approximate=activation == "gelu_tanh")


class Decoder(nnx.Module):
    """A causal language model; its parameters are made in float32, its activations have their type.

    Norms, rotary positions, softmax and soft-caps are computed in float32 whatever that type is.
    Without `rngs` the matrices are shapes only, for weights to be filled in.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs | None) -> None:
        self.config = config
        self.embedding = nnx.Param(_normal(rngs, (config.vocab_size, config.hidden_size)))
        places = None
        if config.learned_positions:
            places = nnx.Param(_normal(rngs, (config.max_positions, config.hidden_size)))
        self.positions: nnx.Param[jax.Array] | None = nnx.data(places)
        self.layers = nnx.List([Layer(config, index, rngs=rngs) for index in range(config.num_layers)])
        self.norm = Norm(config.hidden_size, eps=config.norm_eps, kind=config.norm)
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
        With `remat`, all of a layer's inner values are computed again in the backward pass, else those
        that are quick to make or too many.
        """
        x, table = self._start(tokens, positions)
        wide = len(self.layers) * tokens.size * 2 * self.config.intermediate_size * x.dtype.itemsize
        step = recomputed(
            _layer_states, kept="inputs" if remat else "all" if wide <= WIDE_BYTES else "narrow"
        )
        previous = x
        for layer in self.layers:
            graph, state = nnx.split(layer)
            state = collected_after(state, previous)
            previous, x = x, step(graph, state, x, table, segments, after)
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
            x = layer.finish(x, layer.attend(q, k, v, table=table, segments=segments, after=after))
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
            mixed, stored = self.attend_cached(layer, q, k, v, stored, lengths)
            x = layer.finish(x, mixed)
            grown.append(stored)
        return self.norm(x), grown

    def attend_cached(
        self, layer: Layer, q: jax.Array, k: jax.Array, v: jax.Array, cache: KeysValues, lengths: jax.Array
    ) -> tuple[jax.Array, KeysValues]:
        """What one new token a row attends to, (B, heads, head_dim), and the cache with its k and v added."""
        keys, values = cache
        rows = jnp.arange(q.shape[0])
        keys = keys.at[rows, :, :, lengths].set(k, mode="drop", unique_indices=True)
        values = values.at[rows, :, lengths].set(v, mode="drop", unique_indices=True)
        return layer.attend_cached(q, keys, values, lengths=lengths + 1), (keys, values)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """The rows of the embedding (tokens.size, hidden)."""
        return rows_of(self.embedding, tokens.reshape(-1))

    def head_weight(self) -> jax.Array:
        """The output matrix (vocabulary, hidden): the embedding where the two are tied."""
        return self.embedding[...] if self.head is None else self.head[...]

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Scores (..., vocabulary) of states (..., hidden)."""
        return capped(hidden @ self.head_weight().T, self.config.logit_softcap)

    def _start(self, tokens: jax.Array, positions: jax.Array) -> tuple[jax.Array, Table]:
        config, x = self.config, self.embed(tokens)
        if config.embedding_scale != 1:
            x = x * jnp.asarray(config.embedding_scale, x.dtype)
        if self.positions is not None:
            x = x + jnp.take(self.positions[...], positions.reshape(-1), axis=0, mode="clip")
            return x, Table(positions, None, None)
        size, theta = config.head_dim, config.local_rope_theta
        full = rotary_table(positions, size, theta=config.rope_theta, scaling=config.rope_scaling)
        local = None if theta is None else rotary_table(positions, size, theta=theta)
        return x, Table(positions, full, local)


@partial(jax.jit, static_argnums=0)  # traced once for all layers of a structure
def _layer_states(
    graph: nnx.GraphDef[Layer],
    state: Any,
    x: jax.Array,
    table: Table,
    segments: jax.Array,
    after: jax.Array | None,
) -> jax.Array:
    layer = nnx.merge(graph, state)
    q, k, v = (keep(part) for part in layer.project(x, table, segments.shape))
    return layer.finish(x, keep(layer.attend(q, k, v, table=table, segments=segments, after=after)))


def _normal(rngs: nnx.Rngs | None, shape: tuple[int, int]) -> Any:
    if rngs is None:
        return jax.ShapeDtypeStruct(shape, jnp.float32)  # type: ignore[no-untyped-call]
    return jnp.float32(0.02) * jax.random.normal(rngs.params(), shape, jnp.float32)


def parameter_count(model: nnx.Module) -> int:
    """How many numbers the model's own parameters hold, adapters left out."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
