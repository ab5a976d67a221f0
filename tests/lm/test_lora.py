import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.lora import LoraParam, add_lora, export_lora, has_lora, import_lora, lora_config, merge_lora
from tunix_rt.lm.model import Decoder

CONFIG = ModelConfig(64, 32, 48, 2, 4, 2, 8, 128)
TOKENS = jnp.arange(12, dtype=jnp.int32)[None]


def _model(*, tuned: bool, targets: tuple[str, ...] = ("q", "down")) -> Decoder:
    model = Decoder(CONFIG, rngs=nnx.Rngs(0))
    add_lora(model, 4, alpha=8.0, targets=targets, rngs=nnx.Rngs(1))
    if tuned:
        for layer in model.layers:
            layer.q.lora_b[...] = layer.q.lora_b[...] + 0.5
    return model


def _hidden(model: Decoder) -> np.ndarray:
    return np.asarray(nnx.jit(Decoder.hidden)(model, TOKENS, TOKENS, jnp.ones_like(TOKENS)))


def test_a_new_adapter_changes_nothing() -> None:
    np.testing.assert_array_equal(_hidden(_model(tuned=False)), _hidden(Decoder(CONFIG, rngs=nnx.Rngs(0))))


def test_merging_keeps_the_outputs_and_removes_the_adapter() -> None:
    model = _model(tuned=True)
    before = _hidden(model)
    merge_lora(model)
    assert not has_lora(model)
    np.testing.assert_allclose(_hidden(model), before, atol=1e-5)


def test_a_filter_separates_the_adapter_from_the_base() -> None:
    adapter, base = nnx.state(_model(tuned=True), LoraParam, nnx.Param)
    assert {path[2] for path, _ in nnx.to_flat_state(adapter)} == {"q", "down"}
    assert len(nnx.to_flat_state(adapter)) == 2 * 2 * 2
    assert not any("lora" in str(path[-1]) for path, _ in nnx.to_flat_state(base))


def test_exported_adapter_loads_into_a_fresh_model() -> None:
    tuned = _model(tuned=True)
    tensors = export_lora(tuned)
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (4, 32)
    assert tensors["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"].shape == (32, 4)
    fresh = Decoder(CONFIG, rngs=nnx.Rngs(0))
    import_lora(fresh, tensors, alpha=8.0)
    np.testing.assert_array_equal(_hidden(fresh), _hidden(tuned))


def test_adapter_config_is_pefts() -> None:
    assert lora_config(_model(tuned=True)) == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8.0,
        "lora_dropout": 0.0,
        "target_modules": ["down_proj", "q_proj"],
        "bias": "none",
    }


def test_an_adapter_of_another_model_is_refused() -> None:
    tensors = export_lora(_model(tuned=True))
    with pytest.raises(ModelError, match=r"layers\.1"):
        import_lora(Decoder(ModelConfig(64, 32, 48, 1, 4, 2, 8, 128), rngs=nnx.Rngs(0)), tensors, alpha=8.0)


@pytest.mark.parametrize(
    ("rank", "targets", "message"),
    [(0, ("q",), "rank is 0"), (4, ("embed_tokens",), "'embed_tokens' is unknown")],
)
def test_bad_settings_are_refused(rank: int, targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add_lora(Decoder(CONFIG, rngs=nnx.Rngs(0)), rank, alpha=8.0, targets=targets, rngs=nnx.Rngs(1))
