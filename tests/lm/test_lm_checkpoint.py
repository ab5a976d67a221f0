import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tunix_rt.lm.checkpoint import load_checkpoint, save_checkpoint
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.model import Decoder

STATE = {"step": 7, "key": [1, 2], "position": {"epoch": 0, "index": 96}}


@pytest.fixture
def trees(lively_model: Decoder) -> dict[str, object]:
    parameters = nnx.state(lively_model, nnx.Param)
    return {"model": parameters, "optimizer": optax.adamw(1e-3).init(parameters)}


def test_a_checkpoint_loads_bit_for_bit(trees, tmp_path) -> None:
    save_checkpoint(tmp_path / "7", trees=trees, state=STATE)
    loaded, state = load_checkpoint(tmp_path / "7", templates=trees)
    assert state == STATE
    assert jax.tree.structure(loaded) == jax.tree.structure(trees)
    for one, other in zip(jax.tree.leaves(loaded), jax.tree.leaves(trees), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)


def test_equal_states_have_equal_files(trees, tmp_path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, trees=trees, state=STATE)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    assert all((tmp_path / "a" / each).read_bytes() == (tmp_path / "b" / each).read_bytes() for each in files)


def test_a_failed_save_leaves_nothing(trees, tmp_path) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "7", trees=trees, state={"key": object()})
    assert list(tmp_path.iterdir()) == []


def test_arrays_that_do_not_fit_are_all_named(tmp_path) -> None:
    save_checkpoint(tmp_path / "7", trees={"model": {"a": jnp.zeros(3), "b": jnp.zeros(2)}}, state=STATE)
    template = {"a": jnp.zeros(4), "b": jnp.zeros(2), "c": jnp.zeros(1)}
    with pytest.raises(ModelError) as caught:
        load_checkpoint(tmp_path / "7", templates={"model": template})
    assert caught.value.field == "model.safetensors: a, c"
