"""`--trigger` and what belongs to it go in; the trigger of a line comes out."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from lad_edge.cli.arguments import positive_duration_ms, positive_int, read_token, roi_px
from lad_edge.errors import UsageError
from lad_edge.sources.uri import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.plc.policy import UnknownPolicy
    from lad_edge.plc.station import Plc
    from lad_edge.stream.parts import Parts
    from lad_edge.stream.triggers import Trigger

    MakeTrigger = Callable[[Parts], Trigger]

_KINDS = (
    "free-run, interval:TIME, http://HOST:PORT, mqtt://HOST/TOPIC, line:Line1, line:Line1,FallingEdge, presence, "
    "presence:X,Y,WIDTH,HEIGHT"
)

_ON_DEMAND = ("interval", "http", "mqtt", "mqtts")


def add_trigger_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    from lad_edge.plc.policy import ACTIONS
    from lad_edge.stream.vote import RULES

    group = parser.add_argument_group("parts")
    group.add_argument(
        "--trigger",
        default="free-run",
        metavar="KIND",
        help=f"what makes a part: {_KINDS}; default: free-run, each picture is a part (of a triggered camera too)",
    )
    group.add_argument(
        "--plc",
        action="append",
        default=[],
        metavar="URI",
        help="modbus://HOST:PORT or opcua://HOST:PORT: serve a PLC there, which triggers each part and reads its verdict "
        "('lad-edge io diagram' shows the handshake); once more with opcua:// for clients that only look",
    )
    for option, which in (("--on-unknown", "a part that is UNKNOWN"), ("--on-late", "one whose --deadline has passed")):
        group.add_argument(
            option,
            choices=ACTIONS,
            help=f"what --plc is shown for {which}: hold, the signal UNKNOWN, or reject, the signal NG; "
            f"default: {'hold' if option == '--on-unknown' else 'as --on-unknown'}",
        )
    group.add_argument("--pictures", type=positive_int, default=1, metavar="N", help="of each part; default: 1")
    group.add_argument(
        "--vote",
        choices=RULES,
        default=RULES[0],
        help="any: one bad picture makes a part NG (default); majority: half of them do",
    )
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="requests of --trigger http:// carry this as a bearer token"
    )


def make_trigger(args: argparse.Namespace, *, live: bool, plc: Plc | None = None) -> MakeTrigger | None:
    """What makes the trigger of the parts of a line; None = each picture is a part. plc: of --plc. Raises UsageError."""
    _check_policy(args)
    if args.plc:
        return _plc_trigger(args, live, plc)
    kind, _, rest = args.trigger.partition(":")
    if args.pictures > 1 and kind not in _ON_DEMAND:
        raise UsageError(f"--pictures {args.pictures}: --trigger {args.trigger} has one picture for each part")
    if args.token_file and kind != "http":
        raise UsageError("--token-file is for --trigger http://…")
    if kind == "free-run" and not rest:
        return None
    if kind == "line":
        source_words(args)
        return None
    if not live:
        raise UsageError(f"--trigger {args.trigger} needs a live source; each picture of a file or folder is a part")
    return _live_trigger(args, kind, rest)


def source_words(args: argparse.Namespace) -> str:
    """--camera or --source; with --trigger line:… it is a camera that waits for that input. Raises UsageError."""
    words = str(args.source or args.camera)
    kind, _, rest = args.trigger.partition(":")
    if kind != "line":
        return words
    line, _, activation = rest.partition(",")
    if not line:
        raise UsageError(f"--trigger {args.trigger}: expected the input, such as line:Line1 or line:Line1,FallingEdge")
    if not words.startswith("genicam://"):
        raise UsageError(f"--trigger {args.trigger}: only cameras of genicam:// have inputs; came {redacted(words)}")
    options = {"trigger": "line", "line": line} | ({"activation": activation} if activation else {})
    if twice := [option for option in (*options, "activation") if f"{option}=" in words]:
        raise UsageError(f"--trigger {args.trigger} and {twice[0]}=… in {words}: say it once")
    return f"{words}{'&' if '?' in words else '?'}{urlencode(options)}"


def unknown_policy(args: argparse.Namespace) -> UnknownPolicy:
    """What a PLC is shown of parts that are UNKNOWN."""
    from lad_edge.plc.policy import HOLD, UnknownPolicy

    return UnknownPolicy(args.on_unknown or HOLD, args.on_late)


def _check_policy(args: argparse.Namespace) -> None:
    for option, action in (("--on-unknown", args.on_unknown), ("--on-late", args.on_late)):
        if action is not None and not args.plc:
            raise UsageError(f"{option} {action} says what a PLC is shown: give one with --plc; records stay UNKNOWN")
    if args.on_late is not None and args.deadline is None:
        raise UsageError(f"--on-late {args.on_late} is for parts whose deadline has passed: give one with --deadline")


def _plc_trigger(args: argparse.Namespace, live: bool, plc: Plc | None) -> MakeTrigger | None:
    if args.trigger != "free-run" or args.token_file:
        raise UsageError(f"--trigger {args.trigger} beside --plc: the PLC triggers; leave one of them out")
    if not live:
        raise UsageError("--plc needs a live source; each picture of a file or folder is a part")
    return None if plc is None else partial(plc, pictures=args.pictures)


def _live_trigger(args: argparse.Namespace, kind: str, rest: str) -> MakeTrigger:
    from lad_edge.stream.presence import Presence
    from lad_edge.stream.triggers import Interval

    try:
        if kind == "presence":
            return partial(Presence, place=roi_px(rest) if rest else None)
        if kind == "interval":
            return partial(Interval, period_s=positive_duration_ms(rest) / 1e3, pictures=args.pictures)
    except argparse.ArgumentTypeError as exc:
        raise UsageError(f"--trigger {args.trigger}: {exc}") from exc
    if kind == "http":
        return _http_trigger(args)
    if kind in ("mqtt", "mqtts"):
        return _mqtt_trigger(args)
    raise UsageError(f"--trigger {args.trigger}: expected one of {_KINDS}")


def _mqtt_trigger(args: argparse.Namespace) -> MakeTrigger:
    from lad_edge.outputs import address
    from lad_edge.outputs.mqtt import broker_of
    from lad_edge.stream.mqtt_trigger import MqttTrigger

    try:
        asked = address.parse(args.trigger)
    except UsageError as exc:
        raise UsageError(f"--trigger {args.trigger.partition(':')[0]}://…: {exc}") from exc
    if not asked.path or set("+#\0") & set(asked.path):
        raise UsageError(
            f"--trigger {asked.name}: expected a topic without wildcards, such as mqtt://10.0.0.7/line3/trigger"
        )
    return partial(MqttTrigger, broker=broker_of(asked), topic=asked.path, pictures=args.pictures)


def _http_trigger(args: argparse.Namespace) -> MakeTrigger:
    from lad_edge.stream.http_trigger import HttpTrigger

    url = urlsplit(args.trigger)
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or port is None or url.path not in ("", "/") or url.username:
        raise UsageError(f"--trigger {args.trigger}: expected http://HOST:PORT, such as http://127.0.0.1:8601")
    token = read_token(args.token_file, "--token-file")
    return partial(HttpTrigger, address=(host, port), token=token, pictures=args.pictures)
