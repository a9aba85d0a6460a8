"""The one layout between line, page's process and browser."""

from __future__ import annotations

import io

import pytest

from lad_edge.dashboard.messages import LENGTHS, MOST_BYTES, pack, receive, unpack


def test_what_is_packed_comes_out_again() -> None:
    data = io.BytesIO(pack({"kind": "part", "name": "Ü \ud83d"}, b"JPEG", b"PNG").data + pack({"kind": "state"}).data)
    message = receive(data.read)
    assert (message.head, message.picture, message.heat) == ({"kind": "part", "name": "Ü \ud83d"}, b"JPEG", b"PNG")
    assert receive(data.read).head == {"kind": "state"}


def test_lengths_that_cannot_be_meant_are_refused_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="at most"):
        receive(io.BytesIO(LENGTHS.pack(1, MOST_BYTES + 1, 0)).read)


@pytest.mark.parametrize("head", [b"[1]", b"{", b"\xff"])
def test_a_head_that_is_no_object_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(LENGTHS.pack(len(head), 0, 0), head)


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        pack({"score": float("nan")})
