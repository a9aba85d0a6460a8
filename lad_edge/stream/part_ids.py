"""What line software sends to trigger a part goes in, the name of the part comes out."""

from __future__ import annotations

import json
import re

PART_ID = re.compile(r"[A-Za-z0-9._-]{0,64}", re.ASCII)
MOST_BYTES = 4096
EXPECTED = 'expected {"part_id": "…"} of A-Z a-z 0-9 . _ - (64 at most), or nothing'


def part_id_of(body: bytes) -> str | None:
    """The name in a request, "" when it has none, None when it is no request."""
    if not body.strip():
        return ""
    try:
        part_id = json.loads(body)["part_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return part_id if isinstance(part_id, str) and PART_ID.fullmatch(part_id) else None
