"""Records to a web server: one POST each, signed, until it answers with success.

Headers as the Standard Webhooks specification names them: `webhook-id` is the record's key, by which the receiver drops what
comes twice; `webhook-timestamp`; `webhook-signature`, `v1,` and the base64 of HMAC-SHA256(secret, "id.timestamp.body").
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING

from lad_edge.errors import UsageError
from lad_edge.outputs.delivery import DeliveryError, RefusedError
from lad_edge.outputs.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lad_edge.outputs.address import Address
    from lad_edge.outputs.ledger import Stored

_TIMEOUT_S = 5.0
_MOST_ANSWER_BYTES = 1 << 16
_REFUSED = frozenset(
    {400, 413, 415, 422}
)  # about this record; every other failure is about the server or the way there
_NOT_LET_IN = frozenset({401, 403})


class WebhookOutput:
    """An output (delivery.py). It follows no redirect: a record goes where the user said, or nowhere."""

    slowest_retry_s = 30.0

    def __init__(self, address: Address) -> None:
        """Raises UsageError."""
        if address.user or address.password:
            raise UsageError(
                f"{address.name}: no user and password in the address; records are signed by ?secret-file=FILE"
            )
        self.name, self._address = address.name, address
        self._secret = _secret(address)
        self._connection = self._new_connection()
        self._reused = False

    def open(self) -> None:
        """Nothing: the connection is made with the first record."""

    def deliver(self, records: Sequence[Stored]) -> None:
        """Posts one after the other. Raises DeliveryError, RefusedError."""
        for count, record in enumerate(records):
            status, reason = self._post(record, count)
            if status in _REFUSED:
                raise RefusedError(f"HTTP {status} {reason}", count)
            if not 200 <= status < 300:
                raise DeliveryError(_advice(status, reason), count)

    def idle(self) -> None:
        """Nothing: a connection that the server closed is opened again with the next record."""

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()
        self._reused = False

    def _post(self, record: Stored, acknowledged: int) -> tuple[int, str]:
        reused = self._reused
        try:
            return self._send(record)
        except (OSError, HTTPException) as exc:
            self.close()
            if reused:  # a server may close an idle connection; the new one gets its own try
                return self._post(record, acknowledged)
            raise DeliveryError(f"no answer: {type(exc).__name__}: {exc}", acknowledged) from exc

    def _send(self, record: Stored) -> tuple[int, str]:
        body = record.line.encode()
        self._connection.request("POST", f"/{self._address.path}", body, self._headers(record.key, body))
        answer = self._connection.getresponse()
        answer.read(_MOST_ANSWER_BYTES)
        self._reused = answer.isclosed() and not answer.will_close
        if not self._reused:  # it wants to close, or its answer is longer than any should be
            self._connection.close()
        return answer.status, answer.reason

    def _headers(self, key: str, body: bytes) -> dict[str, str]:
        moment = str(int(time.time()))
        headers = {"Content-Type": "application/json", "webhook-id": key, "webhook-timestamp": moment}
        if self._secret:
            signed = hmac.digest(self._secret, f"{key}.{moment}.".encode() + body, hashlib.sha256)
            headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
        return headers

    def _new_connection(self) -> HTTPConnection:
        timeout_s = self._address.duration_s("timeout", _TIMEOUT_S)
        host, port = self._address.host, self._address.port
        if self._address.scheme == "http":
            return HTTPConnection(host, port, timeout=timeout_s)
        return HTTPSConnection(host, port, timeout=timeout_s, context=tls_context(self._address))


def _secret(address: Address) -> bytes:
    text = address.secret("secret-file")
    encoded = text.removeprefix("whsec_")
    try:
        return text.encode() if encoded == text else base64.b64decode(encoded, validate=True)
    except ValueError as exc:
        raise UsageError(f"{address.name}: the secret begins with whsec_, but no base64 follows") from exc


def _advice(status: int, reason: str) -> str:
    if 300 <= status < 400:
        return f"HTTP {status} {reason}: redirects are not followed; give the address that it points to"
    if status in _NOT_LET_IN:
        return f"HTTP {status} {reason}: the server does not let us in; check secret-file, cert and key"
    return f"HTTP {status} {reason}"
