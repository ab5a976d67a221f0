"""The tensors of a GGUF file under Hugging Face's names, in float32 and in Hugging Face's order."""

import gguf
import numpy as np

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError

FREQUENCY_FACTORS = "rope_freqs.weight"
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_POST_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_GPT2_LAYER = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_GPT2_OUTER = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}


def hf_name(name: str, config: ModelConfig) -> str:
    """Hugging Face's name of a tensor; of an unknown one, a name that no model has."""
    gpt2 = config.family == "gpt2"
    inside = _GPT2_LAYER if gpt2 else {**_LAYER, **(_POST_NORMS if config.post_norms else {})}
    outside = _GPT2_OUTER if gpt2 else _OUTER
    if name.startswith("blk."):
        _, index, inner, kind = name.split(".", 3)
        return f"{'transformer.h' if gpt2 else 'model.layers'}.{index}.{inside.get(inner, inner)}.{kind}"
    stem, _, kind = name.rpartition(".")
    return f"{outside.get(stem, stem)}.{kind}"


def hf_values(tensor: gguf.ReaderTensor, config: ModelConfig) -> np.ndarray:
    """A tensor's values as Hugging Face orders them, undoing what llama.cpp's converter does to a family."""
    values = dequantised(tensor)
    if config.family == "llama" and ".attn_q." in tensor.name:
        values = _half_split(values, config.num_heads)
    elif config.family == "llama" and ".attn_k." in tensor.name:
        values = _half_split(values, config.num_kv_heads)
    elif config.norm == "rms_offset" and tensor.name.endswith("norm.weight"):
        values = values - np.float32(1)
    elif config.family == "gpt2" and tensor.name.startswith("blk.") and values.ndim == 2:
        values = values.T
    return np.ascontiguousarray(values)


def dequantised(tensor: gguf.ReaderTensor) -> np.ndarray:
    """A tensor's values in float32, the last axis being the one that lies together."""
    shape = tuple(int(size) for size in reversed(tensor.shape))
    try:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        problem = f"is of type {tensor.tensor_type.name}, which is not supported."
        remedy = "Use a file in F32, F16, BF16, Q8_0, Q6_K, Q5 or Q4."
        raise ModelError(tensor.name, problem, remedy=remedy) from error
    return np.asarray(values.astype(np.float32).reshape(shape))


def _half_split(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undo GGUF's interleaving of the two rotary halves in each head's rows."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)
