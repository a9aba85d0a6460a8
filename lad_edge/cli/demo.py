"""lad-edge demo: the shipped engine judges the shipped video, and the verdicts are held against the truth."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lad_edge.cli.arguments import add_engine_options, add_json, print_json
from lad_edge.cli.judging import frames_of
from lad_edge.cli.run import notice, run_line
from lad_edge.cli.run_words import parse_run
from lad_edge.errors import DataError, SinkError
from lad_edge.stream.sinks import JsonlSink
from lad_edge.stream.stopping import StopSignal
from lad_edge.values import Frame, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.abc import Traversable

    import numpy as np
    from numpy.typing import NDArray

_EPILOG = """\
The engine was trained by lad-edge on its synthetic data set: trays with parts that belong together in certain ways. The
video shows other trays, good and bad ones. Pictures of the NG parts and all records are left in the output folder.

--teach shows the other way to an engine: the first 24 good trays of the video are taught here and now, as 'lad-edge teach'
does it, and the engine that comes out (taught.lad in the output folder) judges the video. Only trays that it was not taught count.
"""
TAUGHT_PARTS = 24


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "demo",
        help="run the engine that ships with lad-edge on the video that ships with it",
        description="Judges a short video of parts and compares the verdicts with the truth.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("demo-output"), metavar="FOLDER", help="default: demo-output")
    parser.add_argument("--teach", action="store_true", help="judge with an engine that is taught now, in a second")
    add_engine_options(parser)
    add_json(parser, "one JSON document at the end instead of a line per part")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs the line on the shipped files and compares."""
    collected = Collected()
    with ExitStack() as stack:
        engine, video, truth = (stack.enter_context(as_file(asset)) for asset in _assets())
        parts = json.loads(truth.read_text())["frames"]
        good = [index for index, part in enumerate(parts) if part["label"] == "good"]
        known = good[:TAUGHT_PARTS] if args.teach else []
        results = args.out / "results.jsonl"
        _start_anew(args.out, results)
        if args.teach:
            engine = _teach(args, video, known)
        stop = stack.enter_context(StopSignal())
        line = run_line(_as_run(args, engine, video, results), stop, [collected])
    document = compare(parts, collected.results, known)
    if args.json:
        summary = line.stats.as_dict(line.parts.dropped)
        print_json({"output": str(args.out), "summary": summary, "truth": document})
    else:
        print(_text(document, args.out))
    return 0


class Collected:
    """A sink that keeps the results of a short video in memory."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def write(self, _frame: Frame, result: Result) -> None:
        """Keeps it."""
        self.results.append(result)

    def close(self) -> None:
        """Nothing to free."""


def compare(parts: Sequence[Mapping[str, Any]], results: Sequence[Result], known: Sequence[int] = ()) -> dict[str, Any]:
    """Verdicts against the truth: for each label how many parts were judged rightly, and every part that was not.

    parts: in order of the frames, each with `label` ("good" or a kind of defect) and `defect_type`. known: those that do not count.
    """
    judged, right, wrong = Counter[str](), Counter[str](), []
    pairs = zip(parts, results, strict=False)  # fewer results when the demo was stopped
    for index, (part, result) in enumerate(pairs):
        if index in known:
            continue
        expected = Verdict.OK if part["label"] == "good" else Verdict.NG
        judged[part["label"]] += 1
        if result.verdict is expected:
            right[part["label"]] += 1
        else:
            truth = part["defect_type"] or part["label"]
            wrong.append({"seq": result.seq, "frame_id": result.frame_id, "verdict": result.verdict, "truth": truth})
    labels = {label: {"parts": count, "right": right[label]} for label, count in sorted(judged.items())}
    return {"labels": labels, "wrong": wrong}


def _teach(args: argparse.Namespace, video: Path, known: Sequence[int]) -> Path:
    """An engine from the frames of the video with these numbers."""
    from lad_edge.sources.opening import open_source
    from lad_edge.teaching import Lesson, Options

    options = Options(name="taught", runtime=args.runtime, precision=args.precision, threads=args.threads)
    begin, path = time.perf_counter(), Path(args.out) / "taught.lad"
    with Lesson(options) as lesson:
        for index, frame in enumerate(frames_of([open_source(str(video))])):
            if index in known and frame.image is not None:
                lesson.show(frame.frame_id, cast("NDArray[np.uint8]", frame.image), frame.pixel_format)
        lesson.finish().write(path)
        notice(f"taught {len(lesson)} good trays in {time.perf_counter() - begin:.1f} s: {path}")
    return path


def _assets() -> Iterator[Traversable]:
    """Engine, video and truth. Raises DataError when this installation lacks one."""
    folder = files("lad_edge.assets")
    for names in (("demo.lad",), ("demo.avi", "demo.mp4"), ("demo.json",)):
        found = [folder / name for name in names if (folder / name).is_file()]
        if not found:
            raise DataError(
                f"the demo file {names[0]} is missing from this installation; install the wheel again, or in the "
                "source folder rebuild it with the script that the README names"
            )
        yield found[0]


def _as_run(args: argparse.Namespace, engine: Path, video: Path, results: Path) -> argparse.Namespace:
    """The demo is nothing but a `lad-edge run`, with these words."""
    words = ["--engine", str(engine), "--source", str(video), "--out", str(results), "--overlays", str(args.out)]
    words += ["--quiet" if args.json else "--lines"]
    for option in ("runtime", "precision", "threads"):
        value = getattr(args, option)
        words += [] if value is None else [f"--{option}", str(value)]
    return parse_run(words)


def _start_anew(folder: Path, results: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if results.exists():
            JsonlSink(results).close()  # refuses a file that is not ours
            results.unlink()
    except OSError as exc:
        raise SinkError(f"cannot write to {folder}: {exc.strerror}; choose another folder: --out") from exc


def _text(document: Mapping[str, Any], out: Path) -> str:
    lines = ["against the truth:"]
    for label, counts in document["labels"].items():
        expected = "OK" if label == "good" else "NG"
        lines.append(f"  {counts['right']:3d} of {counts['parts']:3d} {label} parts judged {expected}")
    lines += [
        f"       part {part['seq']} ({part['truth']}) was judged {part['verdict'].value}" for part in document["wrong"]
    ]
    return "\n".join([*lines, f"pictures of the NG parts and results.jsonl: {out}"])
