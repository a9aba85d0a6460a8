"""Who may see the page and who may press its buttons (reliability.md §6.3)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from lad_edge.errors import UsageError
from lad_edge.stream.loopback import is_loopback


class Access:
    """With a token: every request about parts carries it. Without one: requests come from this machine, and from this page.

    No cookie is ever set or read, so no other site can make a browser send the token along.
    """

    def __init__(self, host: str, token: str | None, *, private: bool) -> None:
        """private: nobody on the way can read along. Raises UsageError for an address that others can reach, without that or a token."""
        if token is None and not is_loopback(host):
            raise UsageError("others can reach this address: it needs --dashboard-token-file, or 127.0.0.1")
        if not private and not is_loopback(host):
            raise UsageError(
                "the token would cross the network in clear text: give --dashboard-cert and --dashboard-key, or say with "
                "--dashboard-plain that this network may read it"
            )
        self._token = token

    def may_see(self, headers: Mapping[str, str]) -> bool:
        """headers: by their names in lower case."""
        if self._token is None:
            return is_loopback(_host_of(headers.get("host", "")))  # not a foreign name that points here (DNS rebinding)
        given = headers.get("authorization", "").encode("utf-8", "replace")
        return hmac.compare_digest(given, f"Bearer {self._token}".encode())

    def may_change(self, headers: Mapping[str, str]) -> bool:
        """As `may_see`; and a browser says that the page itself asks, in a form that other pages cannot send unasked."""
        own = f"://{headers.get('host', '')}"
        origin = headers.get("origin")
        same = origin is None or origin in (f"http{own}", f"https{own}")
        site = headers.get("sec-fetch-site", "same-origin")
        is_json = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        return self.may_see(headers) and same and site == "same-origin" and is_json


def _host_of(header: str) -> str:
    """`[::1]:8600` → `::1`."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
