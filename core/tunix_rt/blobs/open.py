"""Chooses the object store by its URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.blobs.directory import DirectoryBlobs


def open_blobs(url: str) -> Blobs:
    """Opens `file:///folder` or `s3://KEY:SECRET@host:port/bucket?secure=false&public=https://host`.

    In an `s3` URL key and secret are percent-encoded; `secure` is `true` unless given. `public` is the
    store's address as clients reach it, for direct transfers; `region` is what its URLs are signed for,
    `us-east-1` unless given.
    Raises ValueError for another scheme or missing parts, BlobsUnavailableError
    if the store does not answer.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return DirectoryBlobs(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        bucket = parts.path.strip("/")
        if not (parts.hostname and bucket and parts.username and parts.password):
            raise ValueError("an s3 URL needs key, secret, host and bucket: s3://KEY:SECRET@host:port/bucket")
        from tunix_rt.blobs.s3 import S3Blobs

        endpoint = parts.hostname + (f":{parts.port}" if parts.port else "")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        public = query.get("public", "")
        if public and (urlsplit(public).scheme not in {"http", "https"} or not urlsplit(public).netloc):
            raise ValueError(
                f"`public` of an s3 URL is `{public}`; it must be http://host:port or https://host:port"
            )
        return S3Blobs(
            endpoint,
            bucket,
            unquote(parts.username),
            unquote(parts.password),
            secure=query.get("secure", "true") != "false",
            public=public,
            region=query.get("region", "us-east-1"),
        )
    raise ValueError(f"`{parts.scheme}` is no object store; use file:///folder or s3://…")
