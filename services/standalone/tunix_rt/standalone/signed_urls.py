"""Moves bytes to and from signed URLs of an object store, by plain HTTP."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

_BLOCK_BYTES = 512 * 1024
_SECONDS = 60.0


class StoreAnswerError(Exception):
    """The object store refused a request, or did not answer; `status` is 0 then."""

    def __init__(self, url: str, status: int, text: str) -> None:
        super().__init__(f"{urlsplit(url).netloc} answered {status or 'nothing'}: {text[:300]}")
        self.status = status


def put(url: str, path: Path, offset: int, size_bytes: int, *, advance: Callable[[int], None]) -> None:
    """Sends a part of a file. Raises StoreAnswerError."""

    def blocks() -> Iterator[bytes]:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            left = size_bytes
            while left and (block := file.read(min(_BLOCK_BYTES, left))):
                yield block
                left -= len(block)
                advance(len(block))

    with _answer(url, "PUT", blocks(), {"Content-Length": str(size_bytes)}, (200,)) as response:
        response.read()


def get(url: str, offset: int, size_bytes: int, *, write: Callable[[bytes], None]) -> None:
    """Fetches a file of a size from an offset on. Raises StoreAnswerError, also if bytes are missing."""
    headers, statuses = ({"Range": f"bytes={offset}-"}, (206,)) if offset else ({}, (200,))
    with _answer(url, "GET", None, headers, statuses) as response:
        while block := response.read(_BLOCK_BYTES):
            write(block)
            offset += len(block)
    if offset != size_bytes:
        raise StoreAnswerError(url, 0, f"the answer ended at {offset} of {size_bytes} bytes")


@contextmanager
def _answer(
    url: str, method: str, body: Iterator[bytes] | None, headers: dict[str, str], statuses: tuple[int, ...]
) -> Iterator[http.client.HTTPResponse]:
    address = urlsplit(url)
    if address.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            address.netloc, timeout=_SECONDS, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(address.netloc, timeout=_SECONDS)
    try:
        connection.request(method, f"{address.path}?{address.query}", body, headers)
        response = connection.getresponse()
        if response.status not in statuses:
            raise StoreAnswerError(url, response.status, response.read(1000).decode("utf-8", "replace"))
        yield response
    except (OSError, http.client.HTTPException) as error:
        raise StoreAnswerError(url, 0, str(error)) from error
    finally:
        connection.close()
