"""--out, --metrics and --device of `lad-edge run`: words go in, open sinks come out."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from lad_edge import __version__
from lad_edge.errors import UsageError
from lad_edge.outputs.address import FILES, is_address, parse
from lad_edge.stream.records import Origin, safe_id
from lad_edge.values import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lad_edge.inspector import Inspector
    from lad_edge.outputs.metrics import MetricsServer
    from lad_edge.outputs.opening import Outputs

# What is told about results, not about judging: it does not change the configuration that a record was made under.
_NOT_JUDGING = frozenset(
    {"config", "check", "device", "func", "json", "lines", "metrics", "out", "overlays", "quiet", "save", "sync"}
    | {"dashboard", "dashboard_token_file", "dashboard_labels", "dashboard_shifts"}
    | {"dashboard_cert", "dashboard_key", "dashboard_plain"}
)
HostPort = tuple[str, int]
_HOST_PORT = re.compile(r"(?P<host>[^:]*|\[[^\]]+\]):(?P<port>\d{1,5})", re.ASCII)

ADDRESSES = """\
addresses for --out; options follow a '?' and are joined by '&', {device} and {camera} are filled in:
  sqlite:FILE              keeps the records, and is where all others are delivered from, also after a restart
                           max-size=2GB keep=90d when-full=stop|continue reserve=64MiB waiting=20000
  csv:FILE, jsonl:FILE     a name such as parts-%Y-%m-%d.csv begins a new file each day (UTC); from=now|start
                           rotate=100MB begins one at that size, quota=2GB deletes the oldest ones
  images:FOLDER            every NG and UNKNOWN, lossless, with its map; ok=500 keeps one OK in 500
                           maps=yes|no quota=10GB min-free=1GB
  mqtt://USER@HOST/TOPIC   TOPIC/result and TOPIC/state; password-file=FILE client-id=ID protocol=5|3.1.1
  mqtts://HOST/TOPIC       the same over TLS; ca=FILE cert=FILE key=FILE
  https://HOST/PATH        one POST for each record; secret-file=FILE signs it, timeout=5s ca=FILE cert=FILE key=FILE
"""


def add_out_options(group: argparse._ArgumentGroup) -> None:
    """The flags, and what an address looks like."""
    group.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE|ADDRESS",
        help="append JSON lines to a file, or keep and deliver the records: sqlite:FILE, csv:FILE, jsonl:FILE, images:FOLDER, "
        "mqtt://HOST/TOPIC, mqtts://, https://HOST/PATH; several times for several places",
    )
    group.add_argument(
        "--metrics",
        type=host_port,
        metavar="HOST:PORT",
        help="serve /metrics and /health, such as :9108 on this machine only",
    )
    group.add_argument(
        "--device", default="", metavar="NAME", help="of this box in the records; default: its host name"
    )


def host_port(text: str) -> HostPort:
    """`:9108` → this machine only; `0.0.0.0:9108` for others too."""
    found = _HOST_PORT.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT or :PORT, such as 127.0.0.1:9108; came '{text}'")
    return found["host"].strip("[]") or "127.0.0.1", int(found["port"])


def check_out(args: argparse.Namespace) -> None:
    """Raises UsageError for an address that cannot be meant, MissingDependencyError; nothing is opened."""
    from lad_edge.outputs.opening import check

    if not all(args.out):
        raise UsageError("--out takes a file or an address; came nothing")
    check(args.out, Origin(_readable_id(args.device or socket.gethostname()), _readable_id(camera_name(args)), ""))
    if args.ok_when == "durable" and not any(parse(text).scheme != "images" for text in filter(is_address, args.out)):
        raise UsageError("--ok-when durable needs records that survive a power cut: --out sqlite:FILE")


def check_apart(told: Sequence[argparse.Namespace]) -> None:
    """Raises UsageError for a file that two cameras would write.

    Each camera has its own outbox: its records are in order and chained by themselves, a receiver that takes no record of one camera
    holds up that camera alone, and a file that a disk has damaged costs the records of one camera.
    """
    writers: dict[str, str] = {}
    for args in told:
        for text in args.out:
            filled = text.partition("?")[0].replace("{camera}", args.name)
            if is_address(text) and parse(text).scheme not in FILES | {"sqlite"}:
                continue
            if filled in writers:
                raise UsageError(
                    f"'{writers[filled]}' and '{args.name}' both write {filled}: give each camera its own, with "
                    "{camera} in the name"
                )
            writers[filled] = args.name


def verdicts_with_maps(args: argparse.Namespace) -> frozenset[Verdict]:
    """Verdicts whose anomaly maps some image saver wants."""
    images = [address for address in map(parse, filter(is_address, args.out)) if address.scheme == "images"]
    wanted = any(address.choice("maps", "yes", "no") == "yes" for address in images)
    return frozenset(Verdict) if wanted else frozenset()


def open_outputs_of(
    args: argparse.Namespace,
    inspector: Inspector,
    source: str,
    say: Callable[[str], None],
    stopped: Callable[[], bool],
    stack: ExitStack,
) -> Outputs:
    """What --out names, open; the stack closes it. Raises UsageError, SinkError, MissingDependencyError."""
    from lad_edge.outputs.opening import open_outputs

    outputs = open_outputs(args.out, origin_of(args, inspector, source), say, args.sync)
    stack.callback(outputs.close, stopped)
    return outputs


@contextmanager
def open_metrics(
    told: Sequence[argparse.Namespace], notice: Callable[[str], None]
) -> Iterator[Mapping[HostPort, MetricsServer]]:
    """A server at each address that some line names, for all lines that name it. Raises SinkError."""
    from lad_edge.outputs.metrics import MetricsServer

    servers: dict[HostPort, MetricsServer] = {}
    with ExitStack() as stack:
        for host, port in dict.fromkeys(args.metrics for args in told if args.metrics is not None):
            cameras = [camera_name(args) for args in told if args.metrics == (host, port)]
            servers[host, port] = server = MetricsServer(host, port, cameras)
            stack.callback(server.close)
            notice(f"metrics and health: http://{host}:{server.port}")
        yield servers


def camera_name(args: argparse.Namespace) -> str:
    """By which a line is known on the page and in /metrics."""
    return args.name or "camera"


def origin_of(args: argparse.Namespace, inspector: Inspector, source: str, boot_id: str | None = None) -> Origin:
    """What the records of a line say of where they come from. boot_id: of this start; None = it begins now."""
    return Origin(
        device_id=_readable_id(args.device or socket.gethostname()),
        camera_id=_readable_id(args.name or source),
        boot_id=boot_id or uuid4().hex,
        config_sha256=_config_sha256(args, source),
        versions={"lad_edge": __version__, "runtime": inspector.engine_name},
    )


def _readable_id(name: str) -> str:
    return safe_id(re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-."))


def _config_sha256(args: argparse.Namespace, source: str) -> str:
    """Of the flags that decide about verdicts; the source by its name without credentials."""
    told = {name: str(value) for name, value in vars(args).items() if name not in _NOT_JUDGING}
    told |= {"camera": "", "source": source}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
