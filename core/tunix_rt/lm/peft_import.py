"""Import a PEFT adapter directory: merged into its base model, and kept beside it."""

import hashlib
import shutil
from pathlib import Path

from tunix_rt.lm.adapters import ADAPTER_CONFIG, ADAPTER_FILE, load_adapter
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.lora import merge_lora
from tunix_rt.lm.model_files import new_directory, read_json
from tunix_rt.lm.provenance import Provenance, write_provenance
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import load_model, save_model, weights_digest

_COPIED = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def import_peft(directory: Path | str, base: Path | str, out_dir: Path | str) -> Provenance:
    """Merge an adapter into the model directory `base` and write the result to `out_dir`, a new directory.

    A tokenizer or chat template that came with the adapter takes the place of the base's. Raises ModelError
    for an adapter of another kind or of another base.
    """
    folder, base_folder = Path(directory), Path(base)
    for name in (ADAPTER_CONFIG, ADAPTER_FILE):
        if not (folder / name).exists():
            remedy = "Give a directory that PEFT's save_pretrained wrote, with safetensors."
            raise ModelError(name, f"there is no such file in {folder.name}.", remedy=remedy)
    base_digest = weights_digest(base_folder)
    model = load_adapter(load_model(base_folder), folder)
    merge_lora(model)
    with new_directory(Path(out_dir)) as scratch:
        save_model(model, scratch)
        own_tokenizer = (folder / "tokenizer.json").exists()
        for name in _COPIED:
            source = folder if own_tokenizer and (folder / name).exists() else base_folder
            if (source / name).exists():
                shutil.copyfile(source / name, scratch / name)
        Tokenizer.load(scratch)
        (scratch / "adapter").mkdir()
        for name in (ADAPTER_CONFIG, ADAPTER_FILE):
            shutil.copyfile(folder / name, scratch / "adapter" / name)
        provenance = _provenance(folder, scratch, base_digest)
        write_provenance(scratch, provenance)
    return provenance


def _provenance(folder: Path, made: Path, base_digest: str) -> Provenance:
    with (folder / ADAPTER_FILE).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    base_name = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    return Provenance(
        source="peft",
        name=folder.resolve().name,
        package="",
        file=ADAPTER_FILE,
        sha256=sha256,
        license="",
        conversion=f"merged into a base ({base_name or 'unnamed'}) whose weights have SHA-256 {base_digest}",
        weights_sha256=weights_digest(made),
    )
