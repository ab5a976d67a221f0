"""The leaderboard's page: ties, marks, links, and filters in the address."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from asyncio import to_thread

import pytest

BOARD = "/leaderboard?dataset=datasets/arithmetic"


async def get(url):
    """Status and body."""

    def read():
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await to_thread(read)


async def rows(url):
    _, body = await get(url)
    return re.findall(r"<tr[^>]*>\s*<td class=\"pick\">.*?</tr>", body, re.DOTALL)


async def test_entries_that_share_a_rank_say_so_with_their_p_value(site):
    full, lora, base = await rows(site + BOARD)
    assert '<td class="num rank">1=</td>' in full
    assert '<td class="num rank">1=</td>' in lora
    assert '<td class="num quiet">0.12</td>' in lora
    assert '<td class="num quiet"></td>' in full
    assert '<td class="num rank">3</td>' in base


async def test_an_entry_that_does_not_count_fully_is_marked(site):
    _, lora, base = await rows(site + BOARD)
    assert "2 of 80 items contaminated" in lora
    assert "flag" not in base


async def test_an_entry_leads_to_its_run_its_evaluation_and_its_model(site):
    full, *_ = await rows(site + BOARD)
    assert 'href="/runs/full"' in full
    assert 'href="/evaluations/full-arithmetic"' in full
    model = "models%2Fsmollm2-135m-instruct"
    assert f'href="/leaderboard?dataset=datasets%2Farithmetic&amp;model={model}"' in full


async def test_the_filters_of_the_address_are_asked_for(site, registry):
    address = "&split=test&section=sums&category=long&model=models/a&model=models/b&label=team=red&label=x"
    _, body = await get(site + BOARD + address + "&since=2026-01-31&best=model")
    request = registry.board_requests[-1]
    assert (request.split, request.section, request.category) == ("test", "sums", "long")
    assert list(request.models) == ["models/a", "models/b"]
    assert dict(request.labels) == {"team": "red", "x": ""}
    assert request.ended_from.ToJsonString() == "2026-01-31T00:00:00Z"
    assert request.best_of_model
    assert "Ranked by the items of section <b>sums</b>, category <b>long</b> alone." in body
    assert 'name="section" value="sums"' in body
    assert "No filters</a>" in body


async def test_empty_filters_are_none(site, registry):
    _, body = await get(site + BOARD + "&split=&section=&category=&model=&label=&since=")
    assert registry.board_requests[-1].ListFields()[0][1] == "datasets/arithmetic"
    assert len(registry.board_requests[-1].ListFields()) == 1
    assert "No filters</a>" not in body


@pytest.mark.parametrize("path", ["/leaderboard", "/api/leaderboard"])
async def test_a_time_that_is_none_is_refused(site, path):
    status, body = await get(site + path + "?dataset=datasets/arithmetic&since=soon")
    assert status == 400
    assert "give a day such as 2026-01-31" in body


async def test_the_json_takes_the_filters_of_the_page(site, registry):
    _, body = await get(site + "/api" + BOARD + "&section=sums")
    assert registry.board_requests[-1].section == "sums"
    entry = json.loads(body)["boards"][0]["entries"][1]
    assert (entry["rank"], entry["tiePValue"], entry["overrideReason"]) == (
        1,
        0.125,
        "2 of 80 items contaminated",
    )
