from __future__ import annotations

import pytest

from tunix_rt.rpc.errors import InvalidArgument, Reason
from tunix_rt.rpc.pages import decode_token, encode_token, page_size


def test_a_token_gives_back_its_position() -> None:
    token = encode_token(["2026-01-01", "runs/a"], ["RUNNING"])
    assert decode_token(token, ["RUNNING"], 2) == ["2026-01-01", "runs/a"]


def test_the_empty_token_is_the_beginning() -> None:
    assert decode_token("", [], 2) is None


@pytest.mark.parametrize(
    "token", ["x", "é", "bm8", encode_token(["a"], []), encode_token(["a", "b"], ["other"])]
)
def test_a_foreign_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_token(token, [], 2)
    assert caught.value.reason is Reason.INVALID_PAGE_TOKEN


def test_page_sizes() -> None:
    assert [page_size(0), page_size(7), page_size(5000)] == [50, 7, 1000]
    with pytest.raises(InvalidArgument):
        page_size(-1)
