"""The decoder with its matrices in tiles, in float32 or int8, as the CPU kernels read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from flax import nnx

from tunix_rt.lm.attention import capped
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.kernels.attention import append_and_attend, fits
from tunix_rt.lm.kernels.likeliest import likeliest
from tunix_rt.lm.kernels.matmul import TILE, tiled_matmul
from tunix_rt.lm.layout import WeightType
from tunix_rt.lm.model import Decoder, KeysValues, Layer, Projection

_used: ContextVar[jax.Array | None] = ContextVar("used", default=None)


@contextmanager
def only_rows(count: jax.Array, order: jax.Array) -> Iterator[None]:
    """Lets tiled decoders compute the first `count` rows of a list of all rows; other rows' products are 0.

    It holds for what is traced inside, which must have as many rows as `order`. Other decoders compute all.
    """
    token = _used.set(jnp.concatenate([count.reshape(1), order]).astype(jnp.int32))
    try:
        yield
    finally:
        _used.reset(token)


class TiledMatrix(nnx.Module):
    """A matrix (outputs, inputs) in tiles (T, inputs, 16), the last one filled up with zeros.

    With int8, each output has a scale, its largest weight's size divided by 127.
    """

    def __init__(self, weight: jax.Array, weight_type: WeightType) -> None:
        self.outputs = weight.shape[0]
        self.scales: nnx.Param[jax.Array] | None = nnx.data(None)
        if weight_type == "int8":
            weight, scales = _quantised(weight)
            self.scales = nnx.data(nnx.Param(_padded(scales)))
        self.tiles = nnx.Param(_tiles(weight))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map x (rows, inputs) to (rows, outputs)."""
        scales = None if self.scales is None else self.scales[...]
        return tiled_matmul(x, self.tiles[...], scales, _used.get())[:, : self.outputs]

    def rows(self, outputs: jax.Array) -> jax.Array:
        """The rows (outputs.size, inputs) of the matrix for some outputs."""
        chosen = outputs.reshape(-1)
        found = self.tiles[...][chosen // TILE, :, chosen % TILE].astype(jnp.float32)
        return found if self.scales is None else found * self.scales[...][chosen, None]


class TiledProjection(Projection):
    """A projection whose matrix is in tiles; an adapter stays as it is."""

    def __init__(self, projection: Projection, weight_type: WeightType) -> None:
        self.matrix = TiledMatrix(projection.weight[...], weight_type)
        self.bias = nnx.data(projection.bias)
        self.lora_a, self.lora_b = nnx.data(projection.lora_a), nnx.data(projection.lora_b)
        self.lora_keys = nnx.data(None)
        self.lora_dropout = 0.0
        self.lora_scale = projection.lora_scale

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.matrix.outputs, self.matrix.tiles.shape[1]

    def product(self, x: jax.Array) -> jax.Array:
        """The matrix's own part."""
        return self.matrix(x)


class TiledDecoder(Decoder):
    """A decoder for generation and scoring; it cannot be trained or saved.

    Its products are sums in the order of the inputs, so a row's states do not depend on its batch.
    """

    def __init__(self, model: Decoder, weight_type: WeightType = "float32") -> None:
        self.config = model.config
        self.layers = nnx.List([_tiled(layer, weight_type) for layer in model.layers])
        self.norm, self.positions = model.norm, nnx.data(model.positions)
        self.table = TiledMatrix(model.embedding[...], weight_type)
        head = None if model.head is None else TiledMatrix(model.head[...], weight_type)
        self.output: TiledMatrix | None = nnx.data(head)

    def attend_cached(
        self, layer: Layer, q: jax.Array, k: jax.Array, v: jax.Array, cache: KeysValues, lengths: jax.Array
    ) -> tuple[jax.Array, KeysValues]:
        """As the base's, by the kernel where the layer and the shapes fit it."""
        capacity = cache[0].shape[3]
        if not (layer.attends_plainly(capacity) and fits(self.config.head_dim, capacity)):
            return super().attend_cached(layer, q, k, v, cache, lengths)
        return append_and_attend(q, k, v, cache, lengths, _used.get())

    def embed(self, tokens: jax.Array) -> jax.Array:
        """The rows of the embedding (tokens.size, hidden)."""
        return self.table.rows(tokens)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Scores (rows, vocabulary) of states (rows, hidden)."""
        scores = (self.table if self.output is None else self.output)(hidden)
        return capped(scores, self.config.logit_softcap)


def likeliest_tokens(logits: jax.Array) -> jax.Array:
    """The first token with the highest logit, (rows,) int32; logits (rows, vocabulary)."""
    if jax.default_backend() == "cpu" and logits.shape[1] >= TILE:
        return likeliest(logits, _used.get())
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def for_generation(model: Decoder, weight_type: WeightType = "float32") -> Decoder:
    """The decoder in the form that is fastest to generate with on this host; `model` must not be used again.

    Raises ModelError for int8 on a host whose accelerator has no kernels for it.
    """
    if jax.default_backend() == "cpu":
        return TiledDecoder(model, weight_type)
    if weight_type != "float32":
        raise ModelError(
            f"weight_type {weight_type}",
            f"is not available on {jax.default_backend()}.",
            remedy="Use float32 here, or a host without accelerator.",
        )
    return model


def _tiled(layer: Layer, weight_type: WeightType) -> Layer:
    """The layer with its matrices replaced."""
    for name in ("q", "k", "v", "o", "gate", "up", "down"):
        projection = getattr(layer, name)
        if projection is not None:
            setattr(layer, name, TiledProjection(projection, weight_type))
    return layer


def _quantised(weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whole numbers in [-127, 127] and the scale of each output that makes them the weights again."""
    largest = jnp.max(jnp.abs(weight), axis=1)
    scales = jnp.where(largest > 0, largest / 127, jnp.float32(1))
    return jnp.round(weight / scales[:, None]).astype(jnp.int8), scales


def _padded(array: jax.Array) -> jax.Array:
    missing = -array.shape[0] % TILE
    return jnp.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)])


@jax.jit
def _tiles(weight: jax.Array) -> jax.Array:
    return _padded(weight).reshape(-1, TILE, weight.shape[1]).transpose(0, 2, 1)
