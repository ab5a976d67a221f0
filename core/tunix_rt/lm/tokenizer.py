"""Text to token ids and back, with the model's own chat template."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import tokenizers
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.model_files import read_json

_QUESTION, _ANSWER = "1", "answer"  # a conversation to see how the template ends a turn
CHAT_TEMPLATE = "chat_template.jinja"
_COMPLETE = "Give a complete model directory in Hugging Face layout."


class Tokenizer:
    """A tokenizer of a model directory.

    `eos_ids` are the ids that end a text, `turn_stop` is the one of them that ends an assistant's turn.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, *, settings: Mapping[str, Any], eos_ids: Sequence[int]
    ) -> None:
        self._backend = backend
        self._plain = tokenizers.Tokenizer.from_str(backend.to_str())
        self._plain.encode_special_tokens = True
        self._settings = settings
        template = settings.get("chat_template")
        self._template = _compile(template) if isinstance(template, str) else None
        self.eos_ids = tuple(eos_ids)
        self.pad_id = self._id_of("pad_token") or 0

    @classmethod
    def load(cls, directory: Path | str) -> "Tokenizer":
        """Read tokenizer.json, tokenizer_config.json and the stop ids of a model directory."""
        folder = Path(directory)
        path = folder / "tokenizer.json"
        if not path.exists():
            raise ModelError("tokenizer.json", f"there is no such file in {folder.name}.", remedy=_COMPLETE)
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise ModelError("tokenizer.json", f"cannot be read ({error}).", remedy=_COMPLETE) from error
        settings = read_json(folder / "tokenizer_config.json")
        template = folder / CHAT_TEMPLATE
        if template.exists():
            settings["chat_template"] = template.read_text(encoding="utf-8")
        return cls(backend, settings=settings, eos_ids=_stop_ids(folder, backend, settings))

    @cached_property
    def turn_stop(self) -> int:
        """The id that ends an assistant's turn: the stop id that the chat template writes there.

        The first of `eos_ids` where the template writes none of them.
        """
        probe = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
        try:
            _, _, after = self.chat_text(probe, add_generation_prompt=False).rpartition(_ANSWER)
        except ModelError:
            return self.eos_ids[0]
        written = self.encode_template(after)
        return next((token for token in written if token in self.eos_ids), self.eos_ids[0])

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; what looks like a special token in it is taken as plain characters."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts at once, on all processors."""
        encoded = self._plain.encode_batch(list(texts), add_special_tokens=False)
        return [list(each.ids) for each in encoded]

    def encode_template(self, text: str) -> list[int]:
        """Ids of a text of the chat template, in which special tokens are themselves."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_templates(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode_template` of many texts at once, on all processors."""
        encoded = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [list(each.ids) for each in encoded]

    def spell(self, token: int) -> str:
        """The text of one token, special ones by their name."""
        return self._backend.decode([token], skip_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def chat(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> list[int]:
        """Ids of a conversation of {"role", "content"} messages, laid out by the chat template."""
        return self.encode_template(self.chat_text(messages, add_generation_prompt))

    def chat_text(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
        """The text that `chat` encodes.

        Where the template refuses a system message, as Gemma's, or leaves it out, its text comes before
        that of the first user.
        """
        if messages and messages[0]["role"] == "system" and not self._takes_system:
            messages = _folded(messages)
        return self._laid_out(messages, add_generation_prompt)

    @cached_property
    def _takes_system(self) -> bool:
        question = {"role": "user", "content": _QUESTION}
        try:
            return _ANSWER in self._laid_out([{"role": "system", "content": _ANSWER}, question], True)
        except ModelError:
            return False

    def _laid_out(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
        if self._template is None:
            raise ModelError(
                "tokenizer_config.json: chat_template",
                "is missing.",
                remedy="Use an instruct model, or give a template when the model is imported.",
            )
        special = {key: _content(value) for key, value in self._settings.items() if key.endswith("_token")}
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, **special
            )
        except jinja2.TemplateError as error:
            remedy = "Send messages in the roles and order that the model's template allows."
            raise ModelError(
                "tokenizer_config.json: chat_template", f"refused: {error}", remedy=remedy
            ) from error

    def _id_of(self, key: str) -> int | None:
        return _token_id(self._backend, self._settings.get(key))


def _folded(messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The messages with the system's text before that of the first user; as they are without one."""
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return list(messages)
    return [{"role": "user", "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]


def _stop_ids(folder: Path, backend: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> list[int]:
    found = [_token_id(backend, settings.get("eos_token"))]
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists():
            listed = read_json(folder / name).get("eos_token_id")
            found += listed if isinstance(listed, list) else [listed]
    stops = list(dict.fromkeys(each for each in found if isinstance(each, int)))
    if not stops:
        raise ModelError(
            "tokenizer_config.json: eos_token", "is missing; no token ends a text.", remedy=_COMPLETE
        )
    return stops


def _token_id(backend: tokenizers.Tokenizer, token: Any) -> int | None:
    content = _content(token)
    return backend.token_to_id(content) if isinstance(content, str) else None


def _content(token: Any) -> Any:
    """A special token's text; tokenizer_config.json has it plain or inside an object."""
    return token.get("content") if isinstance(token, Mapping) else token


def _compile(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        field = "tokenizer_config.json: chat_template"
        raise ModelError(field, f"is not a valid template ({error}).", remedy=_COMPLETE) from error


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
