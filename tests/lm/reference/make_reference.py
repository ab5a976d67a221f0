"""Write the reference numbers of transformers' LlamaForCausalLM in float32.

Needs torch, which nothing else here does, so it runs in an environment of its own:

    python3.11 -m venv .reference-venv
    .reference-venv/bin/pip install torch==2.13.0 transformers safetensors numpy
    .reference-venv/bin/python tests/lm/reference/make_reference.py SMOLLM2_DIRECTORY

SMOLLM2_DIRECTORY is what `tunix_rt.lm.gguf_import.import_smollm2` writes. The files smollm2.npz and
tiny_llama.npz appear beside this script.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
PROMPTS = (
    "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n",
    "Once upon a time, in a small village by the sea, there lived a girl who counted every boat that came "
    "home. On Monday she counted 12 boats, on Tuesday 31, and on Wednesday 7. " * 5,
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))  # ",
)
TINY = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "rope_theta": 5000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def logits_of(model: LlamaForCausalLM, ids: list[int]) -> np.ndarray:
    """Logits (length, vocabulary) of one sequence."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def smollm2(directory: Path) -> dict[str, np.ndarray]:
    """Of each prompt: ids, argmax everywhere, and the logits of chosen positions and vocabulary ids."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    rng = np.random.default_rng(0)
    arrays = {}
    for index, prompt in enumerate(PROMPTS):
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        logits = logits_of(model, ids)
        positions = np.unique(np.linspace(0, len(ids) - 1, 12).astype(np.int32))
        top = np.argsort(logits[positions], axis=1)[:, -2:].ravel()
        vocabulary = np.unique(np.concatenate([top, rng.integers(0, logits.shape[1], 64)])).astype(np.int32)
        arrays[f"ids_{index}"] = np.array(ids, np.int32)
        arrays[f"argmax_{index}"] = logits.argmax(axis=1).astype(np.int32)
        arrays[f"positions_{index}"] = positions
        arrays[f"vocabulary_{index}"] = vocabulary
        arrays[f"logits_{index}"] = logits[np.ix_(positions, vocabulary)]
    return arrays


def tiny() -> dict[str, np.ndarray]:
    """A random model with grouped heads and a head of its own: weights, ids and all logits."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**TINY)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (parameter.ndim == 1))
    ids = np.random.default_rng(1).integers(0, TINY["vocab_size"], 40).tolist()
    arrays = {f"weight:{name}": tensor.numpy() for name, tensor in model.state_dict().items()}
    return arrays | {"ids": np.array(ids, np.int32), "logits": logits_of(model, ids)}


if __name__ == "__main__":
    np.savez_compressed(HERE / "smollm2.npz", **smollm2(Path(sys.argv[1])))
    np.savez_compressed(HERE / "tiny_llama.npz", **tiny())
