"""A Result goes in, the one record that every sink writes comes out (design.md §7)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lad_edge.values import Result


def to_record(result: Result) -> dict[str, Any]:
    """JSON values only; score fields are null when the part was not scored. The anomaly map stays outside."""
    return {
        "seq": result.seq,
        "frame_id": result.frame_id,
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
        "stages_us": {stage: round(duration_us, 1) for stage, duration_us in result.stages_us.items()},
        "engine_sha256": result.engine_sha256,
    }


def to_json_line(result: Result) -> str:
    """The record as one line of JSON with its line end. Raises ValueError for NaN or Inf, which JSON cannot say."""
    return json.dumps(to_record(result), allow_nan=False, ensure_ascii=False, separators=(",", ":")) + "\n"
