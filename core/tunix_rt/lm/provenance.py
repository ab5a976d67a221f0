"""Where a model directory's weights come from, written beside them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.lm.model_files import read_json, write_json

PROVENANCE_FILE = "provenance.json"


@dataclass(frozen=True)
class Provenance:
    """The origin of a model directory.

    `source` is a kind ("gguf", "huggingface", "peft", "generated"), `package` a distribution and version
    or "", `file` and `sha256` what was read, `weights_sha256` the digest of the directory's weights.
    """

    source: str
    name: str
    package: str
    file: str
    sha256: str
    license: str
    conversion: str
    weights_sha256: str


def write_provenance(directory: Path, provenance: Provenance) -> None:
    """Write provenance.json, and a README.md that says the same to a reader."""
    write_json(directory / PROVENANCE_FILE, dataclasses.asdict(provenance))
    lines = [f"# {provenance.name}", ""]
    lines += [f"- {label}: {value}" for label, value in _described(provenance) if value]
    (directory / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_provenance(directory: Path | str) -> Provenance:
    """Read a model directory's provenance.json."""
    return Provenance(**read_json(Path(directory) / PROVENANCE_FILE))


def _described(provenance: Provenance) -> list[tuple[str, str]]:
    return [
        ("Source", provenance.source),
        ("Package", provenance.package),
        ("File", provenance.file),
        ("SHA-256 of the file", provenance.sha256),
        ("License", provenance.license),
        ("Conversion", provenance.conversion),
        ("SHA-256 of the weights here", provenance.weights_sha256),
    ]
