"""Items for the engine, a part at a time; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tunix_rt.evaluator.messages import Item

CHUNK_ITEMS = 256  # several times the rows of the engine, so that these stay full
CHUNK_BYTES = 4 * 1024 * 1024
_ID_BYTES = 8  # of a token id and its comma, at most about


def chunks(
    items: Iterable[Item], *, most_items: int = CHUNK_ITEMS, most_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[tuple[Item, ...], bool]]:
    """The items in order in parts of at most so many items and bytes, and whether more follow.

    There is one part at least, and one item in it if there is any, however large. Of the items, one
    more than the part has is read.
    """
    part: list[Item] = []
    size = 0
    for item in items:
        item_size = item_bytes(item)
        if part and (len(part) == most_items or size + item_size > most_bytes):
            yield tuple(part), True
            part, size = [], 0
        part.append(item)
        size += item_size
    yield tuple(part), False


def item_bytes(item: Item) -> int:
    """About how many bytes an item takes in a line."""
    texts = sum(len(text.encode()) for message in item.messages for text in message.values())
    return texts + len(item.tokens) * _ID_BYTES
