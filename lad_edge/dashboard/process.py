"""The page's process as the line sees it: started, fed through a socket that only the two of them have, killed when it hangs."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lad_edge.dashboard.messages import pack, receive
from lad_edge.errors import UsageError
from lad_edge.sources.interpreters import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lad_edge.dashboard.messages import Message

_START_S = 20.0  # imports on a slow and busy machine
_HANGS_S = 2.0  # without taking what it is sent
_END_S = 0.5


@dataclass(frozen=True)
class Settings:
    """Where the page is served. token: None for this machine alone; labels: folder for the operators' labels, "" = no buttons.

    certificate, key: PEM files for TLS, "" = none. plain: without TLS for others too, whoever may read along.
    """

    host: str
    port: int
    token: str | None = None
    labels: str = ""
    certificate: str = ""
    key: str = ""
    plain: bool = False


class PageProcess:
    """One process, from its start to its end. `port`: where it listens; `viewers`: how many browsers it said are looking."""

    def __init__(self, settings: Settings) -> None:
        """Raises UsageError when the address cannot be served, OSError when the process does not come up."""
        self.viewers = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._socket = ours
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [sys.executable, "-m", "lad_edge.dashboard", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment(),
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the line, which ends it
            )
        with ExitStack() as if_it_fails:
            if_it_fails.callback(self.kill)
            self.port = self._listen(settings)
            if_it_fails.pop_all()

    @property
    def pid(self) -> int:
        """Of the process, for people and tests."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Raises OSError when the process is gone or hangs."""
        self._socket.sendall(message.data)

    def listen(self) -> Sequence[Message]:
        """What it has said since; never waits for the next word. Raises OSError when it is gone, ValueError for nonsense."""
        heard = []
        while select.select([self._socket], [], [], 0)[0]:
            message = receive(self._read)
            self.viewers = int(message.head.get("viewers", self.viewers))
            heard.append(message)
        return heard

    def kill(self) -> None:
        """Ends it: politely, then at once."""
        self._socket.close()  # it ends when nobody feeds it
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._process.kill()
        self._process.wait()

    def _listen(self, settings: Settings) -> int:
        self._socket.settimeout(_START_S)
        self.send(pack({"kind": "open", **asdict(settings)}))
        answer = receive(self._read).head
        if answer["kind"] != "listening":
            raise UsageError(f"--dashboard {settings.host}:{settings.port}: {answer['error']}")
        self._socket.settimeout(_HANGS_S)
        return int(answer["port"])

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the page's process has ended")
            data += more
        return data
