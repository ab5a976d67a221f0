"""Fields of a message that this version of the protos does not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from tunix_rt.rpc.errors import Violation


def unknown_fields(message: Message, path: str = "") -> Iterator[Violation]:
    """Every unknown field of a message and of the messages in it, with paths such as `run.spec.#99`.

    A server that left them out would make something else than was asked for.
    """
    found: Any = UnknownFieldSet(message)
    for field in found:
        text = "is unknown to this server. Leave it out, or update the server."
        yield Violation(f"{path}#{field.field_number}", text)
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
            continue
        if descriptor.is_repeated:
            for index, element in enumerate(value):
                yield from unknown_fields(element, f"{path}{descriptor.name}[{index}].")
        else:
            yield from unknown_fields(value, f"{path}{descriptor.name}.")
