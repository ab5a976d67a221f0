"""A small untrained model with a tokenizer of its own, made on the spot."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
from flax import nnx
from tokenizers import decoders, models, pre_tokenizers, trainers

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.model_files import new_directory, write_json
from tunix_rt.lm.provenance import Provenance, write_provenance
from tunix_rt.lm.weights import save_model, weights_digest

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_PAD, _BOS, _EOS = range(3)
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def make_tiny_model(
    out_dir: Path | str,
    texts: Iterable[str],
    *,
    seed: int = 0,
    vocab_size: int = 512,
    hidden_size: int = 96,
    num_layers: int = 3,
    head_dim: int = 16,
    max_positions: int = 1024,
    family: str = "llama",
) -> Provenance:
    """Write a random model of a family in Hugging Face layout to a new directory.

    Its byte-level BPE is trained on `texts` and spells every text; digits are tokens of their own. Its inner
    width is 8/3 of the hidden one where it is gated, and 4 times it where not.
    The same arguments give the same bytes.
    """
    with new_directory(Path(out_dir)) as scratch:
        size = _write_tokenizer(scratch, texts, vocab_size=vocab_size, max_positions=max_positions)
        config = ModelConfig(
            vocab_size=size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=hidden_size // head_dim,
            head_dim=head_dim,
            max_positions=max_positions,
            bos_id=_BOS,
            eos_ids=(_EOS,),
            pad_id=_PAD,
            family=family,
            **{
                "num_kv_heads": hidden_size // head_dim // 2,
                "intermediate_size": hidden_size * 8 // 3,
                **_settings(family, hidden_size, num_layers, num_heads=hidden_size // head_dim),
            },
        )
        save_model(Decoder(config, rngs=nnx.Rngs(seed)), scratch)
        provenance = Provenance(
            source="generated",
            name="tiny",
            package="",
            file="",
            sha256="",
            license="Apache-2.0",
            conversion=f"random weights of seed {seed}, never trained",
            weights_sha256=weights_digest(scratch),
        )
        write_provenance(scratch, provenance)
    return provenance


def _settings(family: str, hidden_size: int, num_layers: int, *, num_heads: int) -> dict[str, Any]:
    """What sets a family apart, as its published models have it; windows are narrow."""
    narrow = tuple(32 if (index + 1) % 2 else None for index in range(num_layers))
    gemma = {"norm": "rms_offset", "activation": "gelu_tanh", "embedding_scale": hidden_size**0.5}
    biases = {"qkv_bias": True, "o_bias": True, "mlp_bias": True}
    families: dict[str, dict[str, Any]] = {
        "llama": {},
        "mistral": {"windows": (32,) * num_layers},
        "qwen2": {"qkv_bias": True},
        "qwen3": {"qk_norm": True},
        "gemma": gemma,
        "gemma2": {
            **gemma,
            "post_norms": True,
            "windows": narrow,
            "attention_softcap": 50.0,
            "logit_softcap": 30.0,
        },
        "gemma3_text": {
            **gemma,
            "post_norms": True,
            "qk_norm": True,
            "windows": narrow,
            "rope_theta": 1e6,
            "local_rope_theta": 1e4,
        },
        "gpt2": {
            **biases,
            "norm": "layer",
            "activation": "gelu_tanh",
            "gated_mlp": False,
            "learned_positions": True,
            "num_kv_heads": num_heads,
            "intermediate_size": 4 * hidden_size,
        },
    }
    return families[family]


def _write_tokenizer(directory: Path, texts: Iterable[str], *, vocab_size: int, max_positions: int) -> int:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _SPECIAL[_BOS],
        "eos_token": _SPECIAL[_EOS],
        "pad_token": _SPECIAL[_PAD],
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_positions,
        "chat_template": _CHAT_TEMPLATE,
    }
    write_json(directory / "tokenizer_config.json", settings)
    return backend.get_vocab_size(with_added_tokens=True)
