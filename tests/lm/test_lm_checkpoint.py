import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tunix_rt.lm.checkpoint import host_copy, load_checkpoint, save_checkpoint, verify_checkpoint
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


def test_a_copy_on_the_host_outlives_the_buffers_it_was_made_of() -> None:
    tree = {"a": jnp.arange(3.0), "b": [jnp.ones((2, 2), jnp.int32)]}
    copied = host_copy(tree)
    jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 7, tree), donate_argnums=0)(tree)
    assert jax.tree.leaves(tree)[0].is_deleted()
    np.testing.assert_array_equal(copied["a"], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(copied["b"][0], np.ones((2, 2), np.int32))


def test_damaged_and_missing_files_are_all_named(trees, tmp_path) -> None:
    save_checkpoint(tmp_path / "7", trees=trees, state=STATE)
    verify_checkpoint(tmp_path / "7")
    (tmp_path / "7" / "state.json").write_text("{}")
    (tmp_path / "7" / "optimizer.safetensors").unlink()
    with pytest.raises(ModelError) as caught:
        verify_checkpoint(tmp_path / "7")
    assert caught.value.field == "7: optimizer.safetensors, state.json"


def test_a_manifest_of_another_format_is_refused(trees, tmp_path) -> None:
    save_checkpoint(tmp_path / "7", trees=trees, state=STATE)
    (tmp_path / "7" / "manifest.json").write_text('{"format": 2, "files": {}}')
    with pytest.raises(ModelError, match="has format 2; this version reads format 1"):
        verify_checkpoint(tmp_path / "7")


def test_arrays_that_do_not_fit_are_all_named(tmp_path) -> None:
    save_checkpoint(tmp_path / "7", trees={"model": {"a": jnp.zeros(3), "b": jnp.zeros(2)}}, state=STATE)
    template = {"a": jnp.zeros(4), "b": jnp.zeros(2), "c": jnp.zeros(1)}
    with pytest.raises(ModelError) as caught:
        load_checkpoint(tmp_path / "7", templates={"model": template})
    assert caught.value.field == "model.safetensors: a, c"
