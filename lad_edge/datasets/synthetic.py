"""A procedural data set of a logical inspection task: a seed goes in, a folder in the MVTec LOCO layout comes out.

A kit lies in a tray: three nuts, four washers, one O-ring, a cap and two screws. Anything may lie anywhere in its
compartment, so that no place on its own says whether a count is right; and the colour of the cap says which screws
belong to it (red: two short, blue: two long, yellow: one of each), so that each patch of a wrong combination is a
good patch.

Every picture depends on the seed, its split and its number only, never on how many there are. All pixels pass one
JPEG encoding, as from a camera with an MJPEG stream: stills and video frames of the same part are the same bytes (see
synthetic_video).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lad_edge.datasets.synthetic_defects import DEFECT_TYPES, LOGICAL, STRUCTURAL, DefectType, nth_defect
from lad_edge.datasets.synthetic_field import WORLD_WIDTH
from lad_edge.datasets.synthetic_render import compartment_stencil, render
from lad_edge.datasets.synthetic_scene import Scene, draw_scene
from lad_edge.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

CATEGORY = "kit_tray"
GENERATOR_VERSION = 1
JPEG_QUALITY = 80
SPLITS = ("train/good", "validation/good", "test/good", f"test/{LOGICAL}", f"test/{STRUCTURAL}", "video")
# A structural defect must be seen: this many pixels of a 640 x 480 frame change by this many grey levels.
_VISIBLE_PX, _VISIBLE_LEVELS = 60, 14
_SHADOW_UNITS = 14  # no shadow on the tray is longer


@dataclass(frozen=True)
class Sample:
    """One picture and its truth.

    jpeg: the camera's bytes; image: (H, W, 3) uint8 BGR decoded from them; scene: what was drawn;
    masks: one (H, W) bool array for each defect channel; defect: None for a good part.
    """

    jpeg: bytes
    image: NDArray[np.uint8]
    scene: Scene
    defect: DefectType | None
    masks: tuple[NDArray[np.bool_], ...]

    @property
    def label(self) -> str:
        """good, logical_anomalies or structural_anomalies."""
        return self.defect.label if self.defect else "good"


def make_sample(
    seed: int,
    split: str,
    index: int,
    defect: DefectType | None = None,
    *,
    width_px: int = WORLD_WIDTH,
    freedom: float = 1.0,
) -> Sample:
    """The index-th picture of a split. Without `defect`: the same kit, light and noise, but good.

    width_px: width of the frame, a multiple of 4; the height is 3/4 of it. freedom: 0..1, how far parts lie from fixed
    slots; 1: anywhere in their compartment. Raises UsageError for other values.
    """
    if width_px % 4 or not 160 <= width_px <= 2560:
        raise UsageError(f"expected a width of 160 to 2560 px in steps of 4, got {width_px}; 640 is the default")
    if not 0 <= freedom <= 1:
        raise UsageError(f"expected a freedom of 0 to 1, got {freedom}")
    good, rng = _good_scene(seed, split, index, freedom)
    if defect is None:
        picture, _ = render(good, width_px)
        return _sample(picture, good, None, ())
    if defect.label == STRUCTURAL:
        return _structural_sample(good, defect, rng, width_px)
    scene = defect.spoil(good, rng)
    masks = tuple(compartment_stencil(names, scene.look, width_px) for names in defect.channels)
    return _sample(render(scene, width_px)[0], scene, defect, masks)


def _good_scene(seed: int, split: str, index: int, freedom: float) -> tuple[Scene, np.random.Generator]:
    """The good kit of this number, and the generator that decides what goes wrong with it."""
    root = np.random.SeedSequence([seed, SPLITS.index(split), index])
    layout, look, fate = (np.random.default_rng(child) for child in root.spawn(3))
    return draw_scene(layout, look, freedom), fate


def _structural_sample(good: Scene, defect: DefectType, rng: np.random.Generator, width_px: int) -> Sample:
    """Draws defects until one can be seen: a pale stain on a pale cap is no ground truth."""
    intact, _ = render(good, width_px)
    enough = _VISIBLE_PX * (width_px / WORLD_WIDTH) ** 2
    for _ in range(20):
        scene = defect.spoil(good, rng)
        picture, masks = render(scene, width_px)
        changed = cv2.absdiff(picture, intact).max(axis=2) >= _VISIBLE_LEVELS
        if all(np.count_nonzero(changed & mask) >= enough for mask in masks):
            break
    return _sample(picture, scene, defect, tuple(_with_shadow(mask, changed, width_px) for mask in masks))


def _with_shadow(mask: NDArray[np.bool_], changed: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """The defect and what it changes beside it: a wall that is pressed in casts another shadow."""
    near = 2 * round(_SHADOW_UNITS * width_px / WORLD_WIDTH) + 1
    reach = cv2.dilate(mask.astype(np.uint8), np.ones((near, near), np.uint8)) > 0
    return np.asarray(mask | (changed & reach))


def _sample(
    picture: NDArray[np.uint8], scene: Scene, defect: DefectType | None, masks: tuple[NDArray[np.bool_], ...]
) -> Sample:
    # Full colour resolution: decoders enlarge halved colour planes each in its own way, up to 54 grey levels apart.
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, encoded = cv2.imencode(".jpg", picture, options)
    image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return Sample(encoded.tobytes(), image, scene, defect, masks)


def generate(
    root: str | Path,
    *,
    seed: int,
    train: int = 200,
    validation: int = 60,
    test_good: int = 60,
    logical: int = 100,
    structural: int = 60,
    category: str = CATEGORY,
    width_px: int = WORLD_WIDTH,
    freedom: float = 1.0,
    image_format: str = "png",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes `<root>/<category>` in the MVTec LOCO layout and returns that folder.

    image_format: "png" (the decoded pixels) or "jpg" (the camera's own bytes, a tenth of the size); both decode to
    the same picture. progress: called with (written, total) after each image. Raises DataError if the folder exists
    and is not empty.
    """
    if image_format not in ("png", "jpg"):
        raise UsageError(f"expected image format png or jpg, got '{image_format}'")
    counts = dict(zip(SPLITS, (train, validation, test_good, logical, structural), strict=False))
    if min(counts.values()) < 0 or seed < 0:
        raise UsageError(f"expected a seed and counts of 0 or more, got seed {seed} and {counts}")
    folder = _new_folder(Path(root) / category)
    _write_json(folder / "defects_config.json", defects_config(width_px))
    total = sum(counts.values())
    for done, (split, index) in enumerate(_jobs(counts), 1):
        label = split.rpartition("/")[2]
        defect = None if label == "good" else nth_defect(label, index)
        sample = make_sample(seed, split, index, defect, width_px=width_px, freedom=freedom)
        _write_sample(folder, split, index, sample, image_format)
        if progress:
            progress(done, total)
    about = {"generator": "lad_edge.datasets.synthetic", "version": GENERATOR_VERSION, "seed": seed}
    about |= {"width_px": width_px, "freedom": freedom, "jpeg_quality": JPEG_QUALITY, "counts": counts}
    _write_json(folder / "synthetic.json", about)  # last: whoever finds it finds the whole set
    return folder


def defects_config(width_px: int = WORLD_WIDTH) -> list[dict[str, object]]:
    """The content of defects_config.json: areas in pixels of a frame of this width."""
    scale = (width_px / WORLD_WIDTH) ** 2
    return [
        {
            "defect_name": defect.name,
            "pixel_value": defect.pixel_value,
            "saturation_threshold": 1.0 if defect.saturation_units is None else round(defect.saturation_units * scale),
            "relative_saturation": defect.saturation_units is None,
        }
        for defect in DEFECT_TYPES
    ]


def _new_folder(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"expected an empty or new folder, {folder} has content; remove it or choose another folder")
    try:
        for split in SPLITS[:-1]:
            (folder / split).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DataError(f"cannot make {folder}: {exc.strerror}; choose a folder that you may write to") from exc
    return folder


def _jobs(counts: dict[str, int]) -> Iterator[tuple[str, int]]:
    return ((split, index) for split, count in counts.items() for index in range(count))


def _write_sample(folder: Path, split: str, index: int, sample: Sample, image_format: str) -> None:
    content = sample.jpeg if image_format == "jpg" else _png(sample.image)
    _write(folder / split / f"{index:03d}.{image_format}", content)
    if sample.defect is None:
        return
    channels = folder / "ground_truth" / sample.label / f"{index:03d}"
    channels.mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(sample.masks):
        _write(channels / f"{number:03d}.png", _png(mask.astype(np.uint8) * np.uint8(sample.defect.pixel_value)))


def _png(image: NDArray[np.uint8]) -> bytes:
    encoded: NDArray[np.uint8] = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 4])[1]
    return encoded.tobytes()


def _write_json(path: Path, content: object) -> None:
    _write(path, (json.dumps(content, indent=2) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as exc:
        raise DataError(f"cannot write {path}: {exc.strerror}; free some space or choose another folder") from exc
