"""An RTSP server on the loopback, a process of its own that can be stopped and killed: H.264 of a moving ball, by GStreamer.

Run under a Python that has GObject introspection: rtsp_server.py PORT.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pluggable import Pluggable

_PYTHONS = (sys.executable, "/usr/bin/python3")
_NEEDED = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer;"
    "Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
)
_PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=12 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


class RtspServer(Pluggable):
    """One stream at rtsp://127.0.0.1:PORT/s; the URL has a password, which the server does not ask for."""

    def __init__(self, python: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = [python, __file__, str(self.port)]
        self.url = f"rtsp://user:secret@127.0.0.1:{self.port}/s"
        self.plug_in()

    def plug_in(self) -> None:
        """Starts the server, and waits until it listens."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"listening\n"
        self.process.stdout.close()


@contextmanager
def rtsp_server() -> Iterator[RtspServer]:
    """A server while the block runs; the test is skipped where the Debian packages are missing."""
    fitting = [
        python for python in _PYTHONS if not subprocess.run([python, "-c", _NEEDED], capture_output=True).returncode
    ]
    if not fitting:
        import pytest  # not in the server's Python

        pytest.skip("no RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly")
    server = RtspServer(fitting[0])
    try:
        yield server
    finally:
        server.pull_out()


def _serve(port: str) -> None:
    import gi

    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory.set_launch(_PIPELINE)
    factory.set_shared(True)
    server.get_mount_points().add_factory("/s", factory)
    assert server.attach(None)
    print("listening", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    _serve(sys.argv[1])
