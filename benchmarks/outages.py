"""Cameras and a broker that fail under a running line: python -m benchmarks.outages [--times 20].

Cameras: Aravis' fake GigE camera and an RTSP server of GStreamer, each killed without a goodbye and frozen, while `lad-edge run` has a
part every 100 ms and a deadline. Whatever happens, each part has one record; the first part that the camera no longer serves is UNKNOWN
within the deadline; no part is judged in the dark; the first good verdict comes 2 s after the camera's return at the latest. A return is
the start of the camera's process, not the moment at which it is ready.

Broker: mosquitto frozen, killed, and killed with all that it kept wiped, while records come 50 times a second. A subscriber that is there
before the line gets everything in the end, in order, once by key.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.line_devices import (
    Broker,
    Gate,
    RunningLine,
    Subscriber,
    gige_camera,
    rtsp_server,
    running_line,
    tiny_engine,
    until,
)
from benchmarks.line_witnesses import in_outbox
from benchmarks.report import about, add_json_flag, measuring, percentiles, table, write

DEADLINE_MS = 150.0  # a picture every 50 ms at most, its way through the driver, and the engine
RETURN_S = 2.0
_SLACK_MS = 50.0  # for the way of a record through a pipe into this process, on a busy machine
_IN_FLIGHT_S = 0.3  # pictures that had left the camera
_LIMIT_S = 30.0
_HEAD = ("outage", "times", "p50", "p95", "p99", "max")


@dataclass(frozen=True)
class Seen:
    """A record and when it was read, on the monotonic clock."""

    at_ns: int
    seq: int
    judged: bool
    captured_ns: int  # of the picture, or of the trigger of a part that has none
    reason: str

    @property
    def age_ms(self) -> float:
        """When it was read."""
        return (self.at_ns - self.captured_ns) / 1e6


@dataclass(frozen=True)
class Outage:
    """What one cost.

    first_ms: from the trigger of the first part without a picture to its record; slowest_ms: the same of all its parts. return_s: from the
    camera's return to the first good verdict.
    """

    first_ms: float
    slowest_ms: float
    return_s: float
    reasons: tuple[str, ...]


class Records:
    """Those of one line, as they come out of its standard output."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def take(self, line: str) -> None:
        """One line of JSON."""
        at_ns, record = time.monotonic_ns(), json.loads(line)
        judged = record["verdict"] != "UNKNOWN"
        self.seen.append(Seen(at_ns, record["seq"], judged, record["captured_ns"], record["reasons"][0]))

    def first(self, fits: Callable[[Seen], bool], since: int) -> Seen:
        """The first from place `since` on that fits, waiting for it."""
        found: list[Seen] = []

        def look() -> bool:
            found.extend(seen for seen in self.seen[since:] if fits(seen))
            return bool(found)

        assert until(look, _LIMIT_S), f"no such record; the last ones: {self.seen[-5:]}"
        return found[0]


def main() -> None:
    """Everything, one after the other."""
    args = _arguments()
    chance = random.Random(args.seed)
    measuring()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=args.work, prefix="outages-") as name:
        folder = Path(name)
        engine = tiny_engine(folder)
        with gige_camera("LAD-1") as camera:
            found["GigE"] = of_camera(camera, f"{camera.uri}?fps=40", engine, args.times, chance)
        with rtsp_server() as camera:
            found["RTSP"] = of_camera(camera, camera.url, engine, args.times, chance)
        found["MQTT"] = of_broker(folder, engine, args.times, chance)
    print(_tables(found))
    write(args.json, about(times=args.times, seed=args.seed, deadline_ms=DEADLINE_MS, **found))


def of_camera(camera: Any, uri: str, engine: Path, times: int, chance: random.Random) -> dict[str, Any]:
    """camera: can be pulled out, plugged in, frozen and thawed. Raises AssertionError where a goal is missed."""
    records = Records()
    words = ("--engine", engine, "--camera", uri, "--pixel-format", "bgr8", "--no-gates", "--json")
    parts = ("--trigger", "interval:100ms", "--deadline", f"{DEADLINE_MS}ms")
    ways = {"killed": (camera.pull_out, camera.plug_in), "frozen": (camera.freeze, camera.thaw)}
    outages: dict[str, list[Outage]] = {}
    with running_line(*words, *parts, on_record=records.take):
        for way, (go, come) in ways.items():
            outages[way] = [_outage(records, go, come, chance) for _ in range(times)]
            print(f"{uri.partition(':')[0]} {way}: {times} times", file=sys.stderr, flush=True)
    seqs = [seen.seq for seen in records.seen]
    assert seqs == list(range(1, len(seqs) + 1)), "a part has no record, or two"
    return {"parts": len(seqs), **{way: _summary(each) for way, each in outages.items()}}


def _outage(records: Records, go: Callable[[], None], come: Callable[[], None], chance: random.Random) -> Outage:
    records.first(lambda seen: seen.judged, len(records.seen))
    time.sleep(chance.uniform(0.0, 0.2))
    since, gone_ns = len(records.seen), time.monotonic_ns()
    go()
    first = records.first(lambda seen: not seen.judged, since)
    time.sleep(chance.uniform(0.5, 4.0))
    back_ns = time.monotonic_ns()
    come()
    good = records.first(lambda seen: seen.judged and seen.captured_ns > back_ns, since)
    dark = [seen for seen in records.seen[since:] if gone_ns <= seen.captured_ns < back_ns]
    judged = [seen for seen in dark if seen.judged and seen.captured_ns > gone_ns + _IN_FLIGHT_S * 1e9]
    assert not judged, f"judged without a camera: {[((seen.captured_ns - gone_ns) / 1e9, seen.seq) for seen in judged]}"
    unknown = [seen for seen in dark if not seen.judged]
    return Outage(
        first_ms=first.age_ms,
        slowest_ms=max(seen.age_ms for seen in unknown),
        return_s=(good.at_ns - back_ns) / 1e9,
        reasons=tuple(dict.fromkeys(seen.reason for seen in unknown)),
    )


def _summary(outages: Sequence[Outage]) -> dict[str, Any]:
    """Raises AssertionError where a goal is missed."""
    assert max(outage.slowest_ms for outage in outages) <= DEADLINE_MS + _SLACK_MS, outages
    assert max(outage.return_s for outage in outages) <= RETURN_S, outages
    return {
        "first_unknown_ms": percentiles(outage.first_ms for outage in outages),
        "slowest_unknown_ms": percentiles(outage.slowest_ms for outage in outages),
        "good_after_return_s": percentiles(outage.return_s for outage in outages),
        "reasons": sorted({reason for outage in outages for reason in outage.reasons}),
    }


def of_broker(folder: Path, engine: Path, times: int, chance: random.Random) -> dict[str, Any]:
    """Raises AssertionError unless everything arrives."""
    kept = folder / "kept"
    kept.mkdir()
    with _broker(folder, kept) as broker, closing(_Watched(broker)) as watched:
        words = ("--engine", engine, "--camera", "pattern://64x48?fps=100", "--no-gates", "--quiet")
        outs = ("--out", f"sqlite:{folder}/line.sqlite", "--out", f"mqtt://127.0.0.1:{watched.gate.port}/line")
        ways: dict[str, Callable[[float], float]] = {
            "frozen": watched.freeze,
            "killed": watched.kill,
            "wiped": lambda down_s: watched.kill(down_s, wipe=kept),
        }
        caught_up: dict[str, list[float]] = {}
        with running_line(*words, *outs, "--trigger", "interval:20ms"):
            for way, fail in ways.items():
                caught_up[way] = [fail(chance.uniform(0.5, 4.0)) for _ in range(times)]
                print(f"mqtt {way}: {times} times", file=sys.stderr, flush=True)
        RunningLine(*words, *outs, "--max-frames", 10).finish()  # delivers what the stop has left in the outbox
        stored = in_outbox(folder / "line.sqlite").entries
        assert until(lambda: len(watched.subscriber.seqs_once()) >= len(stored), _LIMIT_S), (
            f"of {len(stored)} records {len(watched.subscriber.seqs_once())} arrived"
        )
        summaries = {way: {"caught_up_s": percentiles(each)} for way, each in caught_up.items()}
        return {**_arrivals(watched.subscriber, len(stored)), **summaries}


class _Watched:
    """A subscriber at the broker, and the gate through which the line reaches it: a broker without subscribers tells nobody."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.gate, self.subscriber = broker, Gate(broker.port), Subscriber(broker.port)

    def close(self) -> None:
        self.subscriber.stop()
        self.gate.stop()

    def freeze(self, down_s: float) -> float:
        """Seconds from its return until a record came that was not yet made at that time."""
        self.broker.freeze()
        time.sleep(down_s)
        self.broker.thaw()
        return self._catch_up()

    def kill(self, down_s: float, wipe: Path | None = None) -> float:
        """As `freeze`; from the moment that the subscriber is back. wipe: the folder of what the broker kept."""
        self.gate.shut()
        self.subscriber.subscribed.clear()
        self.broker.kill()
        for file in wipe.iterdir() if wipe is not None else ():
            file.unlink()
        time.sleep(down_s)
        self.broker.start()
        assert self.subscriber.subscribed.wait(_LIMIT_S)
        self.gate.open = True
        return self._catch_up()

    def _catch_up(self) -> float:
        back_s, back_ns = time.monotonic(), time.monotonic_ns()

        def newest_is_new() -> bool:
            records = self.subscriber.messages[-1:]
            return any(
                topic.endswith("/result") and json.loads(text)["captured_ns"] > back_ns for topic, text, _ in records
            )

        assert until(newest_is_new, _LIMIT_S), "the records of the outage did not arrive"
        return time.monotonic() - back_s


def _arrivals(subscriber: Subscriber, parts: int) -> dict[str, int]:
    """Raises AssertionError unless everything arrived, in order, once by key."""
    seqs = subscriber.seqs_once()
    assert seqs == list(range(1, parts + 1)), (
        parts,
        len(seqs),
        [pair for pair in pairwise(seqs) if pair[1] != pair[0] + 1],
    )
    texts: dict[str, str] = {}
    for topic, text, _ in subscriber.messages:
        if topic.endswith("/result"):
            record = json.loads(text)
            assert texts.setdefault(f"{record['boot_id']}/{record['seq']}", text) == text, "two records with one key"
    return {"records": parts, "messages": len(subscriber.records()), "keys": len(texts)}


@contextmanager
def _broker(folder: Path, kept: Path) -> Iterator[Broker]:
    broker = Broker(
        folder, "allow_anonymous true", "persistence true", f"persistence_location {kept}/", "autosave_interval 1"
    )
    try:
        yield broker
    finally:
        broker.kill()


def _tables(found: dict[str, Any]) -> str:
    return "\n".join(
        [
            table(
                f"ms from trigger to UNKNOWN, first part of an outage; deadline {DEADLINE_MS:g} ms",
                _HEAD,
                _rows(found, "first_unknown_ms"),
            ),
            table("ms from trigger to UNKNOWN, slowest part of an outage", _HEAD, _rows(found, "slowest_unknown_ms")),
            table("s from the camera's return to the first good verdict", _HEAD, _rows(found, "good_after_return_s")),
            table("s from the broker's return until all is delivered", _HEAD, _rows(found, "caught_up_s")),
            f"\nMQTT: {found['MQTT']['records']} records, {found['MQTT']['messages']} messages, {found['MQTT']['keys']} keys",
        ]
    )


def _rows(found: dict[str, Any], what: str) -> list[tuple[object, ...]]:
    return [
        (f"{device} {way}", int(one[what]["calls"]), *(one[what][name] for name in _HEAD[2:]))
        for device, ways in found.items()
        for way, one in ways.items()
        if isinstance(one, dict) and what in one
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="of each kind; default: 20")
    parser.add_argument("--seed", type=int, default=0, help="of the lengths of the outages; default: 0")
    parser.add_argument("--work", type=Path, default=Path(), help="folder for the files; default: here")
    add_json_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
