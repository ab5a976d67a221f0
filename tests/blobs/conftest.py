"""The two object stores: a folder and an S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.blobs.open import open_blobs


@pytest.fixture(params=["directory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "directory":
        return open_blobs(f"file://{tmp_path}/blobs")
    return open_blobs(request.getfixturevalue("s3_url"))
