"""What the server and its engine process say to each other, one JSON object a line; standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args


@dataclass(frozen=True)
class Decoding:
    """How text is generated; temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 do not restrict.

    repetition_penalty 1 is off. Each of the `stop` texts ends an output outside of its reasoning; the
    text from there on is left out.
    """

    max_tokens: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """A prompt: chat messages, or token ids where `messages` is empty.

    `number` and `sample` name it among the items of its request and, with the seed, fix its random
    draws.
    """

    number: int
    messages: tuple[Mapping[str, str], ...] = ()
    tokens: tuple[int, ...] = ()
    sample: int = 0


@dataclass(frozen=True)
class Load:
    """To the engine: the model of this digest lies in this directory; load it.

    With `adapter`, a directory in PEFT's layout, the model is the adapter on the weights of `directory`,
    whose digest is `base`: models with one base hold it once. The matrices of `directory` are held as
    `weight_type`, `float32` or `int8`, which the digests tell apart.
    """

    request: str
    digest: str
    directory: str
    base: str = ""
    adapter: str = ""
    weight_type: str = "float32"


@dataclass(frozen=True)
class Generate:
    """To the engine: continue the items with a model that `Load` has named.

    With `stream`, text is sent as it appears, else only with the end of an item; with
    `log_probabilities`, the tokens too. With `reuse`, outputs without these are taken from the engine's
    cache and kept there. With `more`, another Generate of the same request follows; they differ in
    their items alone.
    """

    request: str
    digest: str
    items: tuple[Item, ...]
    decoding: Decoding
    stream: bool = False
    reuse: bool = False
    more: bool = False
    log_probabilities: bool = False


@dataclass(frozen=True)
class TextToScore:
    """A text whose probability after a prompt of chat messages is wanted.

    `prefix` is the beginning of the answer, which is given and not scored. `number` and `sample` name
    the text among the items of its request.
    """

    number: int
    messages: tuple[Mapping[str, str], ...]
    continuation: str
    sample: int = 0
    prefix: str = ""


@dataclass(frozen=True)
class ScoreTexts:
    """To the engine: score the texts with a model that `Load` has named; equal prompts are read once."""

    request: str
    digest: str
    items: tuple[TextToScore, ...]


@dataclass(frozen=True)
class Cancel:
    """To the engine: stop the request; unknown and finished ones are ignored."""

    request: str


@dataclass(frozen=True)
class Ready:
    """From the engine: it has started."""

    jax: str
    device: str


@dataclass(frozen=True)
class Alive:
    """From the engine, about once a second while it works: it does not hang."""


@dataclass(frozen=True)
class Loaded:
    """From the engine: the model of a `Load` is in memory; 0 seconds if it was there already."""

    request: str
    seconds: float


@dataclass(frozen=True)
class Token:
    """A token that was generated, and its natural log-probability before any sampling setting."""

    id: int
    text: str
    log_probability: float


@dataclass(frozen=True)
class Text:
    """From the engine: new text of an item, the number of its tokens in all, and the new ones if wanted."""

    request: str
    item: int
    text: str
    completion_tokens: int
    sample: int = 0
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class ItemDone:
    """From the engine: an item has ended with `stop` (a stop token or text) or `length`.

    `text` and `tokens` are what no `Text` has carried. The latency runs from the item's start in the
    engine to its last token; the stop token is not counted, the tokens of a stop text are. A `cached`
    output was made earlier, and so were its counts and latency.
    """

    request: str
    item: int
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_seconds: float
    sample: int = 0
    cached: bool = False
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class TextScored:
    """From the engine: how probable a text of `ScoreTexts` is, without a stop token after it.

    `log_likelihood` is the sum of `log_probabilities`, one natural logarithm for each of its
    `token_count` tokens; `greedy` tells whether greedy decoding would write these tokens.
    """

    request: str
    item: int
    sample: int
    log_likelihood: float
    token_count: int
    greedy: bool
    log_probabilities: tuple[float, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class ItemFailed:
    """From the engine: an item that this model cannot do, such as a prompt that is too long."""

    request: str
    item: int
    message: str
    sample: int = 0


@dataclass(frozen=True)
class Finished:
    """From the engine: every item of the request has ended.

    `measured_tokens` were generated in `measured_seconds`: the engine's rounds in which nothing had to
    be compiled. Loading and compilation are thereby left out, and nothing else; outputs from the cache
    were not generated. `compilations` is how many programs were compiled meanwhile.
    """

    request: str
    measured_tokens: int
    measured_seconds: float
    compilations: int = 0


@dataclass(frozen=True)
class Failed:
    """From the engine: the request cannot be done; `reason` is one of the API's.

    `figures` are the numbers of the message, by name.
    """

    request: str
    reason: str
    message: str
    figures: Mapping[str, int] = field(default_factory=dict)


Command = Load | Generate | ScoreTexts | Cancel
Event = Ready | Alive | Loaded | Text | ItemDone | TextScored | ItemFailed | Finished | Failed
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (*get_args(Command), *get_args(Event))}


def encode(message: Command | Event) -> bytes:
    """The line of a message, with its line end."""
    record = {"kind": type(message).__name__, **asdict(message)}
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def decode_command(line: bytes) -> Command:
    """The command in a line. Raises ValueError if it holds none."""
    message = _decode(line)
    if not isinstance(message, Command):
        raise ValueError(f"{type(message).__name__} is no command")
    return message


def decode_event(line: bytes) -> Event:
    """The event in a line. Raises ValueError if it holds none."""
    message = _decode(line)
    if isinstance(message, Command):
        raise ValueError(f"{type(message).__name__} is no event")
    return message


def _decode(line: bytes) -> Command | Event:
    try:
        record = json.loads(line)
        kind = _KINDS[record.pop("kind")]
        if kind is Generate:
            decoding = record["decoding"]
            record["decoding"] = Decoding(**{**decoding, "stop": tuple(decoding["stop"])})
            record["items"] = tuple(_item(each) for each in record["items"])
        elif kind is ScoreTexts:
            record["items"] = tuple(_text(each) for each in record["items"])
        elif kind in (Text, ItemDone):
            record["tokens"] = tuple(Token(**each) for each in record["tokens"])
        elif kind is TextScored:
            record["log_probabilities"] = tuple(record["log_probabilities"])
        if set(record) != {each.name for each in fields(kind)}:
            raise ValueError("fields are missing or unknown")
        message: Command | Event = kind(**record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a message: {line[:200]!r} ({error})") from error
    return message


def _item(record: Mapping[str, Any]) -> Item:
    return Item(record["number"], tuple(record["messages"]), tuple(record["tokens"]), record["sample"])


def _text(record: Mapping[str, Any]) -> TextToScore:
    return TextToScore(**{**record, "messages": tuple(record["messages"])})
