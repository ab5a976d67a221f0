"""Plain values as `google.protobuf.Struct`."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct


def struct_of(values: Mapping[str, object]) -> Struct:
    """The values, which JSON can hold, as a message."""
    return ParseDict(dict(values), Struct())
