"""A chat endpoint over real HTTP: bounded, retried, and silent about its key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import pytest_asyncio

from tunix_rt.evaluator.endpoints import (
    ATTEMPTS,
    MAX_ANSWER_BYTES,
    AnswerTimeout,
    ChatClient,
    Endpoint,
    RefusedRequest,
)
from tunix_rt.evaluator.judging import SILENCE, EndpointJudge
from tunix_rt.evaluator.settings import EndpointSettings, Settings, named_endpoints
from tunix_rt.judges.requests import Case
from tunix_rt.rpc.errors import FailedPrecondition, Reason, Unavailable

KEY = "sk-very-secret"
ASK = [{"role": "user", "content": "Is it right?"}]
CASE = Case("What is 2 + 2?", "4", "Answer: 4")
Reply = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def chat(chat_server: Any) -> Any:
    chat_server.requests.clear()
    chat_server.replies.clear()
    return chat_server


@pytest_asyncio.fixture
async def client(chat: Any) -> AsyncIterator[ChatClient]:
    yield ChatClient(Endpoint("chat", chat.url, KEY, timeout_seconds=5), first_pause=0.001)


def status(chat: Any, code: int, body: str = "", **headers: str) -> Reply:
    return lambda handler: chat.send(
        handler, code, body, {k.replace("_", "-"): v for k, v in headers.items()}
    )


def hold() -> Reply:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.settimeout(10)
        handler.rfile.read(1)  # until the client hangs up

    return silent


async def test_the_request_is_a_chat_completion_with_the_key_in_its_header(chat: Any, client: Any) -> None:
    chat.replies = [status(chat, 200, chat.completion("Verdict: correct"))]
    assert (await client.ask("gpt", ASK, seed=3)).text == "Verdict: correct"
    ((headers, body),) = chat.requests
    assert (headers["path"], headers["Authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (body["model"], body["messages"], body["temperature"], body["seed"]) == ("gpt", ASK, 0, 3)


async def test_without_a_key_no_authorization_is_sent(chat: Any) -> None:
    chat.replies = [status(chat, 200, chat.completion("x"))]
    await ChatClient(Endpoint("chat", chat.url)).ask("gpt", ASK)
    assert "Authorization" not in chat.requests[0][0]


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_a_passing_fault_is_tried_again(chat: Any, client: Any, code: int) -> None:
    fine = status(chat, 200, chat.completion("x"))
    chat.replies = [status(chat, code, Retry_After="0"), status(chat, code), fine]
    assert (await client.ask("gpt", ASK)).text == "x"
    assert len(chat.requests) == 3


async def test_a_fault_that_stays_makes_the_judge_unavailable(chat: Any, client: Any) -> None:
    chat.replies = [status(chat, 503)] * ATTEMPTS
    with pytest.raises(Unavailable, match="status 503") as caught:
        await client.ask("gpt", ASK)
    assert (caught.value.reason, len(chat.requests)) == (Reason.JUDGE_UNAVAILABLE, ATTEMPTS)


async def test_nobody_at_the_address_makes_the_judge_unavailable() -> None:
    client = ChatClient(Endpoint("chat", "http://127.0.0.1:1/v1"), first_pause=0.001)
    with pytest.raises(Unavailable, match="ConnectionRefusedError"):
        await client.ask("gpt", ASK)


@pytest.mark.parametrize("code", [301, 401, 403, 404])
async def test_a_wrong_key_or_address_is_refused_at_once(chat: Any, client: Any, code: int) -> None:
    chat.replies = [status(chat, code, f"the key {KEY} is wrong", Location=f"{chat.url}/elsewhere")]
    with pytest.raises(FailedPrecondition, match=str(code)) as caught:
        await client.ask("gpt", ASK)
    assert caught.value.reason == Reason.JUDGE_REFUSED
    assert len(chat.requests) == 1
    assert KEY not in str(caught.value) + repr(caught.value.metadata)


@pytest.mark.parametrize(
    "body", ["", "[]", '{"choices": []}', '{"choices": [{"message": {"content": null}}]}']
)
async def test_what_is_no_completion_is_refused(chat: Any, client: Any, body: str) -> None:
    chat.replies = [status(chat, 200, body)]
    with pytest.raises(RefusedRequest, match="no chat completion"):
        await client.ask("gpt", ASK)


async def test_an_endless_answer_is_refused(chat: Any, client: Any) -> None:
    chat.replies = [status(chat, 200, "x" * (MAX_ANSWER_BYTES + 1))]
    with pytest.raises(RefusedRequest, match="more than 1048576 bytes"):
        await client.ask("gpt", ASK)


async def test_a_late_answer_is_not_waited_for(chat: Any) -> None:
    chat.replies = [hold()]
    client = ChatClient(Endpoint("chat", chat.url, timeout_seconds=0.05))
    with pytest.raises(AnswerTimeout, match=r"0\.05 s"):
        await client.ask("gpt", ASK)


async def test_the_key_is_nowhere_but_in_the_header(chat: Any, client: Any) -> None:
    chat.replies = [
        status(chat, 200, chat.completion(f"Your key is {KEY}.\nVerdict: correct")),
        status(chat, 400, f"bad key {KEY}"),
    ]
    found = [verdict async for _, verdict in EndpointJudge(client, "gpt").verdicts([CASE])]
    assert found[0].comment == "Your key is ***.\nVerdict: correct"
    with pytest.raises(RefusedRequest) as caught:
        await client.ask("gpt", ASK)
    assert str(caught.value) == "status 400: bad key ***"
    assert KEY not in repr(client.endpoint)


async def test_requests_at_the_same_time_are_bounded(chat: Any) -> None:
    client = ChatClient(Endpoint("chat", chat.url, concurrency=2))
    verdicts = [each async for each in EndpointJudge(client, "honest").verdicts([CASE] * 9)]
    assert sorted(number for number, _ in verdicts) == list(range(9))
    assert {verdict.accepts for _, verdict in verdicts} == {True}
    assert len(client._threads._threads) <= 2


async def test_one_late_answer_is_undecided_and_many_in_a_row_are_an_outage(chat: Any) -> None:
    client = ChatClient(Endpoint("chat", chat.url, concurrency=1, timeout_seconds=0.05))
    chat.replies = [hold()]
    (first, second) = [v async for _, v in EndpointJudge(client, "honest").verdicts([CASE] * 2)]
    assert (first.accepts, first.timed_out, second.accepts) == (None, True, True)
    chat.replies = [hold()] * SILENCE
    with pytest.raises(Unavailable, match="8 requests in a row"):
        [v async for v in EndpointJudge(client, "honest").verdicts([CASE] * 20)]


def settings(**endpoint: Any) -> Settings:
    return Settings(registry="r:1", blobs="file:///b", endpoints={"chat": EndpointSettings(**endpoint)})


def test_the_key_is_read_from_the_variable_that_the_settings_name() -> None:
    made = settings(url="https://host/v1", key_variable="CHAT_KEY")
    assert named_endpoints(made, {"CHAT_KEY": KEY})["chat"].key == KEY
    with pytest.raises(ValueError, match="Set CHAT_KEY"):
        named_endpoints(made, {})
    with pytest.raises(ValueError, match="CHAT_KEY must be printable") as caught:
        named_endpoints(made, {"CHAT_KEY": f"{KEY}\nX-Other: 1"})
    assert KEY not in str(caught.value) + repr(made)


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "host/v1", "https://me:secret@host/v1", "https://host/v1?key=1", "https:///v1"]
)
def test_addresses_that_cannot_be_endpoints_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        settings(url=url)


def test_names_of_endpoints_are_ids() -> None:
    with pytest.raises(ValueError, match="must match"):
        Settings(registry="r:1", blobs="file:///b", endpoints={"Chat": EndpointSettings(url="http://h/v1")})


def test_endpoints_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNIX_RT_ENDPOINTS", '{"chat": {"url": "http://host/v1", "concurrency": 2}}')
    made = Settings(registry="r:1", blobs="file:///b")
    assert made.endpoints == {"chat": EndpointSettings(url="http://host/v1", concurrency=2)}
