"""A camera on the loopback: motion JPEG over HTTP, as network cameras send it; it can stall, and it can hang up."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import tiny


class MjpegServer(ThreadingHTTPServer):
    """Sends `frames` pictures to each client, one each `pause_s`, then waits until `release` is set, then hangs up."""

    daemon_threads = True

    def __init__(self, frames: int, pause_s: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http" if tls is None else "https"
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.frames, self.pause_s = frames, pause_s
        self.clients = 0
        self.sent, self.release = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"{self.scheme}://user:secret@127.0.0.1:{self.server_address[1]}/stream"


class _Handler(BaseHTTPRequestHandler):
    server: MjpegServer

    def do_GET(self) -> None:
        self.server.clients += 1
        if self.path == "/page":
            self._send_page()
            return
        if self.server.frames:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
        try:
            for i in range(self.server.frames):
                self._send(cv2.imencode(".jpg", tiny.good_picture(i))[1].tobytes())
                self.server.release.wait(self.server.pause_s)
        except OSError:
            return  # the client has gone
        self.server.sent.set()
        self.server.release.wait(60)

    def _send(self, jpeg: bytes) -> None:
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
        self.wfile.write(head + jpeg + b"\r\n")

    def _send_page(self) -> None:
        """What a camera shows to a browser."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html></html>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing: the test prints what it needs."""


@contextmanager
def serving(frames: int, pause_s: float = 0.0, tls: ssl.SSLContext | None = None) -> Iterator[MjpegServer]:
    """A server that runs while the block does; with 0 frames it never answers."""
    server = MjpegServer(frames, pause_s, tls)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
