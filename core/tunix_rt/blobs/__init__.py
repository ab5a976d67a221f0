"""The object store: bytes under their SHA-256, in a folder or in S3."""
