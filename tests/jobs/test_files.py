"""Files between a directory and the object store: whole or not at all, and checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunix_rt.blobs.blobs import key_of
from tunix_rt.blobs.directory import DirectoryBlobs
from tunix_rt.jobs.files import fetch_files, store_files
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.v1.artifact_pb2 import File


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "blobs")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_text("b")
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "c.txt").write_text("")
    return folder


async def test_what_was_stored_is_fetched(tmp_path: Path, blobs: DirectoryBlobs, source: Path) -> None:
    files = await store_files(blobs, source)
    assert [(file.path, file.size_bytes) for file in files] == [("a.txt", 1), ("b.txt", 1), ("deep/c.txt", 0)]
    target = await fetch_files(blobs, files, tmp_path / "new" / "target")
    assert {path.relative_to(target).as_posix() for path in target.rglob("*.txt")} == {
        "a.txt",
        "b.txt",
        "deep/c.txt",
    }
    assert (target / "b.txt").read_text() == "b"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


async def test_a_directory_that_is_there_is_left_as_it_is(
    tmp_path: Path, blobs: DirectoryBlobs, source: Path
) -> None:
    files = await store_files(blobs, source)
    (tmp_path / "target").mkdir()
    assert list((await fetch_files(blobs, files, tmp_path / "target")).iterdir()) == []


@pytest.mark.parametrize("damage", ["remove", "change"])
async def test_missing_and_corrupt_bytes_leave_nothing(
    tmp_path: Path, blobs: DirectoryBlobs, source: Path, damage: str
) -> None:
    files = await store_files(blobs, source)
    stored = tmp_path / "blobs" / key_of(files[1].sha256)
    if damage == "remove":
        stored.unlink()
    else:
        stored.write_text("x")
    with pytest.raises(FailedPrecondition) as caught:
        await fetch_files(blobs, files, tmp_path / "new" / "target")
    assert caught.value.reason is (Reason.BLOB_MISSING if damage == "remove" else Reason.BLOB_CORRUPT)
    assert list((tmp_path / "new").iterdir()) == []


async def test_a_path_cannot_leave_the_directory(tmp_path: Path, blobs: DirectoryBlobs, source: Path) -> None:
    (stored, *_) = await store_files(blobs, source)
    with pytest.raises(ValueError, match="no path inside"):
        await fetch_files(blobs, [File(path="../evil", sha256=stored.sha256)], tmp_path / "target")
    assert not (tmp_path / "evil").exists()
