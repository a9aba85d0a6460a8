"""A folder of `run --out images:FOLDER` goes in; the parts that were kept, with their records and pictures, come out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.errors import DataError, UsageError
from lad_edge.images import read_image
from lad_edge.values import Frame, Verdict
from lad_edge.views import region

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

_ENDING = ".json"


@dataclass(frozen=True)
class KeptPart:
    """One part as it was judged. camera: the name of its folder; record: as `stream.records.to_record` made it; picture: its file."""

    camera: str
    record: Mapping[str, Any]
    picture: Path

    @property
    def seq(self) -> int:
        """Number of the part on its line."""
        return int(self.record["seq"])

    @property
    def name(self) -> str:
        """Of one part among all cameras: CAMERA/SEQ."""
        return f"{self.camera}/{self.seq}"

    @property
    def verdict(self) -> Verdict:
        """As it was then."""
        return Verdict(self.record["verdict"])

    def frame(self, pixel_format: str) -> Frame:
        """What was judged of the picture (run --roi). Raises DataError if it is gone, or another one than was judged."""
        from lad_edge.outputs.outbox import frame_sha256

        if not self.picture.is_file():
            raise DataError(f"part {self.name}: its picture {self.picture} is gone; leave this part out")
        image: NDArray[np.uint8] = np.asarray(read_image(self.picture).image, np.uint8)
        if pixel_format == "rgb8":  # the saver wrote it as blue, green, red
            image = np.ascontiguousarray(image[:, :, ::-1])
        if frame_sha256(image) != self.record.get("frame_sha256"):
            raise DataError(f"part {self.name}: {self.picture} is not the picture that was judged; leave this part out")
        image = region(image, self.record.get("roi_px"))
        return Frame(self.seq, self.name, image, pixel_format, 0, int(self.record["utc_ns"]))


def read_kept(folder: Path) -> list[KeptPart]:
    """All parts in the order of their numbers, by camera. Raises DataError if there is none, or a record is not one of ours."""
    paths = sorted(folder.glob(f"*/*/[0-9]*_*{_ENDING}")) if folder.is_dir() else []
    if not paths:
        raise DataError(f"{folder} holds no parts; give the folder of 'lad-edge run --out images:FOLDER'")
    parts = [_kept(path, folder) for path in paths]
    return sorted(parts, key=lambda part: (part.camera, part.seq))


def named_parts(
    parts: Sequence[KeptPart], records: Sequence[Mapping[str, Any]], names: Collection[str], option: str
) -> list[KeptPart]:
    """The parts of these names: SEQ, CAMERA/SEQ, or the id that the trigger or the source gave them.

    records: of all parts, kept or not. Raises UsageError for a name that is not there, means several, or whose picture was not kept.
    """
    kept = {moment(part.record): part for part in parts}
    return [_the_one([each for each in records if name in _names(each, kept)], kept, name, option) for name in names]


def labelled_parts(parts: Sequence[KeptPart], folder: Path, label: str) -> tuple[list[KeptPart], int]:
    """The parts that operators gave this label on the page (dashboard/labels.py), and how many more of them were not kept.

    Raises DataError for a folder without labels, or labels that are not ours.
    """
    path = folder / "labels.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        told = {moment(line["record"]) for line in lines if line["label"] == label}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise DataError(f"{path}: no labels of 'lad-edge run --dashboard-labels' can be read there: {exc}") from exc
    found = [part for part in parts if moment(part.record) in told]
    return found, len(told) - len(found)


def moment(record: Mapping[str, Any]) -> tuple[int, int]:
    """Tells one part from all others in every output: JSON lines name no camera, and what came too late has another capture time."""
    return record["seq"], record["utc_ns"]


def _names(record: Mapping[str, Any], kept: Mapping[tuple[int, int], KeptPart]) -> set[str]:
    part = kept.get(moment(record))
    longer = part.name if part is not None else f"{record.get('camera_id', '')}/{record['seq']}"
    return {str(record["seq"]), longer, record["frame_id"], record["part_id"]} - {""}


def _the_one(
    found: Sequence[Mapping[str, Any]], kept: Mapping[tuple[int, int], KeptPart], name: str, option: str
) -> KeptPart:
    if not found:
        raise UsageError(f"{option} {name}: no part of this number or id is recorded; give the seq of its record")
    moments = {moment(each) for each in found}
    if len(moments) > 1:
        longer = (f"{each.get('camera_id', '')}/{each['seq']}" for each in found)
        names = [kept[each].name for each in moments if each in kept] or longer
        raise UsageError(f"{option} {name} means several parts: {', '.join(sorted(names))}; give one of these")
    part = kept.get(moments.pop())
    if part is None:
        raise UsageError(
            f"{option} {name}: the part was {found[0]['verdict']} and its picture was not kept; --out images:FOLDER?ok=20 keeps one "
            "OK part in 20"
        )
    return part


def _kept(path: Path, folder: Path) -> KeptPart:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        part = KeptPart(path.relative_to(folder).parts[0], record, path.with_suffix(".png"))
        int(record["seq"]), int(record["utc_ns"]), Verdict(record["verdict"]), str(record["engine_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise DataError(f"{path} is no record of lad-edge ({type(exc).__name__}: {exc}); take it out") from exc
    return part
