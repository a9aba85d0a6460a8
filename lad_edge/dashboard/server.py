"""HTTP for the operator's page, on asyncio: a few files, a stream of messages, labels, one bit of health. No path, URL or command comes in.

h11 reads and writes HTTP/1.1: it is small, pure Python, without dependencies, and what uvicorn and httpx are built on. A framework on top
would hide what matters here: how long a client may take for its header, its body and each answer, and how much waits for it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Mapping
from contextlib import aclosing, suppress
from http import HTTPStatus
from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING

from lad_edge.dashboard.access import Access
from lad_edge.dashboard.hub import Hub
from lad_edge.dashboard.labels import Labels
from lad_edge.dashboard.messages import pack
from lad_edge.errors import MissingDependencyError, UsageError

try:
    import h11
except ModuleNotFoundError as exc:
    raise MissingDependencyError("--dashboard needs h11; pip install 'lad-edge[dashboard]'") from exc

if TYPE_CHECKING:
    from lad_edge.dashboard.process import Settings

CONNECTIONS = 64
_HEADER_BYTES, _BODY_BYTES = 16 << 10, 1 << 20
_READ_S, _WRITE_S = 10.0, 10.0  # for a whole request; for one message or file
_HANDSHAKE_S = 5.0
_PUNISHMENT_S = 0.25  # before a wrong token is answered
_SEND_BUFFER_BYTES = 128 << 10  # of the system for one viewer: what lies there is old when it arrives
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_HEADERS = (
    ("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    ("Connection", "close"),
)


class _Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """The request is answered with this status."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Server:
    """`hub` is fed by the caller."""

    def __init__(self, token: str | None, labels: str) -> None:
        """labels: the folder for them, "" = none are taken. Raises OSError when it cannot be made."""
        self.hub = Hub()
        self._token = token
        self._labels = Labels(labels) if labels else None
        self._files = {f"/{name}": asset for name, asset in _assets().items()}
        self._files["/"] = self._files.pop("/index.html")
        self._access = Access("127.0.0.1", token, private=True)
        self._connections = 0
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None, *, plain: bool = False) -> int:
        """The port, which `port` 0 leaves to the system. plain: others too may look without TLS. Raises UsageError, OSError."""
        self._access = Access(host, self._token, private=plain or tls is not None)
        handshake_s = None if tls is None else _HANDSHAKE_S
        try:
            self._server = await asyncio.start_server(
                self._connected, host, port, ssl=tls, ssl_handshake_timeout=handshake_s
            )
        except OSError as exc:
            raise OSError(f"{exc.strerror or exc}; choose another address or port") from exc
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Nobody is let in any more."""
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= CONNECTIONS:
            writer.transport.abort()
            return
        self._connections += 1
        try:
            await self._serve(_Client(reader, writer))
        except (OSError, asyncio.TimeoutError, asyncio.CancelledError, h11.ProtocolError):
            pass  # a client that hangs, hangs up or talks nonsense is no event, nor is the end of the process
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _serve(self, client: _Client) -> None:
        try:
            request, body = await asyncio.wait_for(client.request(), _READ_S)
            await self._answer(client, request, body)
        except _Refusal as refusal:
            text = json.dumps({"error": str(refusal)}).encode()
            await client.answer(refusal.status, "application/json", text)

    async def _answer(self, client: _Client, request: h11.Request, body: bytes) -> None:
        headers = {bytes(name).decode("ascii"): bytes(value).decode("latin-1") for name, value in request.headers}
        route = bytes(request.method).decode(), bytes(request.target).decode("ascii", "replace")
        method, target = route
        if method == "GET" and target in self._files:
            await client.answer(HTTPStatus.OK, *self._files[target])
        elif route == ("GET", "/health"):
            await client.answer(
                HTTPStatus.OK if self.hub.ready else HTTPStatus.SERVICE_UNAVAILABLE,
                *_as_json({"ready": self.hub.ready}),
            )
        elif route == ("GET", "/feed"):
            await self._check(self._access.may_see(headers))
            await self._stream(client)
        elif route == ("POST", "/label"):
            await self._check(self._access.may_change(headers))
            await client.answer(HTTPStatus.OK, *_as_json(self._label(body)))
        else:
            raise _Refusal(HTTPStatus.NOT_FOUND, "there is the page at /, and /health")

    async def _check(self, allowed: bool) -> None:
        if not allowed:
            await asyncio.sleep(_PUNISHMENT_S)
            raise _Refusal(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong, or another page asks")

    async def _stream(self, client: _Client) -> None:
        await client.start("application/octet-stream")
        await client.send(pack({"kind": "page", "labels": self._labels is not None}).data)
        async with aclosing(self.hub.newest()) as newest:
            async for message in newest:
                await client.send(message.data)

    def _label(self, body: bytes) -> Mapping[str, object]:
        if self._labels is None:
            raise _Refusal(
                HTTPStatus.NOT_FOUND, "labels are not kept here: start the line with --dashboard-labels FOLDER"
            )
        try:
            asked = json.loads(body)
            label, camera, seq = asked["label"], asked["camera"], asked["seq"]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise _Refusal(HTTPStatus.BAD_REQUEST, 'expected {"label": …, "camera": …, "seq": …}') from exc
        part = self.hub.find(camera, seq)
        if part is None:
            raise _Refusal(HTTPStatus.NOT_FOUND, "this part was shown too long ago")
        try:
            line = self._labels.add(label, part)
        except ValueError as exc:
            raise _Refusal(HTTPStatus.BAD_REQUEST, str(exc)) from exc
        except OSError as exc:
            raise _Refusal(HTTPStatus.INSUFFICIENT_STORAGE, f"the label is not kept: {exc.strerror or exc}") from exc
        return {"label": line["label"], "seq": line["seq"]}


class _Client:
    """One connection, one request, one answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADER_BYTES)
        # So that `drain` waits for the client, not for a buffer. Not 0: asyncio's TLS would wait with an empty one.
        writer.transport.set_write_buffer_limits(high=1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    async def request(self) -> tuple[h11.Request, bytes]:
        """With its body. Raises _Refusal, OSError."""
        request, body = None, b""
        try:
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(await self._reader.read(_HEADER_BYTES))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > _BODY_BYTES:
                        raise _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {_BODY_BYTES} bytes")
                elif isinstance(event, h11.EndOfMessage) and request is not None:
                    return request, body
                else:
                    raise ConnectionError("the client has gone")
        except h11.RemoteProtocolError as exc:
            raise _Refusal(HTTPStatus(exc.error_status_hint), "this is no HTTP request that can be meant") from exc

    async def answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        """All of it."""
        await self.start(kind, status, len(body))
        await self.send(body)
        self._write(self._http.send(h11.EndOfMessage()))
        await self._drain()
        with suppress(OSError):
            if self._writer.can_write_eof():  # not over TLS, whose end is a message of its own
                self._writer.write_eof()
            await asyncio.wait_for(self._reader.read(_BODY_BYTES), 1.0)  # what still comes must not reset the answer

    async def start(self, kind: str, status: HTTPStatus = HTTPStatus.OK, length: int | None = None) -> None:
        """The head of an answer; without a length it is a stream."""
        size = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        headers = [("Content-Type", f"{kind}; charset=utf-8"), size, *_HEADERS]
        self._write(self._http.send(h11.Response(status_code=status, headers=headers, reason=status.phrase)))
        await self._drain()

    async def send(self, data: bytes) -> None:
        """A piece of the body. Raises TimeoutError when the client does not take it."""
        self._write(self._http.send(h11.Data(data=data)))
        await self._drain()

    def _write(self, data: bytes | None) -> None:
        self._writer.write(data or b"")

    async def _drain(self) -> None:
        await asyncio.wait_for(self._writer.drain(), _WRITE_S)


def check(settings: Settings) -> None:
    """Whether the page may be served so; no port is opened. Raises UsageError."""
    if settings.certificate:
        server_context(settings.certificate, settings.key)
    Access(settings.host, settings.token, private=settings.plain or bool(settings.certificate))


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, by PEM files; the key may stand in the file of the certificate. Raises UsageError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key or None, password="")  # nobody is there to be asked for one
    except OSError as exc:  # ssl.SSLError is one
        raise UsageError(f"its certificate {certificate} or its key cannot be used: {exc}; give PEM files") from exc
    return context


def _as_json(document: Mapping[str, object]) -> tuple[str, bytes]:
    return "application/json", json.dumps(document).encode()


def _assets() -> dict[str, tuple[str, bytes]]:
    """Type and bytes of the page's files, by name."""
    folder = files("lad_edge.dashboard") / "static"
    return {asset.name: (_TYPES[PurePath(asset.name).suffix], asset.read_bytes()) for asset in folder.iterdir()}
