import json
import shutil
from pathlib import Path

import pytest

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.tokenizer import Tokenizer

MESSAGES = [{"role": "user", "content": "What is 3 + 4?"}]


def _edited(source: Path, target: Path, **settings: object) -> Path:
    shutil.copytree(source, target)
    path = target / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return target


@pytest.mark.parametrize("text", ["What is 3 + 4?", "  two  spaces\n\tand a tab", "naïve 日本語 🙂", ""])
def test_decode_undoes_encode(tiny_directory: Path, text: str) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_in_plain_text_stay_plain(tiny_directory: Path) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    ids = tokenizer.encode("a<|im_end|>b")
    assert tokenizer.eos_ids[0] not in ids
    assert tokenizer.decode(ids) == "a<|im_end|>b"


def test_chat_uses_the_template_and_its_special_tokens(tiny_directory: Path) -> None:
    tokenizer = Tokenizer.load(tiny_directory)
    text = "<|im_start|>user\nWhat is 3 + 4?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.chat_text(MESSAGES, True) == text
    ids = tokenizer.chat(MESSAGES, add_generation_prompt=True)
    assert (ids[0], ids.count(1), ids.count(2)) == (1, 2, 1)
    assert tokenizer.decode(ids) == "user\nWhat is 3 + 4?\nassistant\n"


def test_stop_ids_of_all_files_are_joined_with_the_turns_end_first(
    tiny_directory: Path, tmp_path: Path
) -> None:
    folder = _edited(tiny_directory, tmp_path / "model")
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    assert Tokenizer.load(folder).eos_ids == (2, 0)


def test_a_template_in_its_own_file_is_read(tiny_directory: Path, tmp_path: Path) -> None:
    folder = _edited(tiny_directory, tmp_path / "model", chat_template=None)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    assert Tokenizer.load(folder).chat_text(MESSAGES, True) == "<|im_start|>What is 3 + 4?"


def test_a_template_cannot_reach_python(tiny_directory: Path, tmp_path: Path) -> None:
    template = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    folder = _edited(tiny_directory, tmp_path / "model", chat_template=template)
    with pytest.raises(ModelError, match="unsafe"):
        Tokenizer.load(folder).chat(MESSAGES, add_generation_prompt=True)


def test_a_template_that_refuses_is_an_error(tiny_directory: Path, tmp_path: Path) -> None:
    folder = _edited(tiny_directory, tmp_path / "model", chat_template="{{ raise_exception('no system') }}")
    with pytest.raises(ModelError, match="no system") as caught:
        Tokenizer.load(folder).chat(MESSAGES, add_generation_prompt=True)
    assert caught.value.field == "tokenizer_config.json: chat_template"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"chat_template": None}, "tokenizer_config.json: chat_template"),
        ({"chat_template": "{% if %}"}, "tokenizer_config.json: chat_template"),
    ],
)
def test_a_missing_or_broken_template_is_an_error(
    tiny_directory: Path, tmp_path: Path, settings: dict[str, object], field: str
) -> None:
    folder = _edited(tiny_directory, tmp_path / "model", **settings)
    with pytest.raises(ModelError) as caught:
        Tokenizer.load(folder).chat(MESSAGES, add_generation_prompt=True)
    assert caught.value.field == field


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, "{broken"])
def test_a_missing_or_broken_file_is_an_error(
    tiny_directory: Path, tmp_path: Path, name: str, content: str | None
) -> None:
    folder = _edited(tiny_directory, tmp_path / "model")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ModelError) as caught:
        Tokenizer.load(folder)
    assert caught.value.field == name
