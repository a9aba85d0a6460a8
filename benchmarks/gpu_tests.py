"""The tests for GPUs, or every kernel under compute-sanitizer: python -m benchmarks.gpu_tests --json OUT --work FOLDER [--sanitize]."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from xml.etree import ElementTree  # the file is pytest's own

from benchmarks.gpu_step import NO_GPU, NoGpuError, Place, Step, leave, run_limited, step_arguments

ROOT = Path(__file__).parent.parent
ROOMS = ("tests/kernels", "tests/runtime", "tests/scoring", "tests/cli/test_doctor.py")
SANITIZERS = ("memcheck", "racecheck")
LIMIT_S = 100  # of one tool: what it found so far is told before the whole step is ended
FOUND_SOMETHING = 9  # exit code that compute-sanitizer is told to end with


def main() -> None:
    """All tests, or each tool with its own try."""
    args = step_arguments(
        __doc__, "benchmarks.gpu_tests", sanitize={"action": "store_true", "help": "instead of the tests"}
    )
    step = Step(args.place)
    if args.sanitize:
        with ThreadPoolExecutor() as pool:  # both wait for the host more than for the GPU
            running = {tool: pool.submit(partial(sanitize, tool, args.place)) for tool in SANITIZERS}
            for tool, answer in running.items():
                step.ask(tool, answer.result)
    else:
        step.ask("pytest -m gpu", partial(run_tests, args.place))
    leave(step)


def run_tests(place: Place) -> dict[str, object]:
    """Counts of pytest's own report. Raises RuntimeError with the names of tests that failed, NoGpuError if all were skipped."""
    report = place.json.with_suffix(".xml")
    report.unlink(missing_ok=True)
    # warnings of other versions than ours are no fault of the GPU
    options = ["-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run([sys.executable, "-m", "pytest", *options, *ROOMS], cwd=ROOT, check=False)
    suite = next(ElementTree.parse(report).iter("testsuite"))
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    if counts["failures"] or counts["errors"] or not counts["tests"]:
        raise RuntimeError(f"{counts}: {'; '.join(_failed(suite)) or 'no test was found'}")
    if counts["skipped"] == counts["tests"]:
        reasons = {str(skipped.get("message")) for skipped in suite.iter("skipped")}
        raise NoGpuError(f"{counts['tests']} tests skipped: {'; '.join(sorted(reasons))}")
    return {**counts, "passed": counts["tests"] - counts["skipped"], "seconds": float(suite.get("time", "nan"))}


def sanitize(tool: str, place: Place) -> dict[str, object]:
    """Each kernel once. Raises RuntimeError for a finding of the tool, or where the tool cannot work, or takes too long."""
    path = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if path is None and not place.rehearse:
        raise RuntimeError("compute-sanitizer is not installed; it belongs to the CUDA toolkit")
    watch = [] if place.rehearse else [str(path), "--tool", tool, "--error-exitcode", str(FOUND_SOMETHING)]
    work = ["--json", str(place.json.with_name(f"{tool}.json")), "--work", str(place.work), "--once"]
    command = [*watch, sys.executable, "-m", "benchmarks.gpu_kernels", *work]
    words = place.json.with_name(f"{tool}.log")
    with words.open("w", encoding="utf-8") as log:
        code = run_limited(command, LIMIT_S, log, cwd=ROOT, env=_plain_memory())
    said = words.read_text(encoding="utf-8", errors="replace")
    if code == NO_GPU:
        raise NoGpuError(f"nothing to watch: {said.strip()[-200:] or 'the kernels found no GPU'}")
    if code != 0:
        how = f"was ended after {LIMIT_S} s" if code is None else f"ended with {code}"
        raise RuntimeError(f"{tool} {how}: {said.strip()[-1500:]}")
    return {"summary": [line.strip() for line in said.splitlines() if "SUMMARY" in line]}


def _plain_memory() -> dict[str, str]:
    """Each array its own allocation, so that what is written beside it is beside every allocation."""
    return {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def _failed(suite: ElementTree.Element) -> list[str]:
    cases = (
        case for case in suite.iter("testcase") if case.find("failure") is not None or case.find("error") is not None
    )
    return [f"{case.get('classname')}.{case.get('name')}" for case in cases][:20]


if __name__ == "__main__":
    main()
