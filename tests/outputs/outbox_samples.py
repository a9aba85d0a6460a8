"""What the tests of the outputs share: results with known keys, and an outbox on a real file."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from lad_edge.outputs.ledger import Reader, Stored
from lad_edge.outputs.outbox import Limits, Outbox
from lad_edge.stream.records import Origin
from lad_edge.values import Frame, Reason, Region, Result, Verdict

WAIT_S = 30.0
ORIGIN = Origin("box-1", "camera0", "boot-a", "c0ffee", {"lad_edge": "0.1.0"})
RESULT = Result(
    seq=1,
    frame_id="part-1",
    verdict=Verdict.NG,
    reasons=(Reason.STRUCTURAL_ABOVE_LIMIT,),
    captured_ns=5,
    utc_ns=1_764_000_000_000_000_000,  # 2025-11-24
    score=0.5,
    threshold=0.25,
    p_value=0.01,
    structural_score=0.75,
    logical_score=0.25,
    regions=(Region(1, 2, 3, 4, 5, 0.5, 2, 3),),
    stages_us={"total": 1234.5},
    engine_sha256="ab",
)
PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def frame(image: np.ndarray | None = None) -> Frame:  # type: ignore[type-arg]
    return Frame(1, "part-1", image, "none" if image is None else "bgr8", 5, 6)


def results(first: int, last: int, **changes: object) -> list[Result]:
    return [replace(RESULT, seq=seq, frame_id=f"part-{seq}", **changes) for seq in range(first, last + 1)]  # type: ignore[arg-type]


def quiet(_text: str) -> None:
    pass


def open_outbox(path: Path, boot_id: str = "boot-a", **limits: object) -> Outbox:
    limits = {"reserve_bytes": 0, **limits}
    return Outbox(path, replace(ORIGIN, boot_id=boot_id), quiet, Limits(**limits))  # type: ignore[arg-type]


def fill(outbox: Outbox, first: int, last: int) -> None:
    for result in results(first, last):
        outbox.write(frame(), result)
    assert outbox.flush(WAIT_S)


def stored(path: Path) -> list[Stored]:
    reader = Reader(path)
    try:
        return reader.after(0, 1_000_000)
    finally:
        reader.close()


def seqs(records: list[Stored]) -> list[int]:
    return [record.record["seq"] for record in records]


def fill_disk(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))
