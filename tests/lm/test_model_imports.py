import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.gguf_import import import_gguf
from tunix_rt.lm.hf_import import import_hf
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.lm.weights import weights_digest


def _gguf(path: Path, architecture: str) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "field"),
    [
        ("bert", "general.architecture"),
        ("gpt2", "gpt2.embedding_length"),
        ("llama", "llama.attention.head_count"),
    ],
)
def test_an_unusable_gguf_names_its_field(tmp_path: Path, architecture: str, field: str) -> None:
    with pytest.raises(ModelError) as caught:
        import_gguf(_gguf(tmp_path / "model.gguf", architecture), tmp_path / "out")
    assert caught.value.field == field
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"not a GGUF file, but long enough to hold a header"])
def test_a_missing_or_foreign_gguf_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    assert caught.value.field == "model.gguf"


def test_a_hugging_face_directory_is_copied_with_its_provenance(tiny_directory: Path, tmp_path: Path) -> None:
    provenance = import_hf(tiny_directory, tmp_path / "out")
    assert provenance.source == "generated"
    assert provenance.weights_sha256 == weights_digest(tmp_path / "out")
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (tiny_directory / "tokenizer.json").read_bytes()


def test_a_directory_without_provenance_gets_one(tiny_directory: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_directory, tmp_path / "my-model")
    (folder / "provenance.json").unlink()
    assert import_hf(folder, tmp_path / "out").source == "huggingface"
    assert json.loads((tmp_path / "out/provenance.json").read_text())["name"] == "my-model"


def test_a_model_with_a_missing_tensor_is_not_imported(tiny_directory: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_directory, tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"missing: model.layers.2.input_layernorm.weight, "):
        import_hf(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_used_directory_is_not_written_over(tiny_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError):
        import_hf(tiny_directory, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_base_model_is_imported_with_a_template_of_its_own(tiny_directory: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_directory, tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="give a template when the model is imported"):
        import_hf(folder, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    import_hf(folder, tmp_path / "out", chat_template=template)
    assert Tokenizer.load(tmp_path / "out").chat_text([{"role": "user", "content": "Hi"}], True) == "Hi\n"
