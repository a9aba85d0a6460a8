"""An RTSP server on the loopback, a process of its own that can be stopped and killed: H.264 of a moving ball, by GStreamer.

Run under a Python that has GObject introspection: rtsp_server.py PORT [CERTIFICATE]. With a certificate, and its key in the same file,
it is one at rtsps:// that asks for user and password.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pluggable import Pluggable

_PYTHONS = (sys.executable, "/usr/bin/python3")
_NEEDED = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gio, Gst, GstRtspServer;"
    "Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
)
_NEEDED_FOR_TLS = "; assert Gio.TlsBackend.get_default().supports_tls()"
_PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=12 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


class RtspServer(Pluggable):
    """One stream at rtsp://127.0.0.1:PORT/s; the URL has a password, which the server asks for where it has a certificate."""

    def __init__(self, python: str, certificate: Path | None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = [python, __file__, str(self.port), *([str(certificate)] if certificate else [])]
        self.url = f"{'rtsps' if certificate else 'rtsp'}://user:secret@127.0.0.1:{self.port}/s"
        self.plug_in()

    def plug_in(self) -> None:
        """Starts the server, and waits until it listens."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"listening\n"
        self.process.stdout.close()


@contextmanager
def rtsp_server(certificate: Path | None = None) -> Iterator[RtspServer]:
    """A server while the block runs; the test is skipped where the Debian packages are missing."""
    needed = _NEEDED + (_NEEDED_FOR_TLS if certificate else "")
    fitting = [
        python for python in _PYTHONS if not subprocess.run([python, "-c", needed], capture_output=True).returncode
    ]
    if not fitting:
        import pytest  # not in the server's Python

        pytest.skip(
            "no RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly glib-networking"
        )
    server = RtspServer(fitting[0], certificate)
    try:
        yield server
    finally:
        server.pull_out()


def _serve(port: str, certificate: str = "") -> None:
    import gi

    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory.set_launch(_PIPELINE)
    factory.set_shared(True)
    if certificate:
        _guard(server, factory, certificate)
    server.get_mount_points().add_factory("/s", factory)
    assert server.attach(None)
    print("listening", flush=True)
    GLib.MainLoop().run()


def _guard(server: Any, factory: Any, certificate: str) -> None:
    """TLS, and nothing without user and password."""
    from gi.repository import Gio, GstRtspServer

    auth, token, permissions = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken(), GstRtspServer.RTSPPermissions()
    auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(certificate))
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("user", "secret"), token)
    permissions.add_role("viewer")
    for permission in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", permission, True)
    factory.set_permissions(permissions)
    server.set_auth(auth)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
