"""A look at an OPC UA station from the client's side."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lad_edge.errors import MissingDependencyError, SinkError

try:
    from asyncua import Client, ua
    from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
except ModuleNotFoundError as exc:
    raise MissingDependencyError("opcua:// needs asyncua; pip install 'lad-edge[opcua]'") from exc

from lad_edge.plc.opcua_security import APPLICATION_URI, keys_folder, own_certificate, read_users, silence

if TYPE_CHECKING:
    from lad_edge.plc.uri import PlcAddress

_TIMEOUT_S = 5.0
_SESSION_MS = 30_000  # the server grants no more
_READ = {"ready": "Ready", "triggers": "Triggers", "error_code": "ErrorCode"}


def examine(address: PlcAddress, beats_s: float) -> dict[str, Any]:
    """Connects, reads, and looks whether the heartbeat moves within beats_s. Raises SinkError.

    With ?users=FILE as the first user of the file, with the certificate of ?keys=FOLDER.
    """
    silence()
    try:
        return asyncio.run(_examine(address, beats_s))
    except (OSError, ConnectionError, TimeoutError, asyncio.TimeoutError) as exc:
        raise SinkError(f"{address}: {exc or type(exc).__name__}; is the line running with --plc?") from exc
    except ua.UaError as exc:
        raise SinkError(f"{address}: {exc}; check users, keys, and what the line trusts") from exc


async def _examine(address: PlcAddress, beats_s: float) -> dict[str, Any]:
    async with await connect(address) as client:
        space = await client.get_namespace_index(APPLICATION_URI)

        async def read(name: str) -> Any:
            return await client.get_node(ua.NodeId(f"Station.{name}", space)).read_value()

        first = await read("HeartbeatCount")
        await asyncio.sleep(beats_s)
        moves = await read("HeartbeatCount") != first
        return {"heartbeat": "moves" if moves else "stands still"} | {
            word: await read(name) for word, name in _READ.items()
        }


async def connect(address: PlcAddress) -> Client:
    """A client that connects in `async with`."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    client = Client(f"opc.tcp://{host}:{address.port}/", timeout=_TIMEOUT_S)
    client.application_uri, client.session_timeout = APPLICATION_URI, _SESSION_MS
    if address.users is not None:
        name, password = next(iter(read_users(address).items()))
        client.set_user(name)
        client.set_password(password)
        await client.set_security(SecurityPolicyBasic256Sha256, *map(str, own_certificate(keys_folder(address))))
    return client
