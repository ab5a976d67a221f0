"""Write torch's loss, gradient norm and some gradients for one batch of padded rows in float32.

Needs torch, which nothing else here does, so it runs in an environment of its own:

    python3.11 -m venv .reference-venv
    .reference-venv/bin/pip install torch==2.13.0 transformers numpy
    .reference-venv/bin/python tests/trainer_child/reference/make_reference.py

The weights are drawn from a seed by numpy. The file torch_step.npz appears beside this script.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
SHAPE = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
LENGTHS = (19, 7, 28)
KEPT = (
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.1.mlp.gate_proj.weight",
    "model.layers.1.input_layernorm.weight",
)


def main() -> None:
    """One forward and backward pass."""
    random = np.random.default_rng(7)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, attn_implementation="eager")).float()
    arrays = {}
    for name, parameter in model.named_parameters():
        drawn = random.normal(scale=0.2, size=tuple(parameter.shape)).astype(np.float32)
        drawn = drawn + 1 if parameter.ndim == 1 else drawn
        parameter.data = torch.tensor(drawn)
        arrays[f"weights/{name}"] = drawn
    longest = max(LENGTHS)
    tokens, mask, weights = (
        np.zeros((len(LENGTHS), longest), kind) for kind in (np.int64, np.int64, np.float32)
    )
    for row, length in enumerate(LENGTHS):
        tokens[row, :length] = random.integers(0, SHAPE["vocab_size"], length)
        mask[row, :length] = 1
        weights[row, length // 3 : length - 1] = random.uniform(0.5, 2.0, length - 1 - length // 3)
    targets = np.roll(tokens, -1, axis=1)
    logits = model(input_ids=torch.tensor(tokens), attention_mask=torch.tensor(mask)).logits
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(targets).flatten(), reduction="none"
    )
    share = torch.tensor(weights).flatten()
    loss = (losses * share).sum() / share.sum()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    found = dict(model.named_parameters())
    arrays |= {f"gradients/{name}": found[name].grad.numpy() for name in KEPT}
    arrays |= {"loss": np.array(loss.item()), "grad_norm": np.array(norm.item())}
    arrays |= {"tokens": tokens, "targets": targets, "weights": weights, "lengths": np.array(LENGTHS)}
    np.savez_compressed(HERE / "torch_step.npz", **arrays)


if __name__ == "__main__":
    main()
