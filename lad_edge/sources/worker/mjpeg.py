"""Motion JPEG over HTTP: the parts of a multipart answer go in, whole pictures come out, cut ones as FRAME_INCOMPLETE."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPSHandler,
    ProxyHandler,
    build_opener,
)

import numpy as np

from lad_edge.errors import DataError
from lad_edge.images import decode_image
from lad_edge.sources.uri import redacted
from lad_edge.sources.worker.driver import DriverError, Room, Shot
from lad_edge.sources.worker.serving import now

if TYPE_CHECKING:
    from http.client import HTTPResponse

_MOST_HEADER_LINES = 64
_MOST_JPEG_BYTES = 64 * 2**20
_MAGIC = b"\xff\xd8\xff"


class MjpegDriver:
    """One `multipart/x-mixed-replace` answer; request: url, silence in s, ca (a file, or empty). Its credentials stay in here."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._url, self.name, self._silence_s = request["url"], redacted(request["url"]), float(request["silence"])
        self._ca = request["ca"] or None
        self._answer: HTTPResponse | None = None
        self._at_boundary = False  # the line that begins the next part has been read

    def open(self) -> str:
        """Connects and reads the header. Raises DriverError."""
        try:
            url, opener = _without_credentials(self._url, self._ca)
            answer: HTTPResponse = opener.open(url, timeout=self._silence_s)
        except (OSError, ValueError) as exc:  # HTTPError and URLError are OSErrors; ValueError: a malformed answer
            raise DriverError(
                f"the stream {self.name} does not open ({_why(exc)}): check address, user and password, and that this machine "
                "reaches the host"
            ) from exc
        self._answer = answer
        kind, boundary = answer.headers.get_content_type(), answer.headers.get_boundary()
        if not kind.startswith("multipart/") or not boundary:
            raise DriverError(
                f"the stream {self.name} does not open: expected motion JPEG (multipart/x-mixed-replace), came {kind}; look "
                "up the camera's MJPEG address, or use its rtsp:// one"
            )
        self._boundary = b"--" + boundary.strip('"').removeprefix("--").encode()
        return f"{self.name}, motion JPEG"

    def read(self, room: Room) -> Shot | None:
        """The next part. Raises DriverError at the end of the answer, or when nothing comes."""
        try:
            data, moment = self._part()
        except (OSError, ValueError) as exc:
            raise DriverError(f"{self.name} ({_why(exc)}) delivers no more frames") from exc
        pixels = room()
        if pixels is None:
            return Shot(*moment)
        try:
            picture = decode_image(data, self.name)
        except DataError as exc:
            return Shot(*moment, fault="FRAME_INCOMPLETE", detail=str(exc))
        height, width = picture.image.shape[:2]
        np.copyto(np.frombuffer(pixels, np.uint8, picture.image.size).reshape(picture.image.shape), picture.image)
        return Shot(*moment, width, height, picture.image.size, picture.pixel_format)

    def trigger(self) -> None:
        """Raises DriverError: such a camera runs freely."""
        raise DriverError(f"{self.name} takes no software trigger")

    def close(self) -> None:
        """Hangs up."""
        if self._answer is not None:
            self._answer.close()

    def _part(self) -> tuple[bytes, tuple[int, int]]:
        """The bytes of one part, and when its first line came. Raises OSError, ValueError."""
        self._skip_to_boundary()
        moment, length = now(), self._length()
        if length is None:
            return self._up_to_boundary(), moment
        if not 0 < length <= _MOST_JPEG_BYTES:
            raise ValueError(f"a part of {length} bytes is announced")
        data = self._stream.read(length)
        if len(data) < length:
            raise ValueError("the stream ends inside a picture")
        return data, moment

    @property
    def _stream(self) -> HTTPResponse:
        if self._answer is None:
            raise ValueError("it is not open")
        return self._answer

    def _skip_to_boundary(self) -> None:
        lines = 0
        while not self._at_boundary:
            self._at_boundary = self._line().startswith(self._boundary)
            lines += 1
            if lines > _MOST_HEADER_LINES:
                raise ValueError("no part begins where one should")
        self._at_boundary = False

    def _length(self) -> int | None:
        """Content-Length of the part, None if it does not say; reads up to the empty line."""
        length = None
        for _ in range(_MOST_HEADER_LINES):
            line = self._line().strip()
            if not line:
                return length
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        raise ValueError("the header of a part does not end")

    def _up_to_boundary(self) -> bytes:
        """A part without a length ends where the next one begins."""
        lines, size = [], 0
        while not (line := self._line()).startswith(self._boundary):
            lines.append(line)
            size += len(line)
            if size > _MOST_JPEG_BYTES:
                raise ValueError("a part does not end")
        self._at_boundary = True
        return b"".join(lines).removesuffix(b"\r\n")

    def _line(self) -> bytes:
        line = self._stream.readline(65536)
        if not line:
            raise ValueError("the camera hung up")
        return line


def _without_credentials(url: str, ca: str | None) -> tuple[str, Any]:
    """The URL as it goes over the wire, and an opener that answers the camera's question for user and password; no proxy.

    Raises OSError for a `ca` that holds no certificate.
    """
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    clean = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    passwords = HTTPPasswordMgrWithDefaultRealm()
    if user:
        name, _, password = user.partition(":")
        passwords.add_password(None, clean, unquote(name), unquote(password))
    answers = HTTPBasicAuthHandler(passwords), HTTPDigestAuthHandler(passwords)
    trust = HTTPSHandler(context=ssl.create_default_context(cafile=ca))
    return clean, build_opener(ProxyHandler({}), trust, *answers)


def _why(exc: Exception) -> str:
    """One line without addresses: exceptions of urllib do not repeat the URL, those of sockets name only what failed."""
    reason = getattr(exc, "reason", exc)
    remedy = "; name who signed it: #ca=FILE" if isinstance(reason, ssl.SSLCertVerificationError) else ""
    return f"{reason}{remedy}"
