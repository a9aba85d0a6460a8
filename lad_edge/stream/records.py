"""A Result goes in, the one record that every sink writes comes out (design.md §7)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lad_edge.values import Result

SCHEMA = 1  # of the record; a field may be added under the same number, none changes its meaning
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Origin:
    """Where records come from. device_id, camera_id, boot_id and seq are the key of a record in every sink (reliability.md V5).

    boot_id: another one with every start of the line; config_sha256: of what the line was told; versions: of what ran.
    """

    device_id: str
    camera_id: str
    boot_id: str
    config_sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def to_record(result: Result, origin: Origin | None = None, frame_sha256: str | None = None) -> dict[str, Any]:
    """JSON values only; score fields are null when the part was not scored. The anomaly map stays outside.

    With an origin the record carries its key and what a replay needs to judge the same again.
    """
    return {
        "seq": result.seq,
        "frame_id": result.frame_id,
        "part_id": result.part_id,
        "captured_ns": result.captured_ns,
        "utc_ns": result.utc_ns,
        "verdict": result.verdict.value,
        "reasons": [reason.value for reason in result.reasons],
        "score": result.score,
        "p_value": result.p_value,
        "threshold": result.threshold,
        "structural_score": result.structural_score,
        "logical_score": result.logical_score,
        "regions": [asdict(region) for region in result.regions],
        "findings": list(result.findings),
        "detail": result.detail,
        "moved_px": None if result.moved_px is None else list(result.moved_px),
        "roi_px": None if result.roi_px is None else list(result.roi_px),
        "stages_us": {stage: round(duration_us, 1) for stage, duration_us in result.stages_us.items()},
        "engine_sha256": result.engine_sha256,
        **({} if origin is None else _provenance(origin, frame_sha256)),
    }


def to_json_line(result: Result, origin: Origin | None = None, frame_sha256: str | None = None) -> str:
    """The record as one line of JSON with its line end. Raises ValueError for NaN or Inf, which JSON cannot say."""
    return json_line(to_record(result, origin, frame_sha256))


def json_line(record: Mapping[str, Any]) -> str:
    """As `to_json_line`, from the fields of a record."""
    line = _ENCODER.encode(record) + "\n"
    # The name of a file may hold bytes that are no UTF-8: as \udcXX they are JSON that every encoder takes.
    return line.encode("utf-8", "backslashreplace").decode()


def safe_id(text: str) -> str:
    """The text where it can stand in a path or a topic as it is, else the first 16 digits of its sha256 (reliability.md B12)."""
    if _SAFE_ID.fullmatch(text):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _provenance(origin: Origin, frame_sha256: str | None) -> dict[str, Any]:
    return {
        "frame_sha256": frame_sha256,
        "config_sha256": origin.config_sha256,
        "versions": dict(origin.versions),
        "device_id": origin.device_id,
        "camera_id": origin.camera_id,
        "boot_id": origin.boot_id,
        "schema": SCHEMA,
    }
