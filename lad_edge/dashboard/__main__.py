"""The page's process: `python -m lad_edge.dashboard DESCRIPTOR`. It ends when the line no longer feeds it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress

from lad_edge.dashboard.messages import LENGTHS, Message, lengths_of, pack, unpack
from lad_edge.errors import LadEdgeError

_NICER = 10  # than the line: a page that comes late harms nobody


def main() -> None:
    """Serves until the other end of the socket closes."""
    with suppress(OSError):  # a hardened service may forbid it
        os.nice(_NICER)
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1]))))


async def _serve(line: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=line)
    settings = (await _next(reader)).head
    try:
        from lad_edge.dashboard.server import (
            Server,
            server_context,
        )  # pip install "lad-edge[dashboard]"; without it the line says so

        server = Server(settings["token"], settings["labels"])
        tls = server_context(settings["certificate"], settings["key"]) if settings["certificate"] else None
        port = await server.listen(settings["host"], settings["port"], tls, plain=settings["plain"])
    except (LadEdgeError, OSError) as exc:
        writer.write(pack({"kind": "refused", "error": str(exc)}).data)
        await writer.drain()
        return
    writer.write(pack({"kind": "listening", "port": port}).data)

    def tell(viewers: int) -> None:
        if not writer.is_closing():
            writer.write(pack({"kind": "watched", "viewers": viewers}).data)

    server.hub.on_viewers = tell
    try:
        while True:
            server.hub.put(await _next(reader))
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        server.hub.on_viewers = lambda _viewers: (
            None
        )  # nobody feeds it any more, or nonsense came: the line starts another one
        server.close()


async def _next(reader: asyncio.StreamReader) -> Message:
    start = await reader.readexactly(LENGTHS.size)
    return unpack(start, await reader.readexactly(sum(lengths_of(start))))


if __name__ == "__main__":
    main()
