"""The pages and their JSON over HTTP, without a browser."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import urllib.error
import urllib.request

import pytest

from tunix_rt.gateway.server import Gateway
from tunix_rt.gateway.settings import Settings

AWAY = "127.0.0.1:1"
COMPARE = "/compare?subject=models/smollm2-135m-instruct/versions/v1&subject=runs/full"


async def get(url, *, headers=(), data=None):
    """Status, headers and body; redirects are not followed."""

    def read():
        request = urllib.request.Request(url, headers=dict(headers), data=data)
        opener = urllib.request.build_opener(NoRedirect)
        try:
            with opener.open(request, timeout=10) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    status, headers, body = await asyncio.to_thread(read)
    return status, headers, body.decode() if "gzip" not in headers.get("content-encoding", "") else body


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


@pytest.fixture
async def locked_site():
    digest = hashlib.sha256(b"secret").hexdigest()
    gateway = Gateway(
        Settings(
            listen="127.0.0.1:0",
            web="127.0.0.1:0",
            registry=AWAY,
            trainer=AWAY,
            evaluator=AWAY,
            tokens=digest,
        )
    )
    await gateway.start()
    yield f"http://127.0.0.1:{gateway.web_port}"
    await gateway.stop(0)


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("/", ["broken", "failed", "arithmetic", "76.2 %", "2 of 80 items contaminated", "Leaderboards"]),
        ("/runs/broken", ["The loss was not finite at step 12.", "optimizer.learning_rate", "0.0002"]),
        ("/runs/full", ["step 1 loss", "134,515,008", "full-golden-v2"]),
        (COMPARE, ["full is better than smollm2-135m-instruct v1 by 68.8 points.", "57 gained, 2 lost"]),
        (COMPARE, ["Paired test<", "Permutation test<", "Smallest detectable difference<", "26.5 points"]),
        (COMPARE + "&subject=runs/lora", ["adjusted for 2 comparisons", "29.1 points", "24.3 points"]),
        ("/leaderboard?dataset=datasets/golden-v2", ["exact-answer@2", "greedy, up to 256 tokens", "lora"]),
        (
            "/evaluations/full-arithmetic",
            [
                "8 samples an item",
                "488 correct of 640 outputs",
                "Strict",
                "71.2 %",
                "the 78 that stopped by themselves",
                "errors in 9 clusters",
                "a number from the question",
                "13.8 %",
                "94 % of 812 steps are true.",
                "3 right answers rest on a false step.",
                "chain_sum",
                "majority@8: 86.2 %",
                "1 of 2 steps are true",
                "right, but not in the asked-for format",
                "sample 1 of 8",
                "2.0 % cut at the limit · 1.2 % past a deadline",
            ],
        ),
        ("/leaderboard?dataset=datasets/arithmetic", ["leaderboard?task=tasks/sums/versions/v1", "sums v1"]),
        (
            "/leaderboard?task=tasks/sums/versions/v1",
            ["Only what measures the same as", "All of arithmetic", "full"],
        ),
        ("/evaluations/full-arithmetic", ["by <a", ">sums v1</a>", "2 items ask what another item asks."]),
        ("/leaderboard?dataset=datasets/texts", ["perplexity · format", "Token probability", ">4.500<"]),
        (
            "/evaluations/lora-texts",
            [
                *("Token probability", "4.500 (4.250–5.000)", "0.6350", "1,200 tokens", "80 scored of 80"),
                *("token probability <b>25.0 %</b>", "log-likelihood -13.86", "<b>dog</b>", "-1.250"),
            ],
        ),
        ("/evaluations/base-arithmetic", ["no answer", "What is 13 + 10 - 5?", "6 correct of 80"]),
    ],
)
async def test_page_shows(site, path, texts):
    status, headers, body = await get(site + path)
    assert status == 200
    assert [text for text in texts if text not in body] == []
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "http://" not in body
    assert "https://" not in body


async def test_a_perplexity_shows_nothing_that_only_outputs_have(site):
    _, _, body = await get(site + "/evaluations/lora-texts")
    absent = ["Answers found", "Stopped by itself", "greedy", "(empty)", "ended by"]
    assert [text for text in absent if text in body] == []


async def test_evaluation_without_richer_results_shows_no_empty_sections(site):
    _, _, body = await get(site + "/evaluations/lora-arithmetic")
    absent = [
        "Strict",
        "Without a model",
        "<h2>Reasoning",
        "<h2>Parts",
        "More samples",
        "false step",
        "sample 1",
        "what another item asks",
    ]
    assert [text for text in absent if text in body] == []


@pytest.mark.parametrize("path", [COMPARE, "/evaluations/full-arithmetic"])
async def test_output_of_a_model_is_escaped(site, path):
    _, _, body = await get(site + path)
    assert "<script>window.hostile" not in body
    assert "&lt;script&gt;window.hostile = 1&lt;/script&gt;" in body


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("/nothing", 404, "There is no page"),
        ("/runs/missing", 404, "`runs/missing` does not exist."),
        ("/runs/UPPER", 400, "it must have the form"),
        ("/leaderboard?task=tasks/sums", 400, "task: is `tasks/sums`; it must have the form"),
        ("/compare?subject=runs/full", 400, "give 2 to 10 runs, model versions or predictors"),
        ("/compare?subject=runs/full&subject=runs/live&dataset=x", 400, "dataset: is `x`"),
    ],
)
async def test_error_page_says_what_is_wrong(site, path, code, text):
    status, _, body = await get(site + path)
    assert (status, text in body.replace("&#39;", "'")) == (code, True)


async def test_subjects_without_common_evaluations_are_shown_all_the_same(site):
    status, _, body = await get(site + "/compare?subject=runs/full&subject=runs/live")
    assert status == 200
    assert "`runs/live` has no succeeded evaluation on split `test`" in body


async def test_empty_system_says_what_to_run(empty_site):
    _, _, body = await get(empty_site + "/")
    assert "tunix-rt demo" in body
    _, _, body = await get(empty_site + "/leaderboard")
    assert "No sealed datasets yet" in body


async def test_json_comes_from_the_same_functions(site):
    _, _, body = await get(site + "/api/curves?run=runs/full&run=runs/lora&metric=train/loss&max_points=50")
    assert [curve["run"] for curve in json.loads(body)["curves"]] == ["runs/full", "runs/lora"]
    _, _, body = await get(site + "/api" + COMPARE)
    assert json.loads(body)["pairs"][0]["gained"] == "57"
    _, _, body = await get(site + "/api/leaderboard?task=tasks/sums/versions/v1")
    assert json.loads(body)["boards"][0]["tasks"] == ["tasks/sums/versions/v1"]
    _, _, body = await get(site + "/api/status")
    assert [service["serving"] for service in json.loads(body)["services"]] == [True] * 4
    _, _, body = await get(site + "/api/evaluations/full-arithmetic/items")
    assert len(json.loads(body)["itemScores"]) == 80


async def test_json_error_is_a_status_with_details(site):
    status, _, body = await get(site + "/api/curves?run=runs/full&metric=train/loss&max_points=many")
    assert status == 400
    assert json.loads(body)["details"][0]["reason"] == "INVALID_FIELDS"
    status, _, body = await get(site + "/api/runs/missing")
    assert (status, json.loads(body)["details"][0]["reason"]) == (404, "RESOURCE_NOT_FOUND")


async def test_event_stream_tells_the_end_and_can_be_resumed(site, registry):
    await registry.end_live_run()
    _, headers, body = await get(site + "/api/runs/live/watch")
    assert headers["content-type"].startswith("text/event-stream")
    assert body.endswith("event: end\ndata: {}\n\n")
    assert "saved the final weights" in body
    last = [line.removeprefix("id: ") for line in body.splitlines() if line.startswith("id: ")][-1]
    _, _, rest = await get(site + "/api/runs/live/watch", headers={"last-event-id": last})
    assert "saved the final weights" not in rest


async def test_plotly_is_compressed_and_cached_for_ever(site):
    _, _, page = await get(site + "/runs/full")
    path = next(part for part in page.split('"') if part.startswith("/assets/plotly-"))
    _, headers, body = await get(site + path, headers={"accept-encoding": "gzip"})
    assert "immutable" in headers["cache-control"]
    assert len(body) < 1_600_000 < len(gzip.decompress(body))


async def test_foreign_host_name_is_refused(site):
    status, _, _ = await get(site + "/", headers={"host": "attacker.example"})
    assert status == 400


async def test_registry_that_is_away_is_named(locked_site):
    status, _, body = await get(locked_site + "/", headers={"authorization": "Bearer secret"})
    assert status == 503
    assert "The registry does not answer" in body


async def test_token_is_asked_for(locked_site):
    status, headers, _ = await get(locked_site + "/")
    assert (status, headers["location"]) == (303, "/sign-in")
    assert (await get(locked_site + "/api/status"))[0] == 401
    assert (await get(locked_site + "/sign-in", data=b"token=wrong"))[0] == 401
    status, headers, _ = await get(locked_site + "/sign-in", data=b"token=secret")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    status, _, body = await get(locked_site + "/api/status", headers={"cookie": cookie.split(";")[0]})
    assert status == 200
    assert [service.get("serving", False) for service in json.loads(body)["services"]] == [False] * 3 + [True]
