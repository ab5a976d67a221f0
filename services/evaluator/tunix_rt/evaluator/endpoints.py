"""Chat endpoints that the operator has named: one request at a time, bounded in time, size and number."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tunix_rt.rpc.errors import FailedPrecondition, Reason, Unavailable
from tunix_rt.rpc.telemetry import get_logger

ATTEMPTS = 5
MAX_ANSWER_BYTES = 1024 * 1024
MAX_COMPLETION_TOKENS = 512
MAX_PAUSE_SECONDS = 30.0
_EXCERPT = 300
_HIDDEN = "***"
_ITEM_FAULTS = frozenset({400, 413, 422})  # such as a prompt that is too long: the fault of one item


class RefusedRequest(Exception):
    """The endpoint answered, but not with a chat completion; the message says how."""


class AnswerTimeout(Exception):
    """The endpoint took longer than it may."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible service: `POST {url}/chat/completions`, with the key as a bearer token."""

    name: str
    url: str
    key: str = field(default="", repr=False)
    concurrency: int = 4
    timeout_seconds: float = 60.0


@dataclass(frozen=True)
class ChatAnswer:
    """What the model wrote; `cut` if it reached the token limit."""

    text: str
    cut: bool


@dataclass(frozen=True)
class _Reply:
    status: int
    body: str
    retry_after: str


class _TransientError(Exception):
    """Worth another attempt, after so many seconds if the server said."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


class ChatClient:
    """Asks one endpoint. Redirects are not followed, and the key leaves in the one header only."""

    def __init__(self, endpoint: Endpoint, *, first_pause: float = 0.5) -> None:
        self.endpoint = endpoint
        self._first_pause = first_pause
        self._threads = ThreadPoolExecutor(endpoint.concurrency, thread_name_prefix=endpoint.name)
        self._free = asyncio.Semaphore(endpoint.concurrency)

    async def ask(self, model: str, messages: Sequence[Mapping[str, str]], *, seed: int = 0) -> ChatAnswer:
        """The completion, at temperature 0.

        429, 5xx and a broken connection are tried again, ATTEMPTS in all, with growing pauses or that of
        `Retry-After`. Raises Unavailable, reason JUDGE_UNAVAILABLE, after the last; FailedPrecondition,
        reason JUDGE_REFUSED, for a wrong key or address; RefusedRequest, AnswerTimeout.
        """
        body = {
            "model": model,
            "messages": [dict(message) for message in messages],
            "temperature": 0,
            "seed": seed,
            "max_tokens": MAX_COMPLETION_TOKENS,
        }
        data = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        pause = self._first_pause
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._answer(await self._send(data))
            except _TransientError as error:
                if attempt == ATTEMPTS:
                    raise self._unavailable(str(error)) from error
                get_logger().warning(
                    "endpoint", endpoint=self.endpoint.name, attempt=attempt, error=str(error)
                )
                wait = pause * (1 + random.random()) if error.pause is None else error.pause
                await asyncio.sleep(min(wait, MAX_PAUSE_SECONDS))
                pause *= 2
        raise AssertionError("the last attempt returns or raises")

    async def _send(self, data: bytes) -> _Reply:
        seconds = self.endpoint.timeout_seconds
        async with self._free:
            sent = asyncio.get_running_loop().run_in_executor(self._threads, self._post, data)
            try:
                return await asyncio.wait_for(sent, seconds)
            except TimeoutError as error:
                raise AnswerTimeout(f"no answer within {seconds:g} s") from error

    def _post(self, data: bytes) -> _Reply:
        """One request, on a connection of its own. Raises _TransientError, TimeoutError, RefusedRequest."""
        deadline = time.monotonic() + self.endpoint.timeout_seconds
        connection, path = self._connection()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.endpoint.key:
            headers["Authorization"] = f"Bearer {self.endpoint.key}"
        try:
            connection.request("POST", path, body=data, headers=headers)
            with connection.getresponse() as response:
                body = _read(response, deadline)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        return _Reply(response.status, self._without_key(body), response.getheader("Retry-After") or "")

    def _connection(self) -> tuple[http.client.HTTPConnection, str]:
        parts = urlsplit(self.endpoint.url)
        host, port, seconds = parts.hostname or "", parts.port, self.endpoint.timeout_seconds
        path = parts.path.rstrip("/") + "/chat/completions"
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=seconds, context=context), path
        return http.client.HTTPConnection(host, port, timeout=seconds), path

    def _without_key(self, body: bytes) -> str:
        text = body.decode("utf-8", errors="replace")
        return text.replace(self.endpoint.key, _HIDDEN) if self.endpoint.key else text

    def _answer(self, reply: _Reply) -> ChatAnswer:
        if reply.status == 200:
            return _completion(reply.body)
        if reply.status in {408, 429} or reply.status >= 500:
            raise _TransientError(f"status {reply.status}", _seconds(reply.retry_after))
        if reply.status in _ITEM_FAULTS:
            raise RefusedRequest(f"status {reply.status}: {reply.body[:_EXCERPT]}")
        name = f"endpoints/{self.endpoint.name}"
        raise FailedPrecondition(
            Reason.JUDGE_REFUSED,
            f"`{name}` answered with status {reply.status}. Its operator must correct the address or the key "
            "(redirects are not followed); then evaluate again.",
            {"resource": name, "status": reply.status},
        )

    def _unavailable(self, why: str) -> Unavailable:
        name = f"endpoints/{self.endpoint.name}"
        text = f"`{name}` did not answer in {ATTEMPTS} attempts ({why}). It is tried again later."
        return Unavailable(Reason.JUDGE_UNAVAILABLE, text, {"resource": name, "attempts": ATTEMPTS})


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The body up to its limit; ends at the deadline although a server sends it drop by drop."""
    body = b""
    while piece := response.read1(65_536):
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise RefusedRequest(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    return body


def _completion(body: str) -> ChatAnswer:
    """The first choice of a chat completion. Raises RefusedRequest for anything else."""
    try:
        choice = json.loads(body)["choices"][0]
        text, ended = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        text, ended = None, None
    if not isinstance(text, str):
        raise RefusedRequest(f"the answer is no chat completion: {body[:_EXCERPT]}")
    return ChatAnswer(text, cut=ended == "length")


def _seconds(text: str) -> float | None:
    """The seconds of a `Retry-After`; None for a date or nothing."""
    return float(text) if text.isascii() and text.isdigit() else None
