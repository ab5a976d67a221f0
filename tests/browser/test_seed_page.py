"""A comparison of runs with several seeds on items in families."""

from __future__ import annotations

import asyncio
import urllib.request

import pytest
from playwright.async_api import Browser, expect

COMPARE = (
    "/compare?subject=models/smollm2-135m-instruct/versions/v1&subject=runs/full&subject=runs/lora"
    "&dataset=datasets/golden-v2"
)


@pytest.fixture
async def body(registry, site):
    registry.add_seeds()

    def read():
        with urllib.request.urlopen(site + COMPARE, timeout=10) as response:
            return response.read().decode()

    return await asyncio.to_thread(read)


async def test_families_stand_in_place_of_items(body):
    assert "80 items in 12 families, 95 % interval" in body
    assert "permutation of families p = 0.0005" in body
    assert "Permutation test of families" in body
    assert "Items as if independent" in body


async def test_seeds_say_what_the_difference_is_worth(body):
    assert "3 seeds of full: 75.8 % ± 3.1" in body
    assert "Over seeds full differs from smollm2-135m-instruct v1 by" in body


async def test_seeds_are_dots_on_one_axis(browser: Browser, registry, site):
    registry.add_seeds()
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    await page.goto(site + COMPARE)
    dots = page.locator(".seed-plot .dot")
    await expect(dots).to_have_count(3)
    titles = [await dot.get_attribute("title") for dot in await dots.all()]
    assert titles == ["full, seed 7: 76.2 %", "full-seed-8, seed 8: 72.5 %", "full-seed-9, seed 9: 78.8 %"]
    places = [(await dot.bounding_box())["x"] for dot in await dots.all()]
    assert places[1] < places[0] < places[2]
