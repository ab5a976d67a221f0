"""Write the reference numbers of transformers for a tiny model of every family that tunix_rt.lm reads.

Needs torch, which nothing else here does: the extra `reference`, in an environment of its own.

    python3.11 -m venv .reference-venv
    .venv/bin/uv pip install --python .reference-venv --constraint requirements/lock.txt '.[reference]'
    .reference-venv/bin/python tests/lm/reference/make_families.py

families.json holds each model's config.json as transformers writes it, its tensors' shapes, the SHA-256 of
its model.safetensors and, of ADAPTED, the shapes of PEFT's adapter; families.npz the token ids and all
logits. The weights themselves are made from the tensors' names by `weight`, which the tests do again. The
stored numbers are those of torch 2.13.0, transformers 5.23.0 and peft 0.21.2.
"""

import hashlib
import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
LENGTH = 24
_SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 50.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
_GEMMA3_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 8.0},
}
# Case -> class of the model, and what its config says beside the sizes above.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "llama_biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama_linear": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "llama3": ("Llama", {"rope_parameters": _LLAMA3, "head_dim": 16, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": 8, "head_dim": 12}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "rope_parameters": {**_YARN, "rope_theta": 1e6}}),
    "qwen2_window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "rope_parameters": _YARN},
    ),
    "qwen3": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3_biases": ("Qwen3", {"head_dim": 16, "attention_bias": True}),
    "gemma": ("Gemma", {"head_dim": 16, "num_key_value_heads": 1}),
    "gemma2": (
        "Gemma2",
        {
            "head_dim": 16,
            "sliding_window": 8,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 4.0,
            "final_logit_softcapping": 6.0,
        },
    ),
    "gemma3": (
        "Gemma3Text",
        {
            "head_dim": 16,
            "num_hidden_layers": 3,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "query_pre_attn_scalar": 24,
            "rope_parameters": _GEMMA3_ROPE,
        },
    ),
    "gpt2": ("GPT2", {"n_inner": None, "activation_function": "gelu_new"}),
    "gpt2_gelu": ("GPT2", {"n_inner": 40, "activation_function": "gelu"}),
}
# Cases whose model is also run with an adapter of PEFT, and what it is made of.
ADAPTED: dict[str, dict[str, Any]] = {
    "gpt2": {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    "qwen2": {"target_modules": ["q_proj", "o_proj", "gate_proj", "down_proj"]},
}
_GPT2_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of a name: normal numbers, around 1 where it is the scale of a norm."""
    made = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    is_scale = len(shape) == 1 and name.endswith("weight")
    return made * np.float32(0.3 if len(shape) == 1 else 0.2) + np.float32(is_scale)


def _settings(case: str) -> dict[str, Any]:
    kind, own = CASES[case]
    sizes = dict(_SIZES)
    if kind == "GPT2":
        for name in ("intermediate_size", "num_key_value_heads"):
            del sizes[name]
        sizes = {_GPT2_NAMES.get(name, name): value for name, value in sizes.items()}
    return {**sizes, **own}


def _make(case: str, folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import torch
    import transformers
    from safetensors import safe_open

    kind = CASES[case][0]
    config = getattr(transformers, f"{kind}Config")(**_settings(case))
    model_class = getattr(transformers, {"Gemma3Text": "Gemma3"}.get(kind, kind) + _suffix(kind))
    model = model_class._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))))
    ids = np.random.default_rng(zlib.crc32(case.encode())).integers(3, 64, LENGTH).astype(np.int32)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)[None].long()).logits[0].numpy()
    model.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    facts = {
        "config": (folder / "config.json").read_text(),
        "shapes": shapes,
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    }
    arrays = {f"ids_{case}": ids, f"logits_{case}": logits}
    if case in ADAPTED:
        facts["adapter"], arrays[f"adapted_{case}"] = _adapt(model, case, ids)
    return facts, arrays


def _adapt(model: Any, case: str, ids: np.ndarray) -> tuple[dict[str, list[int]], np.ndarray]:
    import peft
    import torch

    settings = peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **ADAPTED[case])
    adapted = peft.get_peft_model(model, settings).eval()
    made = peft.get_peft_model_state_dict(adapted)
    shapes = {name: list(tensor.shape) for name, tensor in made.items()}
    weights = {name: torch.from_numpy(weight(name, tuple(shape))) for name, shape in shapes.items()}
    peft.set_peft_model_state_dict(adapted, weights)
    with torch.no_grad():
        return shapes, adapted(torch.from_numpy(ids)[None].long()).logits[0].numpy()


def _suffix(kind: str) -> str:
    return "LMHeadModel" if kind == "GPT2" else "ForCausalLM"


if __name__ == "__main__":
    all_facts, all_arrays = {}, {}
    for each in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            made_facts, made_arrays = _make(each, Path(scratch))
        all_facts[each] = made_facts
        all_arrays |= made_arrays
    (HERE / "families.json").write_text(json.dumps(all_facts, indent=1) + "\n")
    np.savez_compressed(HERE / "families.npz", **all_arrays)
