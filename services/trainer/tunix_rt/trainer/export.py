"""The final weights of a run as a model directory that can be served and tuned again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.numpy import save_file

from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.lm.lora import export_lora, has_lora, lora_config, merge_lora
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.weights import save_model

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def export_model(model: Decoder, directory: JobDirectory) -> None:
    """Write `model/` in Hugging Face layout; adapters are merged, and kept beside in PEFT's layout."""
    partial = directory.root / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if has_lora(model):
        _write_adapter(model, partial / "adapter")
        merge_lora(model)
    save_model(model, partial)
    for name in _TOKENIZER_FILES:
        if (directory.base / name).exists():
            shutil.copyfile(directory.base / name, partial / name)
    shutil.rmtree(directory.model, ignore_errors=True)
    partial.replace(directory.model)


def _write_adapter(model: Decoder, folder: Path) -> None:
    folder.mkdir()
    save_file(export_lora(model), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.dumps(lora_config(model), indent=2) + "\n"
    (folder / "adapter_config.json").write_text(config, encoding="utf-8")
