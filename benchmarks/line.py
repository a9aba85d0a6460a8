"""Ten minutes of a line with everything on, beside a bare one: python -m benchmarks.line [--minutes 10].

Aravis' fake GigE camera at 20 pictures a second; `lad-edge io fake-plc` triggers a part in each of them over Modbus TCP. Everything on:
SQLite outbox, CSV, JSON lines, MQTT to a real mosquitto, a webhook, pictures of rejects, an OPC UA client that subscribes, Prometheus that
scrapes, and the operator's page with 20 viewers. Bare: the same camera, engine and PLC, no output, no page. Both take turns in short
blocks, so that other load meets both alike; then the long run. After each, the counts of the PLC, of the line and of every receiver must
be equal: nothing lost, nothing twice, nothing out of order. Receivers and viewers run on this machine too.

The times are the PLC's own (TRIGGER to RESULT_VALID) and the line's (capture to verdict).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.line_devices import (
    Broker,
    FakePlc,
    RunningLine,
    free_port,
    gige_camera,
    running_line,
    tiny_engine,
    until,
)
from benchmarks.line_memory import Sampler
from benchmarks.line_witnesses import Mqtt, OpcUa, Prometheus, Tally, Webhook, in_csv, in_jsonl, in_outbox, page_state
from benchmarks.report import about, add_json_flag, measuring, table, write
from lad_edge import assets

DEMO = Path(assets.__file__).parent / "demo.lad"
FPS, SIZE = 20, (480, 360)  # the demo engine's
VIEWERS = 20
_DEMO_LIMIT = (
    8.66  # the fake camera's pictures are no kit trays: their scores lie from 8.4 to 8.7, so that some parts are NG
)
_ARRIVAL_S = 30.0
_TIMES = ("p50", "p95", "p99", "max")
_VISITORS = "from benchmarks.dashboard import visit; visit({port}, {viewers}, 0)"


class Block:
    """One run of a line: how many parts, and where its files lie."""

    def __init__(self, engine: Sequence[object], parts: int, folder: Path) -> None:
        self.parts, self.folder = parts, folder
        self.modbus = free_port()
        self.words = [
            *engine,
            *(
                "--camera",
                f"genicam://LAD-1?fps={FPS}&size={SIZE[0]}x{SIZE[1]}",
                "--pixel-format",
                "bgr8",
                "--no-gates",
            ),
            *("--deadline", "500ms", "--plc", f"modbus://127.0.0.1:{self.modbus}", "--quiet"),
        ]

    def bare(self) -> dict[str, Any]:
        """Camera, engine, PLC."""
        with running_line(*self.words) as line:
            account = self._trigger()
        return _times(line, account)

    def full(self) -> dict[str, Any]:
        """Everything on; raises AssertionError where counts differ."""
        with ExitStack() as stack:
            broker = stack.enter_context(_broker(self.folder))
            hook, mqtt = Webhook(), Mqtt(broker.port)
            stack.callback(hook.close)
            stack.callback(mqtt.close)
            opcua = free_port()
            outs = self._outs(broker.port, hook.port)
            with running_line(*self.words, *outs, "--plc", f"opcua://127.0.0.1:{opcua}") as line:
                watched = Watched(line, opcua)
                sampler = Sampler({"line": line.pid, "mosquitto": broker.process.pid, "receivers": os.getpid()}, "line")
                with watched, sampler:
                    account = self._trigger()
                    self._await([hook.tally, mqtt.tally, watched.opcua.tally])
                    samples, page = watched.prometheus.samples(), watched.page(self.parts)
            tallies = [hook.tally(), mqtt.tally(), watched.opcua.tally(), *self._files()]
        found = {tally.witness: tally.judge(self.parts) for tally in tallies}
        found["OPC UA counters"] = dict(zip(("OK", "NG", "UNKNOWN"), watched.opcua.counters.values(), strict=True))
        found["page"] = {name: page["verdicts"][name] for name in ("OK", "NG", "UNKNOWN")}
        found["Prometheus"] = {
            name: int(samples[f'lad_edge_parts_total{{verdict="{name}"}}']) for name in page["verdicts"]
        }
        _compare(account, found)
        rate = self.parts / (sampler.usage["line"].seconds[-1] or 1.0)
        memory = {name: usage.figures(rate) for name, usage in sampler.usage.items()}
        return {**_times(line, account), "counts": found, "memory": memory, "pictures": _pictures(samples)}

    def _trigger(self) -> dict[str, Any]:
        return FakePlc(self.modbus, self.parts, "--timeout", "20s").account()

    def _outs(self, broker: int, hook: int) -> list[object]:
        folder = self.folder
        addresses = [
            *(f"sqlite:{folder}/line.sqlite", f"csv:{folder}/line.csv", f"jsonl:{folder}/line.jsonl"),
            *(f"mqtt://127.0.0.1:{broker}/line", f"http://127.0.0.1:{hook}/hook"),
            f"images:{folder}/pictures?ok=500&quota=1GB&min-free=0B",
        ]
        outs = [word for address in addresses for word in ("--out", address)]
        return [*outs, "--metrics", "127.0.0.1:0", "--dashboard", "127.0.0.1:0"]

    def _await(self, tallies: Sequence[Any]) -> None:
        """Deliveries lag behind the last part."""
        until(lambda: all(len(tally().entries) >= self.parts for tally in tallies), _ARRIVAL_S)

    def _files(self) -> list[Tally]:
        """Only once the line has ended: then they are whole."""
        return [
            in_outbox(self.folder / "line.sqlite"),
            in_csv(self.folder / "line.csv"),
            in_jsonl(self.folder / "line.jsonl"),
        ]


class Watched:
    """Those who look at a line while entered: an OPC UA client, Prometheus, viewers of the page."""

    def __init__(self, line: RunningLine, opcua: int) -> None:
        self.page_port = int(line.wait_for(r"operator's page: http://127\.0\.0\.1:(\d+)")[1])
        self.opcua = OpcUa(opcua)
        self.prometheus = Prometheus(int(line.wait_for(r"metrics and health: http://127\.0\.0\.1:(\d+)")[1]))

    def __enter__(self) -> Watched:
        program = _VISITORS.format(port=self.page_port, viewers=VIEWERS)
        self._viewers = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert self._viewers.stdout is not None
        assert self._viewers.stdout.readline() == "there\n"
        return self

    def __exit__(self, *exc: object) -> None:
        self.prometheus.close()
        self.opcua.close()
        self._viewers.terminate()
        told = self._viewers.communicate()[0]
        assert not told, told

    def page(self, parts: int) -> Any:
        """What the page shows once it has counted all of them."""
        return page_state(
            self.page_port, lambda head: head["parts"] >= parts and sum(head["verdicts"].values()) >= parts
        )


def main() -> None:
    """Blocks in turns, then the long run."""
    args = _arguments()
    with tempfile.TemporaryDirectory(dir=args.work, prefix="line-") as name, gige_camera("LAD-1"):
        folder = Path(name)
        engine = _engine(args, folder)
        turns: dict[str, list[dict[str, Any]]] = {"bare": [], "full": []}
        measuring()
        for number in range(args.blocks):
            for kind, blocks in turns.items():
                blocks.append(_run(kind, Block(engine, _parts(args.block_minutes), folder / f"{kind}-{number}")))
        long = _run("full", Block(engine, _parts(args.minutes), folder / "long"))
    document = about(minutes=args.minutes, engine=args.engine.name if args.engine else "tiny", long=long, blocks=turns)
    document["p99_ratio"] = {what: round(_p99(turns["full"], what) / _p99(turns["bare"], what), 3) for what in _WHATS}
    print(_table(turns, long))
    write(args.json, document)


_WHATS = ("trigger_to_result_ms", "capture_to_verdict_ms")


def _run(kind: str, block: Block) -> dict[str, Any]:
    block.folder.mkdir()
    load = os.getloadavg()[0]
    found = block.full() if kind == "full" else block.bare()
    shutil.rmtree(block.folder)
    print(f"{kind}: {block.parts} parts, {found['trigger_to_result_ms']}", file=sys.stderr, flush=True)
    return {"parts": block.parts, "load_before": round(load, 2), **found}


def _times(line: RunningLine, account: dict[str, Any]) -> dict[str, Any]:
    return {
        "trigger_to_result_ms": account["trigger_to_result_ms"],
        "capture_to_verdict_ms": line.stage_ms("total"),
        "longest_heartbeat_s": account["longest_heartbeat_s"],
    }


def _compare(account: dict[str, Any], found: dict[str, dict[str, Any]]) -> None:
    """The PLC's own count is the one that all others must have."""
    for witness, counts in found.items():
        missing = [counts.get(name, 0) for name in ("lost", "duplicated", "out_of_order")]
        same = all(counts[name] == account["verdicts"][name] for name in account["verdicts"])
        assert same, (witness, counts, account["verdicts"])
        assert not any(missing), (witness, counts)


def _pictures(samples: dict[str, float]) -> dict[str, int]:
    names = ("saved", "skipped", "failed")
    totals = {name: f"lad_edge_output_pictures_{name}_total" for name in names}
    return {name: int(sum(value for key, value in samples.items() if key.startswith(totals[name]))) for name in names}


def _p99(blocks: Sequence[dict[str, Any]], what: str) -> float:
    return float(median(block[what]["p99"] for block in blocks))


def _table(turns: dict[str, list[dict[str, Any]]], long: dict[str, Any]) -> str:
    named = [
        (f"{kind} {i + 1}", block)
        for i in range(len(turns["bare"]))
        for kind, blocks in turns.items()
        for block in blocks[i : i + 1]
    ]
    rows = [
        (f"{name}: {what}", block["load_before"], *(block[what][time] for time in _TIMES))
        for name, block in [*named, ("long", long)]
        for what in _WHATS
    ]
    memory = [(name, *use["resident_mb"], *use["slope_bytes_per_unit"]) for name, use in long["memory"].items()]
    counts = [(name, *(found.get(key, "") for key in _COUNTS)) for name, found in long["counts"].items()]
    return "\n".join(
        [
            table("milliseconds", ("run", "load", *_TIMES), rows),
            table(
                "long run: MB at the start, the end and at most; bytes for each part, 95 % interval",
                ("process", "start", "end", "most", "slope", "low", "high"),
                memory,
            ),
            table("long run: counts", ("witness", *_COUNTS), counts),
        ]
    )


_COUNTS = ("records", "OK", "NG", "UNKNOWN", "lost", "duplicated", "out_of_order")


def _parts(minutes: float) -> int:
    return max(20, round(minutes * 60 * FPS))


def _engine(args: argparse.Namespace, folder: Path) -> list[object]:
    if args.engine is None:
        return ["--engine", tiny_engine(folder)]
    return ["--engine", args.engine, *(["--threshold", _DEMO_LIMIT] if args.engine == DEMO else [])]


@contextmanager
def _broker(folder: Path) -> Iterator[Broker]:
    broker = Broker(folder)
    try:
        yield broker
    finally:
        broker.kill()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the long run; default: 10")
    parser.add_argument("--blocks", type=int, default=3, help="of each kind; default: 3")
    parser.add_argument("--block-minutes", type=float, default=1.0, help="length of a block; default: 1")
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--engine", type=Path, default=DEMO, help=f"default: {DEMO.name}")
    engine.add_argument(
        "--null", dest="engine", action="store_const", const=None, help="an engine that costs next to nothing"
    )
    parser.add_argument(
        "--work", type=Path, default=Path(), help="folder for the files of the line: its disk is judged; default: here"
    )
    add_json_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
