"""The page in a real Chromium, as a person uses it."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

SECONDS = 10_000


@pytest.fixture
async def page(browser: Browser, site: str):
    """A page that fails the test on script errors, on refused content and on requests to other hosts."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    page.set_default_timeout(SECONDS)
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: message.type == "error" and problems.append(message.text))
    page.on(
        "request",
        lambda request: request.url.startswith((site, "data:", "blob:")) or problems.append(request.url),
    )
    yield page
    assert problems == []
    await context.close()


async def test_two_selected_runs_are_compared(page: Page, site: str):
    await page.goto(site)
    await page.get_by_label("Select smollm2-135m-instruct v1 for comparison").first.check()
    await page.get_by_label("Select full for comparison").first.check()
    await expect(page.locator("#compare-count")).to_have_text("full against smollm2-135m-instruct v1")
    await page.get_by_role("button", name="Compare").click()

    await expect(page.locator(".verdict h1")).to_have_text(
        "full is better than smollm2-135m-instruct v1 by 68.8 points."
    )
    await expect(page.locator(".verdict p")).to_contain_text("57 gained, 2 lost; exact McNemar p < 0.0001.")
    await expect(page.locator(".chart[data-drawn='2'] .scatterlayer .trace")).to_have_count(2)

    flips = page.locator(".flip")
    await expect(flips).to_have_count(65)  # 57 gained, 2 lost, 6 wrong in another way
    await page.get_by_role("button", name="Lost").click()
    await expect(flips.filter(visible=True)).to_have_count(2)
    await flips.filter(visible=True).first.locator("summary").click()
    await expect(flips.filter(visible=True).first.locator("pre").first).to_contain_text(
        "<script>window.hostile"
    )
    assert await page.evaluate("window.hostile") is None
    await page.get_by_role("button", name="All").click()
    await page.get_by_role("searchbox").fill("What is 20 + 31 - 12?")
    await expect(flips.filter(visible=True)).to_have_count(1)


async def test_two_runs_share_one_grid_and_show_only_what_differs(page: Page, site: str):
    await page.goto(f"{site}/compare?subject=runs/full&subject=runs/lora")
    chart = page.locator(".chart[data-drawn='4']")
    await expect(chart.locator(".scatterlayer .trace")).to_have_count(4)
    grids = await chart.evaluate(
        "chart => chart.data.filter(t => t.line.dash === 'solid').map(t => t.x.join())"
    )
    assert len(grids) == 2
    assert grids[0] == grids[1]
    await expect(page.locator("#differences th")).to_have_text(
        ["lora.alpha", "lora.dropout", "lora.rank", "lora.targets", "optimizer.learning_rate", "tuning"]
    )


async def test_items_are_filtered_by_false_steps_which_are_marked(page: Page, site: str):
    await page.goto(f"{site}/evaluations/full-arithmetic")
    items = page.locator(".flip")
    await expect(items).to_have_count(80)
    await page.get_by_role("button", name="With a false step").click()
    await expect(items.filter(visible=True)).to_have_count(4)
    await page.get_by_role("button", name="Right on a false step").click()
    await expect(items.filter(visible=True)).to_have_count(3)
    await items.filter(visible=True).first.locator("summary").click()
    await expect(page.locator("mark.false-step").filter(visible=True)).to_have_text("15 + 16 = 32")
    await page.get_by_role("button", name="Wrong").click()
    await expect(items.filter(visible=True)).to_have_count(19)


async def test_list_of_runs_follows_a_live_run_and_keeps_the_selection(page: Page, site: str, registry):
    await page.clock.install()
    await page.goto(site)
    row = page.locator("table.runs tr", has=page.get_by_role("link", name="live", exact=True))
    await expect(row.locator(".state")).to_have_text("running")
    await row.get_by_role("checkbox").check()
    await registry.end_live_run()
    await page.clock.fast_forward(5_000)
    await expect(row.locator(".state")).to_have_text("succeeded")
    await expect(row.get_by_role("checkbox")).to_be_checked()


async def test_live_run_grows_and_ends_on_the_page(page: Page, site: str, registry):
    await page.goto(f"{site}/runs/live")
    await expect(page.locator("#log")).to_contain_text("step 3 loss")
    await expect(page.locator("#state")).to_have_text("running")
    await expect(page.locator(".chart[data-drawn]")).to_have_count(4)
    await registry.end_live_run()
    await expect(page.locator("#run[data-live='no'] #state")).to_have_text("succeeded")
    await expect(page.locator("#log")).to_contain_text("saved the final weights")
    await expect(page.locator("#progress-text")).to_have_text("5 of 400 steps")
