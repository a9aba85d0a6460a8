"""What would spoil training or the figures: a data set goes in, findings come out, with files and remedies."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lad_edge.datasets.masks import read_masks
from lad_edge.datasets.near import levels, near_groups, thumbnail
from lad_edge.datasets.records import GOOD, SPLITS, Dataset, Record
from lad_edge.errors import DataError
from lad_edge.images import IMAGE_SUFFIXES, Picture, read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CONFORMAL_RATE = 0.01
CONFORMAL_IMAGES = 99  # ceil(1 / rate) - 1: fewer good scores cannot carry a conformal statement at that rate
# Shares of the median of the good images. Products vary: on the real sets at hand good images go down to 0.32
# (sharpness) and 0.40 (brightness: another juice); a Gaussian blur of 1 px leaves 0.06 to 0.22 of the sharpness.
BLURRED, DARK, BRIGHT = 0.25, 0.33, 3.0
_OTHER_IMAGES = frozenset({".webp", ".gif", ".heic", ".heif", ".avif", ".jp2", ".raw", ".dng", ".ppm", ".pgm"})


@dataclass(frozen=True)
class Finding:
    """One thing that should be put right.

    kind: a stable word; message: what and why; remedy: what to do; paths: below the root.
    """

    kind: str
    message: str
    remedy: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What a data set holds and what is wrong with it.

    images: counts by split and label; notes do not count as findings.
    """

    root: str
    layout: str
    images: dict[str, dict[str, int]]
    sizes: dict[str, int]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Seen:
    """What is kept of an image that could be read."""

    record: Record
    shape: tuple[int, ...]
    pixel_format: str
    digest: bytes
    thumbnail: NDArray[np.float32]
    sharpness: float
    brightness: float


def check(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> Report:
    """Reads every image and mask once.

    progress: called with (read, total). Raises DataError for fewer than two images.
    """
    if len(dataset.records) < 2:
        raise DataError(f"{dataset.root}: expected at least 2 images, found {len(dataset.records)}; add good images")
    seen, findings = [], []
    for done, record in enumerate(dataset.records, 1):
        try:
            seen.append(_look(record, read_image(record.path)))
            findings += _check_masks(dataset, seen[-1])
        except DataError as exc:
            findings.append(Finding("unreadable", str(exc), "copy it again or remove it", _names(dataset, [record])))
        if progress:
            progress(done, len(dataset.records))
    findings += chain(_mixed(dataset, seen), _alike(dataset, seen), _outliers(dataset, seen))
    sizes = Counter(f"{item.shape[1]}x{item.shape[0]} {item.pixel_format}" for item in seen)
    return Report(str(dataset.root), dataset.layout, _counts(dataset), dict(sizes), tuple(findings), _notes(dataset))


def _look(record: Record, picture: Picture) -> _Seen:
    image = np.ascontiguousarray(picture.image)
    small = thumbnail(image)
    # Kinds of pixels other than 8 bits are a finding of their own; here they only have to be measurable.
    grey = image if image.ndim == 2 else image[..., :3].max(axis=2)
    grey = grey.astype(np.float32) * np.float32(levels(image.dtype))
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    digest = hashlib.sha256(repr((image.shape, picture.pixel_format)).encode() + image.tobytes()).digest()
    return _Seen(
        record,
        image.shape,
        picture.pixel_format,
        digest,
        small,
        sharpness,
        float(grey.mean(dtype=np.float64)),
    )


def _check_masks(dataset: Dataset, item: _Seen) -> list[Finding]:
    try:
        masks = read_masks(item.record)
    except DataError as exc:
        return [Finding("mask", str(exc), "restore the mask", _names(dataset, [item.record]))]
    wrong = [f"expected a mask of {item.shape[:2]}, got {mask.shape}" for mask in masks if mask.shape != item.shape[:2]]
    wrong += ["expected a mask that marks something, got an empty one" for mask in masks if not mask.any()]
    return [Finding("mask", text, "restore the mask", _names(dataset, [item.record])) for text in wrong]


def _mixed(dataset: Dataset, seen: Sequence[_Seen]) -> Iterable[Finding]:
    """Images that are not like most, and kinds of pixels that no detector takes."""
    by_format = _groups(seen, lambda item: item.pixel_format)
    by_size = _groups(seen, lambda item: f"{item.shape[1]}x{item.shape[0]}")
    for kind, groups in (("mixed_format", by_format), ("mixed_size", by_size)):
        usual, *others = sorted(groups, key=lambda name: -len(groups[name])) or [""]
        for name in others:
            message = f"{name} where most images are {usual}"
            remedy = "bring all images to one size and format, as the camera delivers them"
            yield Finding(kind, message, remedy, _names(dataset, (item.record for item in groups[name])))
    for name, items in by_format.items():
        if name not in ("mono8", "bgr8"):
            message = f"{name} pixels: detectors take 8-bit grey or colour without alpha"
            yield Finding("pixel_format", message, "convert them", _names(dataset, (item.record for item in items)))


def _groups(seen: Sequence[_Seen], key: Callable[[_Seen], str]) -> dict[str, list[_Seen]]:
    groups: dict[str, list[_Seen]] = defaultdict(list)
    for item in seen:
        groups[key(item)].append(item)
    return groups


def _alike(dataset: Dataset, seen: Sequence[_Seen]) -> Iterable[Finding]:
    """The same picture twice: equal pixels, or one part taken twice; across splits or labels it spoils the figures."""
    exact = [[seen[i] for i in group] for group in _equal([item.digest for item in seen])]
    yield from (_alike_finding(dataset, group, "duplicate", "the same pixels") for group in exact)
    first = list({item.digest: item for item in reversed(seen)}.values())[::-1]  # one of each
    for near in near_groups(np.array([item.thumbnail for item in first], np.float32)):
        group = [first[i] for i in near]
        yield _alike_finding(dataset, group, "near_identical", "nearly the same picture: one part taken more than once")


def _equal(digests: Sequence[bytes]) -> list[list[int]]:
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, digest in enumerate(digests):
        groups[digest].append(i)
    return [group for group in groups.values() if len(group) > 1]


def _alike_finding(dataset: Dataset, group: Sequence[_Seen], kind: str, message: str) -> Finding:
    places = [f"{item.record.split}/{item.record.label}" for item in group]
    names = _names(dataset, (item.record for item in group))
    if len({item.record.split for item in group}) > 1:
        where = " and ".join(sorted(set(places)))
        return Finding("leak", f"{message}, in {where}: the figures would flatter", "keep it in one split only", names)
    if len(set(places)) > 1:
        return Finding("label_conflict", f"{message}, as {' and as '.join(sorted(set(places)))}", "decide which", names)
    return Finding(kind, message, "keep one; repeats weigh double and make a threshold look surer than it is", names)


def _outliers(dataset: Dataset, seen: Sequence[_Seen]) -> Iterable[Finding]:
    """Good images far from the median of the good images: they teach that blurred or badly lit pictures are good."""
    good = [item for item in seen if item.record.label == GOOD]
    if not good:
        return
    sharp = float(np.median([item.sharpness for item in good]))
    bright = float(np.median([item.brightness for item in good]))
    tests: tuple[tuple[str, str, Callable[[_Seen], bool]], ...] = (
        ("blurred", f"sharpness under {BLURRED:.0%} of the median", lambda item: item.sharpness < BLURRED * sharp),
        ("dark", f"brightness under {DARK:.0%} of the median", lambda item: item.brightness < DARK * bright),
        ("bright", f"brightness over {BRIGHT:.0%} of the median", lambda item: item.brightness > BRIGHT * bright),
    )
    for kind, message, holds in tests:
        found = [item.record for item in good if holds(item)]
        if found:
            yield Finding(
                kind, message, "look at them; keep them only if the line delivers such pictures", _names(dataset, found)
            )


def _counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {split: dict(Counter(r.label for r in dataset.select(split=split))) for split in SPLITS}


def _notes(dataset: Dataset) -> tuple[str, ...]:
    notes = []
    count = len(dataset.select(split="validation"))
    held = f"{count} validation images" if count else "no validation split (a tenth of train will be set aside)"
    if count < CONFORMAL_IMAGES:
        promise = f", which carry {1 / (count + 1):.1%} at best" if count else ""
        notes.append(
            f"{held}{promise}; a conformal limit of {CONFORMAL_RATE:.0%} false rejects needs {CONFORMAL_IMAGES}"
        )
    skipped = _skipped(dataset)
    if skipped:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
        notes.append(
            f"files of other formats beside the images are not used: {kinds}; convert them to PNG if they belong here"
        )
    return tuple(notes)


def _skipped(dataset: Dataset) -> Counter[str]:
    folders = {record.path.parent for record in dataset.records}
    suffixes = (path.suffix.lower() for folder in sorted(folders) for path in folder.iterdir())
    return Counter(suffix for suffix in suffixes if suffix in _OTHER_IMAGES - IMAGE_SUFFIXES)


def _names(dataset: Dataset, records: Iterable[Record]) -> tuple[str, ...]:
    return tuple(_below(record.path, dataset.root) for record in records)


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
