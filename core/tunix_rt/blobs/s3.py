"""An object store in an S3 bucket, such as MinIO's; the only module that knows minio."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.commonconfig import REPLACE, CopySource
from minio.datatypes import Part
from minio.error import MinioException, S3Error

from tunix_rt.blobs.blobs import (
    CHUNK_BYTES,
    RENEWED_AFTER,
    Blob,
    BlobCorruptError,
    BlobMissingError,
    BlobsUnavailableError,
    StoredBlob,
    checked,
    is_sha256,
    key_of,
)
from tunix_rt.blobs.direct import (
    KEPT_FOR,
    URLS_LAST,
    DirectTransfers,
    NoSuchUploadError,
    PartsMissingError,
    SignedPart,
    SignedUpload,
    spans_of,
)

_MISSING = frozenset({"NoSuchKey", "NoSuchObject"})
_PART_BYTES = 16 * 1024 * 1024
_MAX_PARTS = 5000


class S3Blobs:
    """Blobs as objects of a bucket, which is made if it is missing.

    `public` is the store's address as clients reach it, `https://host:port`: with it there are direct
    transfers. URLs are signed for it and for `region` without asking the store.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        access_key: str,
        secret_key: str,
        *,
        secure: bool,
        public: str = "",
        region: str = "us-east-1",
    ) -> None:
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
        self.direct: DirectTransfers | None = None
        if public:
            address = urlsplit(public)
            signer = Minio(
                address.netloc,
                access_key=access_key,
                secret_key=secret_key,
                secure=address.scheme == "https",
                region=region,
            )
            self.direct = S3Direct(self._client, signer, bucket)

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


class S3Direct:
    """Uploads in parts to `uploads/{sha256}`, which becomes a blob when it was read back and is right."""

    def __init__(self, client: Minio, signer: Minio, bucket: str) -> None:
        self._client = client
        self._signer = signer
        self._bucket = bucket

    def start(self, blob: Blob) -> SignedUpload:
        """The upload of a blob: the one that is open, or a new one."""
        key, expires = _upload_key(blob.sha256), datetime.now(UTC) + URLS_LAST
        with _answering():
            open_now = self._client._list_multipart_uploads(self._bucket, prefix=key).uploads
            ids = [each.upload_id for each in open_now if each.object_name == key and each.upload_id]
            upload_id = ids[0] if ids else self._client._create_multipart_upload(self._bucket, key, {})
            have = self._parts(key, upload_id) if ids else {}
        parts = []
        for span in spans_of(blob.size_bytes):
            query: dict[str, str | list[str] | tuple[str]] = {
                "partNumber": str(span.number),
                "uploadId": upload_id,
            }
            url = self._signer.get_presigned_url(
                "PUT", self._bucket, key, expires=URLS_LAST, extra_query_params=query
            )
            part = have.get(span.number)
            parts.append(SignedPart(span, url, part is not None and part.size == span.size_bytes))
        return SignedUpload(upload_id, tuple(parts), expires)

    def complete(self, blob: Blob, upload_id: str) -> None:
        """Reads back what came and makes it a blob if it has its digest; it is dropped otherwise."""
        key = _upload_key(blob.sha256)
        with _answering():
            self._join(key, blob, upload_id)
            try:
                etag = self._verify(key, blob)
            except BlobCorruptError:
                self._client.remove_object(self._bucket, key)
                raise
            source = CopySource(self._bucket, key, match_etag=etag)  # what was read, and nothing newer
            self._client.copy_object(self._bucket, key_of(blob.sha256), source)
            self._client.remove_object(self._bucket, key)

    def abort(self, sha256: str, upload_id: str) -> None:
        """Drops what came. An upload that does not exist is aborted already."""
        try:
            with _answering():
                self._client._abort_multipart_upload(self._bucket, _upload_key(sha256), upload_id)
        except NoSuchUploadError:
            return

    def sign_read(self, sha256: str) -> tuple[str, datetime]:
        """A URL from which a blob can be read, and until when."""
        expires = datetime.now(UTC) + URLS_LAST
        return self._signer.get_presigned_url("GET", self._bucket, key_of(sha256), expires=URLS_LAST), expires

    def sweep(self, older_than: timedelta = KEPT_FOR) -> None:
        """Aborts uploads that were begun so long ago.

        MinIO lists uploads of one object only, and removes old ones by itself.
        """
        before = datetime.now(UTC) - older_than
        with _answering():
            for each in self._client._list_multipart_uploads(self._bucket, prefix="uploads/").uploads:
                if each.initiated_time and each.initiated_time < before and each.upload_id:
                    self.abort((each.object_name or "").rsplit("/", 1)[-1], each.upload_id)
            for found in self._client.list_objects(self._bucket, prefix="uploads/", recursive=True):
                if found.object_name and found.last_modified and found.last_modified < before:
                    self._client.remove_object(self._bucket, found.object_name)

    def _join(self, key: str, blob: Blob, upload_id: str) -> None:
        """Makes one object of the parts; one that a call which broke off has made is taken as it is."""
        try:
            have = self._parts(key, upload_id)
        except S3Error as error:
            if error.code != "NoSuchUpload" or not self._is_object(key):
                raise
            return
        spans = spans_of(blob.size_bytes)
        sizes = {number: part.size for number, part in have.items()}
        missing = [span.number for span in spans if sizes.get(span.number) != span.size_bytes]
        if missing:
            raise PartsMissingError(missing)
        parts = [have[span.number] for span in spans]
        self._client._complete_multipart_upload(self._bucket, key, upload_id, parts)

    def _is_object(self, key: str) -> bool:
        try:
            self._client.stat_object(self._bucket, key)
        except S3Error as error:
            if error.code in _MISSING:
                return False
            raise
        return True

    def _parts(self, key: str, upload_id: str) -> dict[int, Part]:
        found: dict[int, Part] = {}
        marker: str | None = None
        while True:
            page = self._client._list_parts(self._bucket, key, upload_id, part_number_marker=marker)
            found.update((part.part_number, part) for part in page.parts)
            if not page.is_truncated:
                return found
            marker = str(page.next_part_number_marker)

    def _verify(self, key: str, blob: Blob) -> str:
        """The store's tag of the bytes that were read. Raises BlobCorruptError if their digest is another."""
        response = self._client.get_object(self._bucket, key)
        digest = hashlib.sha256()
        try:
            for chunk in response.stream(CHUNK_BYTES):
                digest.update(chunk)
        finally:
            response.close()
            response.release_conn()
        if digest.hexdigest() != blob.sha256:
            raise BlobCorruptError(blob.sha256, digest.hexdigest())
        etag = response.headers.get("ETag", "").strip('"')
        if not etag:
            raise BlobsUnavailableError("the object store gives no ETag, so nothing can be copied safely")
        return etag


def _upload_key(sha256: str) -> str:
    if not is_sha256(sha256):
        raise ValueError(f"`{sha256[:80]}` is no SHA-256")
    return f"uploads/{sha256}"


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        if error.code == "NoSuchUpload":
            raise NoSuchUploadError from error
        raise BlobsUnavailableError(str(error)) from error
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise BlobsUnavailableError(str(error)) from error
