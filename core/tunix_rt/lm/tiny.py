"""A small untrained model with a tokenizer of its own, made on the spot."""

from collections.abc import Iterable
from pathlib import Path

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
    max_positions: int = 1024,
) -> Provenance:
    """Write a random Llama-type model in Hugging Face layout to a new directory.

    Its byte-level BPE is trained on `texts` and spells every text; digits are tokens of their own.
    The same arguments give the same bytes.
    """
    with new_directory(Path(out_dir)) as scratch:
        size = _write_tokenizer(scratch, texts, vocab_size=vocab_size, max_positions=max_positions)
        config = ModelConfig(
            vocab_size=size,
            hidden_size=hidden_size,
            intermediate_size=hidden_size * 8 // 3,
            num_layers=num_layers,
            num_heads=hidden_size // 16,
            num_kv_heads=hidden_size // 32,
            head_dim=16,
            max_positions=max_positions,
            bos_id=_BOS,
            eos_ids=(_EOS,),
            pad_id=_PAD,
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
