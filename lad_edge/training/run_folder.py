"""The folder that a training run leaves: what was trained, on which images, and the weights that inference needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lad_edge.errors import DataError, UsageError

DESCRIPTION, WEIGHTS = "run.json", "weights.safetensors"
Frame = tuple[int | None, int | None, str]  # width and height in pixels, None where they differ, and pixel format


@dataclass(frozen=True)
class RunDescription:
    """Everything that `export` and `eval` need beside the weights.

    config: the detector's own settings; data: absolute folder and layout; train, validation: file names relative to it;
    frame: width, height (None = mixed) and pixel format of the training images; provenance: hashes, versions, durations.
    frames: of a run for several categories the same three for each of them; file names then begin with the category's, see `of`.
    """

    detector: str
    name: str
    config: Mapping[str, Any]
    data: str
    layout: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    width: int | None
    height: int | None
    pixel_format: str
    roi: tuple[int, int, int, int] | None
    provenance: Mapping[str, Any]
    frames: Mapping[str, Frame] = field(default_factory=dict)

    def of(self, category: str | None, data: Path | None = None) -> RunDescription:
        """The run as far as one of its categories is concerned; None for a run on one.

        data: where the data set is now, if it has moved. Raises UsageError for a category that is missing, unknown or not needed.
        """
        root, names = data or Path(self.data), ", ".join(self.frames)
        if not self.frames:
            if category is not None:
                raise UsageError(f"--category {category}: the run was trained on one, {self.name}; leave it out")
            return replace(self, data=str(root))
        if category is None:
            raise UsageError(f"the run was trained on several categories; choose one with --category: {names}")
        if category not in self.frames:
            raise UsageError(f"--category {category}: the run was trained on {names}; choose one of them")
        width, height, pixel_format = self.frames[category]
        train, validation = (_below(category, files) for files in (self.train, self.validation))
        return replace(
            self,
            name=category,
            data=str(root / category),
            train=train,
            validation=validation,
            width=width,
            height=height,
            pixel_format=pixel_format,
            frames={},
        )

    def same_training(self, other: RunDescription) -> bool:
        """Whether continuing `other` would give this run: all that shapes the weights agrees."""
        mine, theirs = asdict(self), asdict(other)
        for description in (mine, theirs):
            description.pop("data")
            description["provenance"] = {
                key: description["provenance"].get(key) for key in ("data_sha256", "teacher_sha256", "photographs")
            }
        return bool(mine == theirs)

    def write(self, folder: Path) -> None:
        """Store as run.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DESCRIPTION).write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


def _below(category: str, files: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(file.removeprefix(f"{category}/") for file in files if file.startswith(f"{category}/"))


def read_description(folder: Path) -> RunDescription:
    """Read run.json. Raises DataError if the folder is no run folder."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise DataError(
            f"{folder}: expected a run folder with {DESCRIPTION}, as 'lad-edge train' writes it; found none"
        )
    try:
        fields = json.loads(path.read_text())
        fields |= {name: tuple(fields[name]) for name in ("train", "validation")}
        fields["roi"] = tuple(fields["roi"]) if fields["roi"] else None
        fields["frames"] = {name: tuple(frame) for name, frame in fields.get("frames", {}).items()}
        return RunDescription(**fields)
    except (ValueError, TypeError, KeyError) as exc:
        raise DataError(f"{path}: expected the description of a training run, found something else ({exc})") from exc


def claim_folder(folder: Path, wanted: RunDescription) -> None:
    """Write the description, or check that the folder already belongs to the same training, which then resumes."""
    if (folder / DESCRIPTION).exists():
        present = read_description(folder)
        if not wanted.same_training(present):
            raise UsageError(
                f"{folder} holds another run ({present.detector}, {present.name}, {present.config}); choose another --out"
            )
        return
    wanted.write(folder)
