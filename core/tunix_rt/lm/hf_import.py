"""Import a Hugging Face directory."""

import hashlib
import shutil
from pathlib import Path

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.model_files import new_directory, read_json
from tunix_rt.lm.provenance import PROVENANCE_FILE, Provenance, read_provenance, write_provenance
from tunix_rt.lm.tokenizer import CHAT_TEMPLATE, Tokenizer
from tunix_rt.lm.weights import INDEX_FILE, check_directory, weight_files, weights_digest

_SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    CHAT_TEMPLATE,
    INDEX_FILE,
)


def import_hf(directory: Path | str, out_dir: Path | str, *, chat_template: str = "") -> Provenance:
    """Check a model directory and copy what is needed of it to `out_dir`, a new directory.

    Config, tokenizer, chat template and the shape of every tensor are checked first, so that a model
    that cannot be used is refused here; a provenance.json that came along is kept. A `chat_template` takes
    the place of the model's own: base models such as GPT-2 have none.
    """
    folder = Path(directory)
    config = check_directory(folder)
    with new_directory(Path(out_dir)) as scratch:
        for name in _SETTINGS:
            if (folder / name).exists():
                shutil.copyfile(folder / name, scratch / name)
        if chat_template:
            (scratch / CHAT_TEMPLATE).write_text(chat_template, encoding="utf-8")
        tokenizer = Tokenizer.load(scratch)
        if tokenizer.vocab_size > config.vocab_size:
            problem = f"has {tokenizer.vocab_size} tokens, the model {config.vocab_size}."
            remedy = "Use the tokenizer that belongs to the weights."
            raise ModelError("tokenizer.json", problem, remedy=remedy)
        tokenizer.chat_text([{"role": "user", "content": "Hello"}], True)
        for path in weight_files(folder):
            shutil.copyfile(path, scratch / path.name)
        provenance = _provenance(folder, scratch)
        write_provenance(scratch, provenance)
    return provenance


def _provenance(folder: Path, copied: Path) -> Provenance:
    digest = weights_digest(copied)
    if (folder / PROVENANCE_FILE).exists():
        known = read_provenance(folder)
        if known.weights_sha256 == digest:
            return known
    first = weight_files(copied)[0]
    with first.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    name = read_json(folder / "config.json").get("_name_or_path") or folder.resolve().name
    return Provenance(
        source="huggingface",
        name=str(name),
        package="",
        file=first.name,
        sha256=sha256,
        license="",
        conversion="copied as it was",
        weights_sha256=digest,
    )
