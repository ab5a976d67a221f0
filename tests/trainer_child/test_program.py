"""One optimizer step: micro-batches, averages, skipping, precision and dropout, on a tiny decoder."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.lora import add_lora
from tunix_rt.lm.model import Decoder
from tunix_rt.trainer.batches import Batch, Example, fill_batch
from tunix_rt.trainer.gradient import Forward
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.optimizer_settings import OptimizerSettings
from tunix_rt.trainer.program import batch_arrays, build_program, step_arrays, take_apart
from tunix_rt.trainer.stepping import step_key
from tunix_rt.trainer.update import Carried, Controls

pytestmark = pytest.mark.usefixtures("compile_quickly")

CONFIG = ModelConfig(
    vocab_size=37,
    hidden_size=16,
    intermediate_size=32,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    max_positions=64,
)
ADAMW = make_optimizer(OptimizerSettings(0.01, 0, "CONSTANT", 0.1, 1.0, 0.9, 0.999))
PLAIN = optax.identity()  # the update is the gradient
EMA = 0.75
FULL, LORA = Forward(lora=False), Forward(lora=True, dropout=True)


def make_batch(count: int, batch_size: int = 8) -> Batch:
    """Rows whose numbers of tokens and weights differ a lot; those after the first `count` are empty."""
    random = np.random.default_rng(5)
    examples = []
    for number in range(count):
        length = int(random.integers(4, 32))
        weights = (np.arange(length) >= random.integers(1, length - 1)).astype(np.float32)
        tokens = random.integers(0, CONFIG.vocab_size, length).astype(np.int32)
        examples.append(Example(str(number), tokens, weights))
    rows = [[number] for number in range(count)]
    return fill_batch(examples, rows, batch_size=batch_size, max_length=32)


@cache
def parts(*, lora: bool):
    model = Decoder(CONFIG, rngs=nnx.Rngs(3))
    if lora:
        add_lora(model, 4, alpha=8.0, targets=["q", "down"], dropout=0.5, rngs=nnx.Rngs(4))
    graph, trained, frozen = take_apart(model, lora=lora)
    if lora:  # so that the inputs of both parts of an adapter matter
        trained = jax.tree.map(lambda leaf: leaf + 0.1, trained)
    return graph, trained, frozen


def start_of(forward: Forward, optimizer, *, averaged: bool) -> Carried:
    _, trained, _ = parts(lora=forward.lora)
    return Carried(trained, optimizer.init(trained), trained if averaged else None)


@cache
def compiled_step(forward: Forward, optimizer, ema_decay: float, micro_rows: int | None):
    graph, _, frozen = parts(lora=forward.lora)
    program = build_program(graph, optimizer, forward, ema_decay=ema_decay, micro_rows=micro_rows)
    start = start_of(forward, optimizer, averaged=ema_decay > 0)
    arrays = program.step_arrays(make_batch(8))
    return jax.jit(program.step).lower(start, frozen, arrays, Controls(np.float32(0))).compile()


def step_of(forward: Forward, optimizer=PLAIN, ema_decay: float = 0.0, micro_rows: int | None = None):
    """A function of a batch and controls, which gives the state after one step and its scalars."""
    step = compiled_step(forward, optimizer, ema_decay, micro_rows)
    _, _, frozen = parts(lora=forward.lora)
    start = start_of(forward, optimizer, averaged=ema_decay > 0)

    def take(batch: Batch, controls: Controls | None = None):
        controls = controls or Controls(np.float32(1.0 if optimizer is PLAIN else 0.01))
        return step(start, frozen, step_arrays(batch, micro_rows), controls)

    return take


def check_same_update(one: Carried, other: Carried) -> None:
    for left, right in zip(jax.tree.leaves(one.trained), jax.tree.leaves(other.trained), strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-6)


def differs(one: Carried, other: Carried) -> bool:
    pairs = zip(jax.tree.leaves(one.trained), jax.tree.leaves(other.trained), strict=True)
    return any(not np.array_equal(left, right) for left, right in pairs)


@cache
def logits_of_rows():
    graph, trained, frozen = parts(lora=False)
    model = nnx.merge(graph, trained, frozen)
    return jax.jit(lambda *arrays: model.logits(model.hidden(*arrays)))


def slow_loss(batch: Batch) -> float:
    """The sum of the rows' summed losses over the sum of the rows' weights, one position after the other."""
    logits = logits_of_rows()(batch.tokens, batch.positions, batch.segments)
    logits = np.asarray(logits, np.float64).reshape(8, 32, -1)
    total = 0.0
    for row, place in zip(*np.nonzero(batch.weights), strict=True):
        probabilities = np.exp(logits[row, place])
        total -= np.log(probabilities[batch.targets[row, place]] / probabilities.sum())
    return total / batch.weights.sum()


@pytest.mark.parametrize(
    ("optimizer", "ema_decay", "micro_rows"), [(PLAIN, 0.0, 3), (ADAMW, EMA, 1)], ids=["gradient", "adamw"]
)
def test_micro_batches_give_the_update_of_the_whole_batch(optimizer, ema_decay, micro_rows):
    batch = make_batch(8)
    whole, measured = step_of(FULL, optimizer, ema_decay)(batch)
    cut, again = step_of(FULL, optimizer, ema_decay, micro_rows)(batch)
    check_same_update(whole, cut)
    for name in ("loss", "accuracy", "grad_norm"):
        np.testing.assert_allclose(measured[name], again[name], rtol=1e-5)


def test_fewer_rows_at_a_time_need_less_memory():
    whole, cut = (compiled_step(FULL, ADAMW, EMA, micro_rows) for micro_rows in (None, 1))
    needed = [step.memory_analysis().temp_size_in_bytes for step in (whole, cut)]
    assert needed[1] < 0.5 * needed[0]


def test_partial_last_window_weighs_its_own_tokens():
    batch = make_batch(5)  # of 8 rows, so that the last micro-batch is empty
    whole, measured = step_of(FULL)(batch)
    cut, _ = step_of(FULL, micro_rows=3)(batch)
    check_same_update(whole, cut)
    np.testing.assert_allclose(measured["loss"], slow_loss(batch), rtol=1e-6)


def test_last_micro_batch_is_filled_with_empty_rows():
    short, full = (step_arrays(make_batch(3, batch_size=size), 2) for size in (3, 4))
    assert short["tokens"].shape == (2, 2, 32)
    jax.tree.map(np.testing.assert_array_equal, short, full)


def test_one_micro_batch_compiles_to_the_step_without_a_loop():
    graph, trained, frozen = parts(lora=False)
    texts = []
    for micro_rows in (None, 8):
        program = build_program(graph, PLAIN, FULL, micro_rows=micro_rows)
        arrays = program.step_arrays(make_batch(8))
        state = Carried(trained, PLAIN.init(trained))
        texts.append(jax.jit(program.step).lower(state, frozen, arrays, Controls(np.float32(0))).as_text())
    assert texts[0] == texts[1]


def test_loss_is_the_mean_over_the_weighted_tokens_of_the_step():
    batch = make_batch(8)
    _, scalars = step_of(FULL, micro_rows=3)(batch)
    np.testing.assert_allclose(scalars["loss"], slow_loss(batch), rtol=1e-6)


def test_average_moves_towards_the_new_weights():
    made, _ = step_of(FULL, ADAMW, EMA)(make_batch(8))
    _, start, _ = parts(lora=False)
    for mean, old, new in zip(*map(jax.tree.leaves, (made.averaged, start, made.trained)), strict=True):
        np.testing.assert_allclose(mean, EMA * np.asarray(old) + (1 - EMA) * np.asarray(new), atol=1e-7)
    assert made.result is made.averaged


def test_step_over_the_largest_norm_changes_nothing():
    batch = make_batch(8)
    step = step_of(FULL, ADAMW, EMA)
    norm = np.float32(step(batch)[1]["grad_norm"])
    made, scalars = step(batch, Controls(np.float32(0.01), norm * np.float32(0.99)))
    assert bool(scalars["skipped"])
    jax.tree.map(np.testing.assert_array_equal, made, start_of(FULL, ADAMW, averaged=True))
    _, scalars = step(batch, Controls(np.float32(0.01), norm))
    assert not bool(scalars["skipped"])


BFLOAT16 = Forward(lora=False, compute_type="BFLOAT16")


def test_bfloat16_computes_products_in_16_bits_and_keeps_master_weights():
    batch = make_batch(8)
    wide, expected = step_of(FULL, ADAMW, EMA)(batch)
    made, scalars = step_of(BFLOAT16, ADAMW, EMA)(batch)
    types = {leaf.dtype for leaf in jax.tree.leaves(made) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert types == {jnp.dtype("float32")}
    assert differs(made, wide)
    np.testing.assert_allclose(scalars["loss"], expected["loss"], rtol=1e-2)
    np.testing.assert_allclose(scalars["grad_norm"], expected["grad_norm"], rtol=3e-2)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_bfloat16_leaves_float32_to_norms_softmax_and_loss(lora):
    graph, trained, frozen = parts(lora=lora)
    program = build_program(graph, PLAIN, Forward(lora=lora, compute_type="BFLOAT16"))
    arrays = batch_arrays(make_batch(8))
    text = jax.jit(program.validate).lower(trained, frozen, arrays).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == (13 if lora else 9)
    assert not [line for line in products if "f32" in line]
    assert text.count("custom_call @tunix_rt_training_forward") == 1  # the head's, beside the loss


def dropped(micro_rows: int | None = None, *, key=(3, 1), batch: Batch | None = None):
    take = step_of(LORA, PLAIN, micro_rows=micro_rows)
    return take(batch or make_batch(8), Controls(np.float32(1), key=step_key(*key)))[0]


def test_dropout_is_the_same_in_every_micro_batch():
    check_same_update(dropped(), dropped(micro_rows=3))


def test_dropout_follows_seed_and_step():
    assert not differs(dropped(key=(3, 1)), dropped(key=(3, 1)))
    assert differs(dropped(key=(3, 1)), dropped(key=(3, 2)))
    assert differs(dropped(key=(3, 1)), dropped(key=(4, 1)))


def test_dropout_changes_the_update():
    made, _ = step_of(Forward(lora=True))(make_batch(8))
    assert differs(made, dropped())


def test_validation_drops_nothing():
    graph, trained, frozen = parts(lora=True)
    given = (trained, frozen, batch_arrays(make_batch(8)))
    programs = [build_program(graph, PLAIN, forward) for forward in (LORA, Forward(lora=True))]
    texts = [jax.jit(program.validate).lower(*given).as_text() for program in programs]
    assert texts[0] == texts[1]
