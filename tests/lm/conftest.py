"""Models that the tests of tunix_rt.lm share; each is made once a session."""

import json
import runpy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.gguf_import import import_smollm2
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.lm.weights import build_model, export_tensors

TEXTS = ("What is 3 + 4? 3 + 4 = 7. The answer is 7.", "Add 12 and 30: 12 + 30 = 42.") * 20


@pytest.fixture(autouse=True)
def strict_types() -> Iterator[None]:
    """Make a silent widening of a type an error."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def smollm2_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct, imported from its package."""
    directory = tmp_path_factory.mktemp("models") / "smollm2"
    import_smollm2(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated model directory of two narrow layers."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny_model(directory, TEXTS, seed=1, vocab_size=300, hidden_size=32, num_layers=2)
    return directory


@pytest.fixture(scope="session")
def lively_model() -> Iterator[Decoder]:
    """A random model with large weights, so that its greedy outputs vary and stop at various places.

    A test that changes it works on `nnx.clone` of it.
    """
    config = ModelConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        max_positions=512,
        tie_word_embeddings=False,
    )
    model = Decoder(config, rngs=nnx.Rngs(0))
    for layer in model.layers:
        for name in ("q", "k", "v", "o", "gate", "up", "down"):
            projection = getattr(layer, name)
            projection.weight[...] = projection.weight[...] * 20
    made = {name: tensor.copy() for name, tensor in export_tensors(model).items()}
    yield model
    for name, tensor in export_tensors(model).items():
        np.testing.assert_array_equal(tensor, made[name], f"a test has changed {name} of the shared model")


Logits = Callable[[Decoder, list[int]], np.ndarray]


@pytest.fixture(scope="session")
def full_logits() -> Logits:
    """Logits (length, vocabulary) of a whole sequence without a cache, padded to 256 to compile once."""

    @nnx.jit
    def compute(model: Decoder, tokens: jax.Array, segments: jax.Array) -> jax.Array:
        positions = jnp.arange(256, dtype=jnp.int32)[None]
        return model.logits(model.hidden(tokens, positions, segments))

    def logits(model: Decoder, ids: list[int]) -> np.ndarray:
        tokens, segments = np.zeros((1, 256), np.int32), np.zeros((1, 256), np.int32)
        tokens[0, : len(ids)], segments[0, : len(ids)] = ids, 1
        return np.asarray(compute(model, jnp.asarray(tokens), jnp.asarray(segments)))[: len(ids)]

    return logits


REFERENCE = Path(__file__).parent / "reference"


class Reference(NamedTuple):
    """A family's tiny model, what it is made of, and transformers' logits of its tokens.

    `adapter` has the tensors of an adapter of PEFT, `adapted` its logits.
    """

    facts: dict[str, str]
    weights: dict[str, np.ndarray]
    model: Decoder
    ids: np.ndarray
    logits: np.ndarray
    adapter: dict[str, np.ndarray]
    adapted: np.ndarray | None


@cache
def _reference_of(case: str) -> Reference:
    facts = json.loads((REFERENCE / "families.json").read_text())[case]
    arrays = np.load(REFERENCE / "families.npz")
    weight = runpy.run_path(str(REFERENCE / "make_families.py"))["weight"]
    weights = {name: weight(name, tuple(shape)) for name, shape in facts["shapes"].items()}
    model = build_model(ModelConfig.from_hf(json.loads(facts["config"])), weights)
    adapter = {name: weight(name, tuple(shape)) for name, shape in facts.get("adapter", {}).items()}
    adapted = arrays[f"adapted_{case}"] if adapter else None
    return Reference(facts, weights, model, arrays[f"ids_{case}"], arrays[f"logits_{case}"], adapter, adapted)


@pytest.fixture(scope="session")
def reference_of() -> Callable[[str], Reference]:
    """Gives the reference of a case of make_families.py."""
    return _reference_of


@pytest.fixture(scope="session")
def logits_of() -> Callable[[Decoder, np.ndarray], np.ndarray]:
    """Gives logits (rows, length, vocabulary) of ids by the plain forward pass."""
    return _logits_of


def _logits_of(model: Decoder, ids: np.ndarray) -> np.ndarray:
    """Logits (rows, length, vocabulary), by the plain forward pass."""
    tokens = jnp.asarray(ids, jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=jnp.int32), ids.shape)
    return np.asarray(model.logits(model.hidden(tokens, positions, jnp.ones_like(tokens)))).reshape(
        *ids.shape, -1
    )
