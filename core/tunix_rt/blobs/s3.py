"""An object store in an S3 bucket, such as MinIO's; the only module that knows minio."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import urllib3
from minio import Minio
from minio.commonconfig import REPLACE, CopySource
from minio.error import MinioException, S3Error

from tunix_rt.blobs.blobs import (
    CHUNK_BYTES,
    RENEWED_AFTER,
    Blob,
    BlobMissingError,
    BlobsUnavailableError,
    StoredBlob,
    checked,
    is_sha256,
    key_of,
)

_MISSING = frozenset({"NoSuchKey", "NoSuchObject"})
_PART_BYTES = 16 * 1024 * 1024
_MAX_PARTS = 5000


class S3Blobs:
    """Blobs as objects of a bucket, which is made if it is missing."""

    def __init__(self, endpoint: str, bucket: str, access_key: str, secret_key: str, *, secure: bool) -> None:
        self._partials = Path(tempfile.gettempdir()) / "tunix-rt-partial"
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=5.0, read=60.0),
            maxsize=16,
            retries=urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
        )
        self._client = Minio(
            endpoint, access_key=access_key, secret_key=secret_key, secure=secure, http_client=pool
        )
        self._bucket = bucket
        try:
            if not self._client.bucket_exists(bucket):
                self._make_bucket()
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise BlobsUnavailableError(f"bucket {bucket} at {endpoint}: {error}") from error

    def stat(self, sha256: str) -> Blob | None:
        """The blob, or None if it is not stored."""
        try:
            found = self._client.stat_object(self._bucket, key_of(sha256))
        except S3Error as error:
            if error.code in _MISSING:
                return None
            raise BlobsUnavailableError(str(error)) from error
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise BlobsUnavailableError(str(error)) from error
        return Blob(sha256, found.size or 0)

    def put_file(self, path: Path, blob: Blob) -> None:
        """Uploads a file, in parts if it is large; readers check the digest."""
        try:
            part_size = max(_PART_BYTES, -(-blob.size_bytes // _MAX_PARTS))  # each part is held in memory
            self._client.fput_object(self._bucket, key_of(blob.sha256), str(path), part_size=part_size)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise BlobsUnavailableError(str(error)) from error

    @property
    def partials(self) -> Path:
        """A folder of this machine's."""
        return self._partials

    def adopt(self, path: Path, blob: Blob) -> None:
        """Uploads a file of `partials` and removes it."""
        self.put_file(path, blob)
        path.unlink(missing_ok=True)

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset; a read from 0 checks the digest."""
        chunks = self._chunks(sha256, offset)
        return checked(chunks, sha256) if offset == 0 else chunks

    def delete(self, sha256: str) -> None:
        """Deletes a blob, if it is stored."""
        try:
            self._client.remove_object(self._bucket, key_of(sha256))
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise BlobsUnavailableError(str(error)) from error

    def renew(self, sha256: str, older_than: timedelta = RENEWED_AFTER) -> None:
        """Gives a blob the present as its time, if it is older than that: the store copies it to itself."""
        key = key_of(sha256)
        try:
            stored = self._client.stat_object(self._bucket, key).last_modified
            if stored is None or datetime.now(UTC) - stored >= older_than:
                source = CopySource(self._bucket, key)
                self._client.copy_object(self._bucket, key, source, metadata_directive=REPLACE)
        except S3Error as error:
            if error.code in _MISSING:
                raise BlobMissingError(sha256) from error
            raise BlobsUnavailableError(str(error)) from error
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise BlobsUnavailableError(str(error)) from error

    def list(self) -> Iterator[StoredBlob]:
        """All blobs."""
        try:
            for found in self._client.list_objects(self._bucket, prefix="sha256/", recursive=True):
                digest = (found.object_name or "").rsplit("/", 1)[-1]
                if is_sha256(digest) and found.last_modified is not None:
                    yield StoredBlob(digest, found.size or 0, found.last_modified)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise BlobsUnavailableError(str(error)) from error

    def check(self) -> None:
        """Returns if the bucket is there."""
        try:
            there = self._client.bucket_exists(self._bucket)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise BlobsUnavailableError(str(error)) from error
        if not there:
            raise BlobsUnavailableError(f"there is no bucket {self._bucket}")

    def _chunks(self, sha256: str, offset: int) -> Iterator[bytes]:
        try:
            response = self._client.get_object(self._bucket, key_of(sha256), offset=offset)
        except S3Error as error:
            if error.code in _MISSING:
                raise BlobMissingError(sha256) from error
            raise BlobsUnavailableError(str(error)) from error
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise BlobsUnavailableError(str(error)) from error
        try:
            yield from response.stream(CHUNK_BYTES)
        except urllib3.exceptions.HTTPError as error:
            raise BlobsUnavailableError(str(error)) from error
        finally:
            response.close()
            response.release_conn()

    def _make_bucket(self) -> None:
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise
