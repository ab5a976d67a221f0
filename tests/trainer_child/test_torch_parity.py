"""A step's loss and gradients against torch's, stored by reference/make_reference.py."""

from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.layout import tensor_shapes
from tunix_rt.lm.weights import build_model, export_tensors
from tunix_rt.trainer.batches import Example, fill_batch
from tunix_rt.trainer.loss import completion_loss
from tunix_rt.trainer.program import batch_arrays

CONFIG = ModelConfig(
    vocab_size=61,
    hidden_size=24,
    intermediate_size=40,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    max_positions=64,
)


@pytest.fixture(scope="module")
def stored():
    with np.load(Path(__file__).parent / "reference" / "torch_step.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module", params=[[[0], [1], [2]], [[0, 1, 2]]], ids=["padded", "packed"])
def step(request, stored):
    """Loss, and the gradients under the names of Hugging Face, of the stored batch laid out in rows."""
    weights = {name: stored[f"weights/{name}"] for name in tensor_shapes(CONFIG)}
    graph, state = nnx.split(build_model(CONFIG, weights))
    examples = [
        Example(
            str(row),
            stored["tokens"][row, :length].astype(np.int32),
            np.concatenate([[0], stored["weights"][row, : length - 1]]).astype(np.float32),
        )
        for row, length in enumerate(stored["lengths"])
    ]
    arrays = batch_arrays(fill_batch(examples, request.param, batch_size=len(request.param), max_length=56))

    @jax.jit
    @jax.value_and_grad
    def graded(state):
        model = nnx.merge(graph, state)
        hidden = model.hidden(arrays["tokens"], arrays["positions"], arrays["segments"])
        return completion_loss(hidden, model.head_weight(), arrays["gathered"], train_head=True).loss

    loss, gradient = graded(state)
    return float(loss), gradient, export_tensors(nnx.merge(graph, gradient))


def test_the_loss_is_torchs(step, stored):
    assert step[0] == pytest.approx(float(stored["loss"]), rel=1e-5)


def test_the_gradient_norm_is_torchs(step, stored):
    assert float(optax.tree.norm(step[1])) == pytest.approx(float(stored["grad_norm"]), rel=1e-5)


def test_gradients_are_torchs(step, stored):
    kept = [name for name in stored if name.startswith("gradients/")]
    assert len(kept) == 4
    for name in kept:
        np.testing.assert_allclose(step[2][name.removeprefix("gradients/")], stored[name], atol=1e-5)
