"""Everything that only a GPU can show, by one command: python -m benchmarks.gpu_check [--wheels FOLDER] (or: make gpu-check).

For a machine with an NVIDIA GPU and its CUDA toolkit, under a Python that has PyTorch and numpy; with --wheels, a folder of gpu_pack,
without network. Facts, an environment with lad-edge built for this GPU, the tests for GPUs, compute-sanitizer, the speed of the kernels,
plans of every detector, parity and whole-frame latency, and the peer: each step is a process with a time limit, and one that fails or
is ended hinders no other. After each, all results so far are in benchmarks/results/gpu_<device>.json.

Exit code: 0 = all passed, 1 = something failed, 3 = nothing failed, but steps found no GPU.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.gpu_environment import ROOT, python_of, variables
from benchmarks.gpu_step import FAILED, NO_GPU, PASSED, STATES, run_limited
from benchmarks.report import about, table, write

RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "build" / "gpu-check"
LAST_WORDS = 3000  # characters of a step's log that are kept where it failed


@dataclass(frozen=True)
class StepToRun:
    """A module of this folder. limit_s: when it is ended; least_s: what the steps before it must leave of the whole time.

    own: runs under this Python, before there is an environment.
    """

    name: str
    module: str
    limit_s: float
    words: tuple[str, ...] = ()
    own: bool = False
    least_s: float = 0.0


# Steps of one wave run side by side: those beside others only ask whether results are right, or make files.
WAVES: tuple[tuple[StepToRun, ...], ...] = (
    (StepToRun("facts", "gpu_facts", 30, own=True),),
    (StepToRun("environment", "gpu_environment", 200, own=True),),
    (
        StepToRun("engines", "gpu_engines", 150),
        StepToRun("tests", "gpu_tests", 150),
        StepToRun("sanitizer", "gpu_tests", 120, ("--sanitize",)),
    ),
    (StepToRun("kernels", "gpu_kernels", 60, least_s=30),),
    (StepToRun("plans", "gpu_plans", 120, least_s=40),),
    (StepToRun("frames", "gpu_frames", 150, least_s=90),),
    (StepToRun("peer", "gpu_peer", 120, least_s=50),),
)


class Check:
    """All steps, and what they found: on the disk after each."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.began = args, time.monotonic()
        self.found: dict[str, dict[str, Any]] = {}
        self.work: Path = args.work.absolute()
        self.work.mkdir(parents=True, exist_ok=True)
        self.telling = Lock()

    def run(self) -> int:
        """Returns the exit code."""
        waves = [[step for step in wave if self._wanted(step)] for wave in WAVES]
        for index, wave in enumerate(waves):
            if self._in_vain():
                print("there is no GPU here; --rehearse does what a CPU can do")
                break
            end_s = self._left_s() - sum(step.least_s for later in waves[index + 1 :] for step in later)
            with ThreadPoolExecutor(len(WAVES)) as pool:
                for found in [pool.submit(self.run_step, step, end_s) for step in wave]:
                    found.result()
        print(self._summary())
        print(f"results: {self.target()}")
        return worst(found["status"] for found in self.found.values())

    def run_step(self, step: StepToRun, most_s: float) -> None:
        """One step to its end, or to its limit, which `most_s` may shorten."""
        began, limit_s = time.monotonic(), min(step.limit_s, most_s)
        json_file, log_file = (self.work / f"{step.name}{suffix}" for suffix in (".json", ".log"))
        json_file.unlink(missing_ok=True)
        if limit_s > 0:
            with log_file.open("w", encoding="utf-8") as log:
                status = self._ended(self._command(step, json_file), limit_s, log)
        else:
            status = "no time left"
        found = json.loads(json_file.read_text(encoding="utf-8")) if json_file.is_file() else {}
        answer = {"status": status, "seconds": round(time.monotonic() - began, 1), "found": found}
        if status not in (STATES[PASSED], STATES[NO_GPU]):
            answer["last_words"] = _text(log_file)[-LAST_WORDS:]
        with self.telling:
            self.found[step.name] = answer
            self._write()
            self._tell(step, log_file)

    def target(self) -> Path:
        """Where the results lie; named after the GPU, once it is known."""
        name = self.found.get("facts", {}).get("found", {}).get("gpu", {}).get("name", "none")
        return Path(self.args.results) / f"gpu_{re.sub(r'[^a-z0-9]+', '_', name.lower())}.json"

    def _wanted(self, step: StepToRun) -> bool:
        return not self.args.steps or step.name in ("facts", *self.args.steps)

    def _in_vain(self) -> bool:
        """Whether the facts are known, and are none."""
        return not self.args.rehearse and self.found.get("facts", {}).get("status") == STATES[NO_GPU]

    def _command(self, step: StepToRun, json_file: Path) -> list[str]:
        inside = python_of(self.work)
        python = sys.executable if step.own or not inside.is_file() else str(inside)
        words = ["--json", str(json_file), "--work", str(self.work), *step.words]
        if self.args.rehearse:
            words.append("--rehearse")
        if step.name == "environment" and self.args.wheels is not None:
            words += ["--wheels", str(self.args.wheels.absolute())]
        return [python, "-m", f"benchmarks.{step.module}", *words]

    def _ended(self, command: Sequence[str], limit_s: float, log: Any) -> str:
        """How a process and its children came to their end."""
        code = run_limited(command, limit_s, log, cwd=ROOT, env=variables())
        return f"ended after {limit_s:.0f} s" if code is None else STATES.get(code, STATES[FAILED])

    def _left_s(self) -> float:
        return float(self.args.minutes) * 60 - (time.monotonic() - self.began)

    def _write(self) -> None:
        """Everything so far, without the folders of this machine."""
        ordered = {step.name: self.found[step.name] for wave in WAVES for step in wave if step.name in self.found}
        text = json.dumps(
            about(rehearsal=self.args.rehearse, seconds=round(time.monotonic() - self.began), steps=ordered)
        )
        for folder, name in ((self.work, "WORK"), (ROOT, "."), (Path(sys.prefix), "PYTHON"), (Path.home(), "HOME")):
            text = text.replace(str(folder), name) if folder.parent != folder else text
        write(self.target(), json.loads(text, parse_constant=str))  # a step may have found "NaN"

    def _tell(self, step: StepToRun, log_file: Path) -> None:
        """The step's tables as soon as they are there; its other words stay in the log."""
        found = self.found[step.name]
        print(f"\n== {step.name}: {found['status']}, {found['seconds']} s")
        print("".join(f"{line}\n" for line in _text(log_file).splitlines() if line.startswith("|")), end="")
        for question, answer in found["found"].items():
            if isinstance(answer, dict) and answer.get("error"):
                print(f"   {question}: {answer['status']}: {str(answer['error'])[:300]}")
        sys.stdout.flush()

    def _summary(self) -> str:
        rows = []
        for name, found in self.found.items():
            answers = [answer for answer in found["found"].values() if isinstance(answer, dict)]
            passed = sum(answer.get("status") == "passed" for answer in answers)
            rows.append([name, found["status"], f"{passed} of {len(answers)}", found["seconds"]])
        return table("The check", ("step", "status", "questions passed", "seconds"), rows)


def worst(states: Iterable[str]) -> int:
    """The exit code of steps that ended so."""
    codes = {name: code for code, name in STATES.items()}
    found = {codes.get(state, FAILED) for state in states}
    return next((code for code in (FAILED, NO_GPU) if code in found), PASSED)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def main() -> None:
    """Run all steps, or those asked for."""
    args = _arguments()
    sys.exit(Check(args).run())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.gpu_check"
    )
    names = [step.name for wave in WAVES for step in wave]
    parser.add_argument("--wheels", type=Path, help="folder of gpu_pack, or of wheels; default: the package index")
    parser.add_argument("--work", type=Path, default=WORK, help="environment, engines, logs; made if missing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing is begun; default: %(default)s")
    parser.add_argument(
        "--steps", nargs="+", choices=names, metavar="STEP", help=f"only facts and these: {' '.join(names)}"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="no GPU here: what a CPU can do of each step, in a minute"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
