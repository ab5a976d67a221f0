"""One contract for every object store."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from tunix_rt.blobs.blobs import (
    Blob,
    BlobCorruptError,
    BlobMissingError,
    Blobs,
    BlobsUnavailableError,
    fetch_file,
    hash_file,
    store_file,
)
from tunix_rt.blobs.open import open_blobs


def write(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 3 * 1024 * 1024 + 17])
def test_what_is_stored_is_read_back(blobs: Blobs, tmp_path: Path, size: int) -> None:
    source = write(tmp_path / "source", size)
    blob = store_file(blobs, source)
    assert blob == hash_file(source)
    assert blobs.stat(blob.sha256) == blob
    fetch_file(blobs, blob.sha256, tmp_path / "out" / "copy")
    assert (tmp_path / "out" / "copy").read_bytes() == source.read_bytes()


def test_a_read_can_begin_in_the_middle(blobs: Blobs, tmp_path: Path) -> None:
    source = write(tmp_path / "source", 2_000_000)
    blob = store_file(blobs, source)
    assert b"".join(blobs.read(blob.sha256, 1_999_990)) == source.read_bytes()[-10:]


def test_missing_bytes_are_missing(blobs: Blobs, tmp_path: Path) -> None:
    absent = "0" * 64
    assert blobs.stat(absent) is None
    with pytest.raises(BlobMissingError):
        b"".join(blobs.read(absent))
    with pytest.raises(BlobMissingError):
        fetch_file(blobs, absent, tmp_path / "copy")
    assert list(tmp_path.glob("copy*")) == []


def test_deleted_bytes_are_gone_and_can_be_stored_again(blobs: Blobs, tmp_path: Path) -> None:
    source = write(tmp_path / "source", 1000)
    blob = store_file(blobs, source)
    blobs.delete(blob.sha256)
    blobs.delete(blob.sha256)
    assert blobs.stat(blob.sha256) is None
    store_file(blobs, source)
    assert blobs.stat(blob.sha256) == blob


def test_storing_the_same_bytes_again_changes_nothing(blobs: Blobs, tmp_path: Path) -> None:
    source = write(tmp_path / "source", 1000)
    assert store_file(blobs, source) == store_file(blobs, source)


def test_a_name_that_is_no_digest_is_refused(blobs: Blobs) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        blobs.stat("../../etc/passwd")


def test_many_writers_of_the_same_bytes_leave_them_whole(blobs: Blobs, tmp_path: Path) -> None:
    source = write(tmp_path / "source", 500_000)
    blob = hash_file(source)
    writers = [threading.Thread(target=blobs.put_file, args=(source, blob)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert b"".join(blobs.read(blob.sha256)) == source.read_bytes()


def test_damage_in_the_folder_is_found(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    blob = store_file(blobs, write(tmp_path / "source", 1000))
    (stored,) = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    stored.write_bytes(b"x" * 1000)
    with pytest.raises(BlobCorruptError):
        fetch_file(blobs, blob.sha256, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_file_that_changed_after_hashing_is_not_stored(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    announced = Blob("a" * 64, 10)
    with pytest.raises(BlobCorruptError):
        blobs.put_file(write(tmp_path / "source", 10), announced)
    assert blobs.stat(announced.sha256) is None


def test_a_store_that_is_away_is_unavailable() -> None:
    with pytest.raises(BlobsUnavailableError):
        open_blobs("s3://a:b@127.0.0.1:9/blobs?secure=false")


def test_a_wrong_secret_is_refused(s3_url: str) -> None:
    with pytest.raises(BlobsUnavailableError):
        open_blobs(s3_url.replace("tunix-test-secret", "wrong"))


@pytest.mark.parametrize("url", ["/tmp/x", "http://host/x", "s3://host/bucket", "file://host/x"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"object store|needs key"):
        open_blobs(url)


def test_two_fetches_of_one_file_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    target, seen = tmp_path / "copy", []

    class Meeting:
        """Fetches the same file again in the middle of its first read."""

        def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
            outer = not seen
            seen.append(sha256)
            yield b"one "
            if outer:
                fetch_file(cast("Blobs", self), sha256, target)
                assert target.read_bytes() == b"one two"
            yield b"two"

    fetch_file(cast("Blobs", Meeting()), "a" * 64, target)
    assert target.read_bytes() == b"one two"
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_all_blobs_are_listed_with_their_sizes(blobs: Blobs, tmp_path: Path) -> None:
    blob = store_file(blobs, write(tmp_path / "source", 1234))
    found = {each.sha256: each.size_bytes for each in blobs.list()}
    assert found[blob.sha256] == 1234


def test_a_renewed_blob_is_as_young_as_a_new_one(blobs: Blobs, tmp_path: Path) -> None:
    blob = store_file(blobs, write(tmp_path / "source", 1000))
    before = next(each.store_time for each in blobs.list() if each.sha256 == blob.sha256)
    blobs.renew(blob.sha256)
    assert next(each.store_time for each in blobs.list() if each.sha256 == blob.sha256) == before
    blobs.renew(blob.sha256, older_than=timedelta(0))
    assert next(each.store_time for each in blobs.list() if each.sha256 == blob.sha256) >= before
    assert b"".join(blobs.read(blob.sha256)) == (tmp_path / "source").read_bytes()
    with pytest.raises(BlobMissingError):
        blobs.renew("0" * 64)


def test_a_store_that_answers_is_well(blobs: Blobs) -> None:
    blobs.check()


def test_a_folder_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    (tmp_path / "blobs").rmdir()
    with pytest.raises(BlobsUnavailableError):
        blobs.check()
