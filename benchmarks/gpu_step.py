"""One step of `gpu_check`: questions go in, each with its own try; what was found is on the disk before the next one is asked."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PASSED, FAILED, NO_GPU = 0, 1, 3  # exit codes of a step, and of the whole check
STATES = {PASSED: "passed", FAILED: "failed", NO_GPU: "no GPU"}


class NoGpuError(Exception):
    """The question needs a GPU, and there is none."""


class NotHereError(Exception):
    """The question has no answer on this machine, and that is no fault: a package that is not installed, a GPU that is not supported."""


@dataclass(frozen=True)
class Place:
    """Where a step works. json: what it finds; work: files that steps leave to each other; rehearse: there is no GPU, be short."""

    json: Path
    work: Path
    rehearse: bool

    @property
    def device(self) -> str:
        """Where networks run, as torch names it."""
        return "cpu" if self.rehearse else "cuda"


class Step:
    """What a step has found so far: question → answer, with its `status` and, where it failed, its `error`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.found: dict[str, dict[str, object]] = {}

    def ask(self, question: str, answer: Callable[[], Mapping[str, object]]) -> Mapping[str, object] | None:
        """The answer, which may have its own `status`; None where the question failed, which hinders no other question."""
        found: dict[str, object]
        try:
            found = {"status": "passed", **answer()}
        except NoGpuError as exc:
            found = {"status": "no GPU", "error": str(exc)}
        except NotHereError as exc:
            found = {"status": "not here", "error": str(exc)}
        except Exception as exc:  # the GPU is lent for minutes: one question that fails must not cost the others
            traceback.print_exc()
            found = {"status": "failed", "error": f"{type(exc).__name__}: {exc}"}
        self.found[question] = found
        self.place.json.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.place.json.with_suffix(".part")
        unfinished.write_text(json.dumps(self.found, indent=1, default=str) + "\n", encoding="utf-8")
        unfinished.replace(self.place.json)  # who ends this process finds the old answers or the new ones
        return found if found["status"] == "passed" else None

    def exit_code(self) -> int:
        """FAILED if a question failed, else NO_GPU if one needs a GPU, else PASSED."""
        states = {found["status"] for found in self.found.values()}
        if not states or states - {"passed", "no GPU", "not here"}:
            return FAILED
        return NO_GPU if "no GPU" in states else PASSED


def step_arguments(description: str | None, prog: str, **more: Mapping[str, object]) -> argparse.Namespace:
    """The flags that every step has, and its own; `place` is made of the shared ones."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, prog=f"python -m {prog}"
    )
    parser.add_argument("--json", type=Path, required=True, help="what was found")
    parser.add_argument("--work", type=Path, required=True, help="folder of the engines; made if missing")
    parser.add_argument("--rehearse", action="store_true", help="no GPU here: only what a CPU can do, in seconds")
    for name, settings in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)  # type: ignore[arg-type]
    args = parser.parse_args()
    args.place = Place(args.json.absolute(), args.work.absolute(), args.rehearse)
    return args


def run_limited(command: Sequence[str], limit_s: float, log: IO[str], **options: object) -> int | None:
    """Exit code of a process whose words go to `log`; None where it and its children had to be ended at the limit."""
    given: dict[str, object] = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True, **options}
    process = subprocess.Popen(command, **given)  # type: ignore[call-overload]
    try:
        return int(process.wait(limit_s))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def require_gpu() -> None:
    """Raises NoGpuError with the driver's reason."""
    from lad_edge.runtime.gpu import find_gpus

    gpus = find_gpus()
    if not gpus.devices:
        raise NoGpuError(gpus.problem)


def leave(step: Step) -> None:
    """End of the process, with the step's exit code; flushed, because libraries of the GPU may die on their way out."""
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(step.exit_code())
