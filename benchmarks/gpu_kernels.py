"""Speed of the CUDA kernels beside what this GPU can do: python -m benchmarks.gpu_kernels --json OUT --work FOLDER.

Each result is compared with the CPU's before the clock runs. Times are of CUDA events. Ceilings, of the same run: a copy of 1 GiB on the
GPU, counting what is read and what is written, and products of large matrices in f32 (no TF32) and f16. floor: the longer one of the
kernel's bytes at the speed of the copy and its multiplications at that of the f32 product; what fits into the cache can be faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial

from benchmarks.gpu_cases import FILLING, FRAME, Maker, title
from benchmarks.gpu_device import Gpu
from benchmarks.gpu_step import Step, leave, require_gpu, step_arguments
from benchmarks.report import percentiles, table

COPIED_BYTES = 1 << 30
MATRIX_SIDE = 8192
CEILINGS = "ceilings"
FIELDS = ("p50", "p95", "max", "GB/s", "% of copy", "TFLOP/s", "× floor")


def main() -> None:
    """Ceilings first, then each kernel with its own try."""
    args = _arguments()
    step = Step(args.place)
    if args.once:
        step.ask("launches", run_once)
    elif (rates := step.ask(CEILINGS, ceilings)) is not None:
        measure_all(step, rates)
    leave(step)


def ceilings() -> dict[str, object]:
    """Bytes and operations per second."""
    require_gpu()
    gpu = Gpu()
    torch = gpu.torch
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy_us = percentiles(gpu.times_us(partial(target.copy_, source)))["p50"]
    found: dict[str, object] = {"copy_gb_s": round(2 * COPIED_BYTES / copy_us / 1e3, 1)}
    for name in ("float32", "float16"):
        a, b = (torch.rand(MATRIX_SIDE, MATRIX_SIDE, device="cuda").to(getattr(torch, name)) - 0.5 for _ in range(2))
        out = torch.empty_like(a)
        product_us = percentiles(gpu.times_us(partial(torch.mm, a, b, out=out), replays=5))["p50"]
        found[f"matmul_{name}_tflop_s"] = round(2 * MATRIX_SIDE**3 / product_us / 1e6, 1)
    return found


def measure_all(step: Step, rates: Mapping[str, object]) -> None:
    """Prints one table."""
    gpu, rows = Gpu(), []
    for make in (*FRAME, *FILLING):
        found = step.ask(title(make), partial(measure, gpu, make, rates))
        if found is not None:
            rows.append([title(make), *(found[name] for name in FIELDS)])
    print(table(f"CUDA kernels, µs by events; a copy moves {rates['copy_gb_s']} GB/s", ("", *FIELDS), rows))


def measure(gpu: Gpu, make: Maker, rates: Mapping[str, object]) -> dict[str, object]:
    """Check the result, then take the time."""
    launch = make(gpu)
    launch.enqueue()
    launch.check()
    figures = percentiles(gpu.times_us(launch.enqueue))
    copy, product = (float(str(rates[name])) for name in ("copy_gb_s", "matmul_float32_tflop_s"))
    floor_us = max(launch.bytes_moved / copy / 1e3, launch.flops / product / 1e6)
    rate = launch.bytes_moved / figures["p50"] / 1e3
    return {
        **{name: figures[name] for name in ("p50", "p95", "max")},
        "GB/s": round(rate, 1),
        "% of copy": round(100 * rate / copy, 1),
        "TFLOP/s": round(launch.flops / figures["p50"] / 1e6, 2),
        "× floor": round(figures["p50"] / floor_us, 2),
        "bytes": launch.bytes_moved,
        "flops": launch.flops,
    }


def run_once() -> dict[str, object]:
    """Each kernel at the size of a frame, for a tool that watches every access."""
    require_gpu()
    gpu = Gpu()
    for make in FRAME:
        launch = make(gpu)
        launch.enqueue()
        launch.check()
    return {"launched": [title(make) for make in FRAME]}


def _arguments() -> argparse.Namespace:
    once = {"action": "store_true", "help": "launch and check each kernel once and measure nothing"}
    return step_arguments(__doc__, "benchmarks.gpu_kernels", once=once)


if __name__ == "__main__":
    main()
