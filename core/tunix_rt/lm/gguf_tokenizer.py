"""The tokenizer inside a GGUF file, as the files of a Hugging Face directory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.gguf_fields import GgufFields
from tunix_rt.lm.model_files import write_json

_CONTROL, _USER_DEFINED = 3, 4  # kinds in tokenizer.ggml.token_type
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {"llama-bpe": _WORDS + r"\p{N}{1,3}" + _REST, "qwen2": _WORDS + r"\p{N}" + _REST}


def write_tokenizer(fields: GgufFields, directory: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json. Raises ModelError for a tokenizer of another kind."""
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    types = fields["tokenizer.ggml.token_type"]
    backend = _backend(fields, tokens)
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL]
    plain = [token for token, kind in zip(tokens, types, strict=True) if kind == _USER_DEFINED]
    backend.add_special_tokens(special)
    if plain:
        backend.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in plain])
    backend.save(str(directory / "tokenizer.json"))
    write_json(directory / "tokenizer_config.json", _settings(fields, tokens))


def _backend(fields: GgufFields, tokens: list[str]) -> tokenizers.Tokenizer:
    kind, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if kind == "llama":
        return _from_scores(fields, tokens)
    if kind != "gpt2" or pre not in ("smollm", "gpt-2", *_PATTERNS):
        remedy = "Import the model's Hugging Face directory instead; it has a tokenizer.json."
        raise ModelError("tokenizer.ggml.pre", f"{kind}/{pre} is not supported.", remedy=remedy)
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    whole = {"ignore_merges": True} if pre == "llama-bpe" else {}
    backend = tokenizers.Tokenizer(_bpe(vocab, merges, whole))
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizer(pre)
    backend.decoder = decoders.ByteLevel()
    return backend


def pre_tokenizer(pre: str) -> Any:
    """What cuts a text before merging, by the name that GGUF has for it."""
    if pre == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre == "smollm":
        digits, level = pre_tokenizers.Digits(individual_digits=True), {"add_prefix_space": False}
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(**level)])
    split = pre_tokenizers.Split(Regex(_PATTERNS[pre]), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _from_scores(fields: GgufFields, tokens: list[str]) -> tokenizers.Tokenizer:
    """SentencePiece's BPE (Llama 2, Mistral, Gemma), where what scores highest is merged first."""
    scores: list[float] = fields["tokenizer.ggml.scores"]
    vocab = {token: index for index, token in enumerate(tokens)}
    found = sorted(_merges(tokens, vocab, scores), key=lambda each: each[0])
    unknown = tokens[fields.get("tokenizer.ggml.unknown_token_id", 0)]
    settings = {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True}
    backend = tokenizers.Tokenizer(_bpe(vocab, [pair for _, pair in found], settings))
    prefix = bool(fields.get("tokenizer.ggml.add_space_prefix", True))
    spaces = [normalizers.Prepend("▁")] if prefix else []
    backend.normalizer = normalizers.Sequence([*spaces, normalizers.Replace(" ", "▁")])
    ends = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *ends]
    )
    return backend


def _bpe(vocab: dict[str, int], merges: list[Any], settings: dict[str, Any]) -> models.BPE:
    try:
        return models.BPE(vocab=vocab, merges=merges, **settings)
    except Exception as error:  # tokenizers raises plain Exception
        remedy = "Use a complete GGUF file."
        raise ModelError("tokenizer.ggml.merges", f"cannot be used ({error}).", remedy=remedy) from error


def _merges(
    tokens: list[str], vocab: dict[str, int], scores: list[float]
) -> Iterator[tuple[tuple[float, int, int], tuple[str, str]]]:
    """Every pair of tokens that makes a token, with what orders the pairs."""
    for token, score in zip(tokens, scores, strict=True):
        for place in range(1, len(token)):
            left, right = token[:place], token[place:]
            if left in vocab and right in vocab:
                yield (-score, vocab[left], vocab[right]), (left, right)


def _settings(fields: GgufFields, tokens: list[str]) -> dict[str, Any]:
    bos = fields.get("tokenizer.ggml.bos_token_id")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None if bos is None else tokens[bos],
        "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "unk_token": tokens[fields.get("tokenizer.ggml.unknown_token_id", 0)],
        "pad_token": tokens[fields.pad_id()],
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": fields.own("context_length"),
        "chat_template": fields.get("tokenizer.chat_template"),
    }
