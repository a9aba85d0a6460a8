"""The CUDA kernels on arrays of a device: at the size of a frame and at sizes that fill a GPU, with what each result has to be.

A device is what the tests call so: it makes arrays (`put`, `empty`, `zeros`, `workspace`, `counter`), reads them (`get`) and has `kernels`
and a `stream`. What is right says the CPU's kernel of the same name, which the tests compare with the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from benchmarks.cases.codes import random_codebook
from benchmarks.cases.images import MEAN, STD
from benchmarks.cases.ridges import random_tables, stored_bytes
from benchmarks.cases.tails import FUSION
from lad_edge import kernels
from lad_edge.kernels.resampling import blurred_bilinear

Floats = NDArray[np.float32]
HEADS = 8  # of FOD's attention
CODE_WIDTH, ENTRIES, TOKEN_WIDTH, LEVELS = 64, 512, 256, 4  # of LADMIM's codebooks


class Device(Protocol):
    """Where the kernels run."""

    kernels: Any
    stream: int

    def put(self, array: NDArray[Any]) -> Any: ...
    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any: ...
    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any: ...
    def workspace(self, size: int) -> Any: ...
    def counter(self) -> Any: ...
    def get(self, array: Any) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Launch:
    """One kernel, ready to run. enqueue: once, on the device's stream; check: raises AssertionError if the last result is wrong.

    bytes_moved: what has to be read and written; flops: multiplications and additions of its matrix products, 0 if it has none.
    """

    enqueue: Callable[[], None]
    check: Callable[[], None]
    bytes_moved: int
    flops: int = 0


Maker: TypeAlias = (
    "partial[Launch]"  # takes the device: launches are made one at a time, the large ones take gigabytes together
)


def title(make: Maker) -> str:
    """Which kernel, and at which sizes."""
    return f"{make.func.__name__} {', '.join(map(_shown, make.args))}"


def preprocess(shape: tuple[int, int, int], size: tuple[int, int], device: Device) -> Launch:
    """Camera frame → network input."""
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = np.empty((3, *size), np.float32)
    options: dict[str, Any] = {"swap_rb": True, "mean": MEAN, "std": STD}
    kernels.Preprocess(image.shape, size, **options)(image, expected)
    plan = device.kernels.Preprocess(image.shape, size, **options)
    tables, source, target = (
        device.workspace(plan.table_bytes),
        device.put(image),
        device.empty(expected.shape, np.float32),
    )
    plan.prepare(tables, stream=device.stream)

    def enqueue() -> None:
        plan(source, target, stream=device.stream)

    return Launch(enqueue, lambda: _close(device, target, expected, 5e-6), image.nbytes + expected.nbytes)


def distance_map(shape: tuple[int, int, int], cosine: float, kind: type[Any], device: Device) -> Launch:
    """Two feature maps → their distances."""
    a, b = (_random(shape, seed).astype(kind) for seed in range(2))
    expected = np.empty(shape[1:], np.float32)
    kernels.distance_map(a.astype(np.float32), b.astype(np.float32), cosine=cosine, out=expected)
    first, second, out = device.put(a), device.put(b), device.empty(shape[1:], np.float32)
    buffers = {"out": out, "nonfinite": device.counter(), "stream": device.stream}

    def enqueue() -> None:
        device.kernels.distance_map(first, second, cosine=cosine, **buffers)

    return Launch(enqueue, lambda: _close(device, out, expected, 1e-5), 2 * a.nbytes + expected.nbytes)


def fuse(size: tuple[int, int], device: Device) -> Launch:
    """EfficientAD's two maps → the map in full and its maxima."""
    maps, expected = [_random((56, 56), seed) * np.float32(0.02) for seed in range(2)], np.empty(size, np.float32)
    kernels.fuse(maps[0], maps[1], **FUSION, size=size, out=expected)
    sources, out = [device.put(m) for m in maps], device.empty(size, np.float32)
    workspace = device.workspace(device.kernels.fuse_workspace_bytes(size=size))
    buffers = {"out": out, "result": device.empty((6,), np.float64), "workspace": workspace, "stream": device.stream}

    def enqueue() -> None:
        device.kernels.fuse(*sources, **FUSION, size=size, **buffers)

    return Launch(
        enqueue,
        lambda: _close(device, out, expected, 1e-6),
        expected.nbytes + 2 * maps[0].nbytes,
    )


def project_maps(size: tuple[int, int], device: Device) -> Launch:
    """FOD's maps of two levels → the blurred map in full and its maximum."""
    maps, expected = [_random((side, side), side) for side in (32, 16)], np.empty(size, np.float32)
    enlarge = [blurred_bilinear(m.shape[0], size[0], 4.0, border="symmetric", corners=True) for m in maps]
    kernels.project_maps(maps, enlarge, enlarge, [0.5, 0.5], 0.1, expected)
    sources, rows = [device.put(m) for m in maps], [device.put(matrix) for matrix in enlarge]
    out, result = device.empty(size, np.float32), device.empty((4,), np.float64)
    workspace = device.workspace(device.kernels.project_workspace_bytes(size=size))
    buffers = {"result": result, "workspace": workspace, "stream": device.stream}

    def enqueue() -> None:
        device.kernels.project_maps(sources, rows, rows, [0.5, 0.5], 0.1, out, **buffers)

    moved = sum(array.nbytes for array in (*maps, *enlarge, *enlarge, expected))
    return Launch(enqueue, lambda: _close(device, out, expected, 1e-6), moved)


def quantizer(tokens: int, device: Device) -> Launch:
    """LADMIM's top codebook and its levels; a thousandth of the codes may differ, whose scores float32 cannot tell apart."""
    rng = np.random.default_rng(0)
    top, *levels = (random_codebook(rng, TOKEN_WIDTH, rows) for rows in (1, *[ENTRIES] * LEVELS))
    values = _random((1 + LEVELS, tokens, TOKEN_WIDTH), 1)
    expected = np.empty(values.shape[:2], np.uint16)
    kernels.Quantizer(top, levels)(values, expected)
    plan = device.kernels.Quantizer(top, levels)
    tables, workspace = device.workspace(plan.table_bytes), device.workspace(plan.workspace_bytes(tokens))
    plan.prepare(tables, stream=device.stream)
    source, codes = device.put(values), device.empty(expected.shape, np.uint16)
    buffers = {"nonfinite": device.counter(), "workspace": workspace, "stream": device.stream}

    def enqueue() -> None:
        plan(source, codes, **buffers)

    def check() -> None:
        share = float((device.get(codes) == expected).mean())
        assert share >= 0.999, f"{100 * share:.2f} % of the codes are those of the CPU, expected 99.9 %"

    flops = 2 * values.shape[0] * tokens * CODE_WIDTH * (TOKEN_WIDTH + ENTRIES)
    return Launch(enqueue, check, values.nbytes + expected.nbytes, flops)


def masked_histogram_score(masks: int, device: Device) -> Launch:
    """LADMIM's masks over the codes of all levels."""
    rng = np.random.default_rng(0)
    packed = kernels.pack_masks(rng.random((masks, 576)) < 0.25)
    codes = rng.integers(0, ENTRIES, (LEVELS, 576)).astype(np.uint16)
    logits, expected = _random((masks, LEVELS, ENTRIES), 1), np.empty(masks, np.float32)
    kernels.masked_histogram_score(codes, packed, logits, expected)
    sources, out = [device.put(array) for array in (codes, packed, logits)], device.empty((masks,), np.float32)
    buffers = {"nonfinite": device.counter(), "stream": device.stream}

    def enqueue() -> None:
        device.kernels.masked_histogram_score(*sources, out, **buffers)

    moved = codes.nbytes + packed.nbytes + logits.nbytes + expected.nbytes
    return Launch(enqueue, lambda: _close(device, out, expected, 1e-4), moved)


def symmetric_kl(layers: int, device: Device) -> Launch:
    """FOD's fine level, 32x32 tokens of 256 numbers. Each launch adds to the result: it is right after the first one."""
    side, width, expected = 32, 256, np.zeros(32 * 32, np.float32)
    rng = np.random.default_rng(0)
    queries, keys = (rng.normal(size=(layers, side**2, width)).astype(np.float32) for _ in range(2))
    sigmas = rng.uniform(1.1e-5, 2, (layers, side**2, 2 * HEADS)).astype(np.float32)
    settings: dict[str, Any] = {"heads": HEADS, "side": side, "weight": 1.0 / layers}
    for layer in zip(queries, keys, sigmas, strict=True):
        kernels.symmetric_kl(*layer, **settings, out=expected)
    size = device.kernels.symmetric_kl_workspace_bytes(side=side, heads=HEADS, layers=layers)
    sources, out = [device.put(array) for array in (queries, keys, sigmas)], device.zeros((side**2,), np.float32)
    buffers = {"nonfinite": device.counter(), "workspace": device.workspace(size), "stream": device.stream}

    def enqueue() -> None:
        device.kernels.symmetric_kl(*sources, **settings, out=out, **buffers)

    moved = queries.nbytes + keys.nbytes + sigmas.nbytes + expected.nbytes
    return Launch(enqueue, lambda: _close(device, out, expected, 1e-4), moved, 2 * layers * side**4 * width)


def masked_ridge(r: int, q: int, device: Device) -> Launch:
    """A taught engine's cells against what their neighbours let expect; the tables are what is read."""
    tables = random_tables(r, q)
    channels, side = tables.mean.shape[2], 2 * int(tables.mean.shape[0] ** 0.5)
    cells = _random((channels, side, side), 1)
    expected = [np.empty((n, n), np.float32) for n in (side, side // 2, side)]
    kernels.MaskedRidge(tables)(cells, *expected)
    plan, source = device.kernels.MaskedRidge(tables), device.put(cells)
    plan.prepare(device.workspace(plan.table_bytes), stream=device.stream)
    maps = [device.empty(distances.shape, np.float32) for distances in expected]
    workspace = device.workspace(plan.workspace_bytes)
    buffers = {"nonfinite": device.counter(), "workspace": workspace, "stream": device.stream}

    def enqueue() -> None:
        plan(source, *maps, **buffers)

    def check() -> None:
        for found, distances in zip(maps, expected, strict=True):
            _close(device, found, distances, 1e-3 * float(distances.max()))

    moved = stored_bytes(tables) + cells.nbytes + sum(distances.nbytes for distances in expected)
    return Launch(enqueue, check, moved)


def count_nonfinite(shape: tuple[int, ...], device: Device) -> Launch:
    """Values that are finite but for two. Each launch adds to the count: it is right after the first one."""
    values = _random(shape, 1)
    values.ravel()[[3, -1]] = np.nan, np.inf
    source, count = device.put(values), device.counter()

    def enqueue() -> None:
        device.kernels.count_nonfinite(source, nonfinite=count, stream=device.stream)

    def check() -> None:
        assert device.get(count)[0] == 2, f"{device.get(count)[0]} values are not finite, expected 2"

    return Launch(enqueue, check, values.nbytes)


def _random(shape: tuple[int, ...], seed: int) -> Floats:
    """Values between -1 and 1."""
    return 2 * np.random.default_rng(seed).random(shape, np.float32) - 1


def _close(device: Device, found: Any, expected: Floats, atol: float) -> None:
    np.testing.assert_allclose(device.get(found), expected, rtol=1e-4, atol=atol)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return np.dtype(value).name if isinstance(value, type) else str(value)


FRAME: tuple[Maker, ...] = (
    partial(preprocess, (1024, 1280, 3), (256, 256)),
    partial(distance_map, (384, 56, 56), 0.0, np.float32),
    partial(distance_map, (384, 56, 56), 0.0, np.float16),
    partial(distance_map, (384, 64, 64), 0.5, np.float32),
    partial(fuse, (1024, 1280)),
    partial(project_maps, (256, 256)),
    partial(quantizer, 576),
    partial(masked_histogram_score, 16),
    partial(symmetric_kl, 3),
    partial(masked_ridge, 48, 48),
    partial(count_nonfinite, (4, 576, 512)),
)
FILLING: tuple[Maker, ...] = (
    partial(preprocess, (8192, 8192, 3), (2048, 2048)),
    partial(distance_map, (128, 512, 512), 0.0, np.float32),
    partial(distance_map, (128, 512, 512), 0.0, np.float16),
    partial(distance_map, (128, 512, 512), 0.5, np.float32),
    partial(fuse, (8192, 8192)),
    partial(project_maps, (8192, 8192)),
    partial(quantizer, 65536),
    partial(masked_histogram_score, 16384),
    partial(symmetric_kl, 48),
    partial(count_nonfinite, (1 << 26,)),
)  # a GPU of 50 MB of cache has to go to its memory for these
