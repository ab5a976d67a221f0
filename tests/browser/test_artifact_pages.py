"""The artifacts of a run in the browser: what is listed, shown and sent."""

from __future__ import annotations

import asyncio
import io
import json
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

HOSTILE = b"<html><script>window.hostile = 1</script></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.hostile = 1"></svg>'
TENSORS = {
    "model.norm.weight": np.zeros(64, np.float32),
    "model.embed.weight": np.zeros((512, 64), np.float16),
}


def png():
    image = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(image, "PNG")
    return image.getvalue()


def samples():
    rows = [
        {
            "index": i,
            "trace": f"t{i}",
            "prompt": f"Ann has {i + 3} apples and buys {i + 9} more. How many?",
            "step": step,
            "expected": str(2 * i + 12),
            "tokens": 24,
            "output": f"{i + 3} + {i + 9} = {2 * i + 12}\nAnswer: {2 * i + 12 - (step < 400)}",
            "finish_reason": "stop" if step == 400 else "length",
        }
        for i in range(3)
        for step in (200, 400)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def files(registry):
    contents = {
        "config.json": b'{"hidden_size":64,"layers":[1,2]}',
        "evil.html": HOSTILE,
        "evil.png": HOSTILE,
        "evil.svg": SVG,
        "items.jsonl": b"".join(b'{"id": %d}\n' % i for i in range(300)),
        "scores.csv": b'item,score\n"a, b",0.5\nc,1\n',
        "plots/loss curve.png": png(),
        "model.safetensors": save(TENSORS),
        "noise.bin": bytes(range(256)),
        "big.bin": b"\0" * 2_000_000,
    }
    registry.add_artifact("art-1", "runs/full", "model", contents)
    registry.add_artifact("art-2", "runs/full", "samples", {"samples.jsonl": samples()}, step=400)
    registry.runs["runs/full"].spec.samples.every = 200
    return contents


async def get(url):
    def read():
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    return await asyncio.to_thread(read)


async def page(url):
    status, _, body = await get(url)
    assert status == 200
    return body.decode()


async def test_a_run_lists_its_artifacts(site, files):
    body = await page(f"{site}/runs/full")
    assert '<a href="/artifacts/art-1">model</a>' in body
    assert "2.1 MB" in body


async def test_an_artifact_lists_its_files_with_digests(site, files, registry):
    body = await page(f"{site}/artifacts/art-1")
    for file in registry.artifacts["artifacts/art-1"].files:
        assert file.sha256 in body
    assert "/artifacts/art-1/files/plots/loss%20curve.png" in body


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("config.json", ["&#34;hidden_size&#34;: 64,\n"]),
        ("items.jsonl", ["The first 200 lines.", "{&#34;id&#34;: 199}"]),
        ("scores.csv", ["<th>score</th>", '<td class="id">a, b</td>']),
        ("model.safetensors", ["2 tensors, 32,832 numbers.", "512 × 64", "F16"]),
        ("plots/loss%20curve.png", ['src="/artifacts/art-1/images/plots/loss%20curve.png"']),
        ("noise.bin", ["No preview of binary data."]),
        ("evil.html", ["&lt;script&gt;window.hostile = 1"]),
        ("evil.svg", ["onload=&#34;window.hostile"]),
    ],
)
async def test_previews(site, files, path, texts):
    body = await page(f"{site}/artifacts/art-1?file={path}")
    assert [text for text in texts if text not in body] == []


@pytest.mark.parametrize("path", ["evil.html", "evil.svg", "big.bin", "plots/loss%20curve.png"])
async def test_downloads_are_whole_and_never_shown(site, files, path):
    status, headers, body = await get(f"{site}/artifacts/art-1/files/{path}")
    assert (status, body) == (200, files[path.replace("%20", " ")])
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"].startswith("attachment;")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"


async def test_only_real_images_are_sent_as_images(site, files):
    status, headers, body = await get(f"{site}/artifacts/art-1/images/plots/loss%20curve.png")
    assert (status, headers["content-type"], body) == (200, "image/png", files["plots/loss curve.png"])
    for path in ("evil.png", "evil.svg", "evil.html"):
        assert (await get(f"{site}/artifacts/art-1/images/{path}"))[0] == 400


@pytest.mark.parametrize(
    "path", ["/artifacts/art-9", "/artifacts/art-1?file=../x", "/artifacts/art-1/files/a"]
)
async def test_what_does_not_exist_is_not_found(site, files, path):
    assert (await get(site + path))[0] == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_an_artifact_in_the_browser_runs_nothing(site, files, browser, scheme):
    tab = await browser.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
    for path in ("evil.html", "evil.svg", "model.safetensors", "plots/loss curve.png"):
        await tab.goto(f"{site}/artifacts/art-1?file={path}")
        assert await tab.evaluate("window.hostile") is None
    assert await tab.evaluate("document.querySelector('img.picture').naturalWidth") == 40
    assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
