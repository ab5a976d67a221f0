"""The tiled decoder against the plain one: the same outputs, and what int8 costs."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.lm.generate import Generator
from tunix_rt.lm.lora import add_lora, merge_lora
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.tiled import TiledDecoder
from tunix_rt.lm.weights import load_model

PROMPTS = [[3, 9, 4], [40, 41, 42, 43, 44, 45], [7] * 20]


def copy_of(model: Decoder) -> Decoder:
    return nnx.clone(model)


def all_logits(model: Decoder, tokens: list[int]) -> np.ndarray:
    ids = jnp.asarray([tokens], jnp.int32)
    hidden = model.hidden(ids, jnp.arange(len(tokens))[None], jnp.ones_like(ids))
    return np.asarray(model.logits(hidden))


def test_greedy_outputs_equal_the_plain_decoders(lively_model: Decoder) -> None:
    plain = Generator(lively_model, eos_ids=[2], batch_sizes=(1, 8)).generate(PROMPTS, 24)
    tiled = Generator(TiledDecoder(copy_of(lively_model)), eos_ids=[2], batch_sizes=(1, 8))
    assert tiled.generate(PROMPTS, 24) == plain
    assert [tiled.generate([prompt], 24)[0] for prompt in PROMPTS] == plain


def test_logits_equal_the_plain_decoders(tiny_directory: Path) -> None:
    plain = all_logits(load_model(tiny_directory), PROMPTS[1])
    tiled = all_logits(TiledDecoder(load_model(tiny_directory)), PROMPTS[1])
    assert tiled.shape == plain.shape  # the vocabulary of 300 fills no whole number of tiles
    np.testing.assert_allclose(tiled, plain, rtol=0, atol=1e-5)


def test_an_adapter_works_on_tiles(tiny_directory: Path) -> None:
    model = load_model(tiny_directory)
    add_lora(model, 4, alpha=8.0, rngs=nnx.Rngs(0))
    for layer in model.layers:
        layer.gate.lora_b[...] = jax.random.normal(jax.random.key(1), layer.gate.lora_b.shape)
    tiled = all_logits(TiledDecoder(copy_of(model)), PROMPTS[1])
    merge_lora(model)
    np.testing.assert_allclose(tiled, all_logits(model, PROMPTS[1]), rtol=0, atol=1e-4)


def test_int8_stores_one_byte_a_weight_and_little_more(tiny_directory: Path) -> None:
    sizes = {}
    for weight_type in ("float32", "int8"):
        state = nnx.state(TiledDecoder(load_model(tiny_directory), weight_type))
        sizes[weight_type] = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert sizes["int8"] < 0.35 * sizes["float32"]


def test_int8_logits_are_near_the_float32_ones(smollm2_directory: Path) -> None:
    tokens = list(range(100, 164))
    wanted = all_logits(load_model(smollm2_directory), tokens)
    made = all_logits(TiledDecoder(load_model(smollm2_directory), "int8"), tokens)
    spread = np.abs(wanted - wanted.mean()).mean()
    assert np.abs(made - wanted).mean() < 0.1 * spread


@pytest.mark.timeout(120)
def test_a_rows_tokens_do_not_depend_on_its_batch(smollm2_directory: Path) -> None:
    model = TiledDecoder(load_model(smollm2_directory))
    generator = Generator(model, eos_ids=[2], batch_sizes=(1, 8))
    prompts = [list(range(start, start + 9 + start % 7)) for start in range(100, 900, 100)]
    together = generator.generate(prompts, 12)
    assert [generator.generate([prompt], 12)[0] for prompt in prompts] == together
