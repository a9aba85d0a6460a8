"""A frame and its result go in; a picture for a person, with heat, regions and verdict, comes out as a JPEG."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from lad_edge.errors import SinkError
from lad_edge.stream.records import safe_id
from lad_edge.values import Frame, GoodPatch, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

Image = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # x, y, width, height in px of the frame

_BGR = {Verdict.OK: (80, 175, 76), Verdict.NG: (54, 67, 244), Verdict.UNKNOWN: (7, 193, 255)}
_BANNER_PX, _LEGEND_PX, _WIDEST_PX = 44, 22, 1280
_PATCH_PX, _NARROWEST_PX, _GAP_PX, _DARK = 112, 64, 4, (32, 32, 32)
_WAITING = 8
_END = None


class OverlaySink:
    """Draws and saves on a thread of its own, so that the line never waits for an encoder.

    `when_full`: "wait" (recorded sources: every picture is saved) or "skip" (live ones: pictures that would hold up the
    line are skipped and counted in `skipped`). `roi`: the part of the frame that the map covers, None = all of it.
    `span`: see `heat_level`.
    """

    def __init__(
        self, folder: Path, verdicts: Collection[Verdict], roi: Box | None, when_full: str, span: float | None = None
    ) -> None:
        self.folder, self.verdicts, self.roi, self.when_full = folder, frozenset(verdicts), roi, when_full
        self.span = span
        self.saved = self.skipped = 0
        self._error: SinkError | None = None
        self._jobs: queue.Queue[tuple[Frame, Result] | None] = queue.Queue(_WAITING)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise SinkError(f"cannot make the folder {folder}: {exc.strerror}; choose another one: --overlays") from exc
        self._worker = threading.Thread(target=self._work, name="overlays", daemon=True)
        self._worker.start()

    def write(self, frame: Frame, result: Result) -> None:
        """Hands the picture to the drawing thread. Raises SinkError when an earlier one could not be saved."""
        if self._error is not None:
            raise self._error
        if frame.image is None or result.verdict not in self.verdicts:
            return
        try:
            self._jobs.put((frame, result), block=self.when_full == "wait")
        except queue.Full:
            self.skipped += 1

    def close(self) -> None:
        """Waits until every picture is saved."""
        self._jobs.put(_END)
        self._worker.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not _END:
            if self._error is None:
                self._save(*job)

    def _save(self, frame: Frame, result: Result) -> None:
        path = self.folder / file_name(result)
        try:
            picture = cv2.imencode(".jpg", draw(frame, result, self.roi, self.span), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
            path.write_bytes(picture.tobytes())
            self.saved += 1
        except OSError as exc:
            path.unlink(missing_ok=True)  # half a picture is worse than none
            self._error = SinkError(f"{path}: {exc.strerror} after {self.saved} pictures, which are kept; free space")
        except (cv2.error, ValueError) as exc:
            self._error = SinkError(
                f"{path}: the overlay cannot be drawn: {exc}; run without --overlays and report this"
            )


def file_name(result: Result) -> str:
    """`000012_NG_part-7.png.jpg`; an id that is no safe file name is replaced by its hash."""
    shown = safe_id(result.frame_id.replace("#", "-"))
    return f"{result.seq:06d}_{result.verdict.value}_{shown}.jpg"


def draw(frame: Frame, result: Result, roi: Box | None = None, span: float | None = None) -> Image:
    """(H', W, 3) uint8 BGR: banner, the frame with heat and regions, the colour scale with the threshold marked, good parts beside it."""
    picture = marked(frame, result, roi, span)
    _number(picture, result.good_patches)
    picture = _at_most(picture, _WIDEST_PX)
    width = picture.shape[1]
    return np.vstack([_banner(width, result), picture, _legend(width, result), *_beside(width, frame, result)])


def marked(frame: Frame, result: Result, roi: Box | None = None, span: float | None = None) -> Image:
    """(H, W, 3) uint8 BGR: the frame with heat and regions."""
    picture = as_bgr(frame)
    if result.anomaly_map is not None and result.threshold is not None:
        x, y, width, height = roi or (0, 0, picture.shape[1], picture.shape[0])
        right, down = result.moved_px or (0, 0)
        x, y = x + right, y + down
        _lay_heat(picture[y : y + height, x : x + width], result.anomaly_map, result.threshold, span)
    _draw_regions(picture, result)
    return picture


def heat_level(anomaly_map: NDArray[np.float32], threshold: float, span: float | None = None) -> NDArray[np.uint8]:
    """Map → 0..255 on a scale that never depends on the picture: 128 = threshold, 0 and 255 lie `span` from it.

    So a good part stays pale however its map varies (requirements R48). span: by default |threshold|; the engine's
    calibration knows a better one (`heat_span`). Values that are not finite become 255.
    """
    reach = max(abs(threshold) if span is None else span, 1e-6)
    level = 127.5 * (1.0 + (anomaly_map - np.float32(threshold)) / reach)
    level = np.where(np.isfinite(level), level, 255.0)
    clipped: NDArray[np.uint8] = np.clip(np.rint(level), 0, 255).astype(np.uint8)
    return clipped


def heat_span(good_scores: NDArray[np.float64], threshold: float) -> float:
    """How far from the threshold the colours should reach: three times as far as the median good part lies below it.

    A sigmoid squeezes the scores of DFSC into a narrow band beside 0.5: a scale from 0 would show nothing.
    """
    return 3 * abs(threshold - float(np.median(good_scores)))


def _palette() -> tuple[Image, NDArray[np.float32]]:
    """Colour (256, 3) BGR and opacity (256,) of a heat level: pale blue below the threshold, yellow to red above."""
    level = np.arange(256)
    colour = np.empty((256, 3), np.uint8)
    for channel, stops in enumerate(((255, 200, 40, 30, 30), (150, 200, 220, 110, 20), (40, 120, 255, 250, 220))):
        colour[:, channel] = np.interp(level, (0, 112, 128, 190, 255), stops)
    opacity = np.interp(level, (0, 48, 127, 128, 255), (0.0, 0.0, 0.22, 0.50, 0.70)).astype(np.float32)
    return colour, opacity


_COLOUR, _OPACITY = _palette()


def heat_bgra(anomaly_map: NDArray[np.float32], threshold: float, span: float | None = None) -> Image:
    """(h, w, 4) uint8 BGRA: the heat alone, to lay over a picture elsewhere; see `heat_level`."""
    level = heat_level(anomaly_map, threshold, span)
    return np.dstack([_COLOUR[level], np.rint(255 * _OPACITY[level]).astype(np.uint8)])


def as_bgr(frame: Frame) -> Image:
    """The picture of a frame of any format as (H, W, 3) uint8."""
    image = np.asarray(frame.image)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2).astype(np.uint8)
    return np.ascontiguousarray(image[:, :, 2::-1] if frame.pixel_format == "rgb8" else image[:, :, :3]).astype(
        np.uint8
    )


def _lay_heat(area: Image, anomaly_map: NDArray[np.float32], threshold: float, span: float | None) -> None:
    level = heat_level(anomaly_map, threshold, span)
    level = cv2.resize(level, (area.shape[1], area.shape[0]), interpolation=cv2.INTER_LINEAR)
    opacity = _OPACITY[level][..., None]
    area[:] = np.rint(area * (1.0 - opacity) + _COLOUR[level] * opacity).astype(np.uint8)


def _draw_regions(picture: Image, result: Result) -> None:
    thickness = max(1, round(picture.shape[1] / 400))
    for region in result.regions:
        corner = (region.x_px + region.width_px - 1, region.y_px + region.height_px - 1)
        cv2.rectangle(picture, (region.x_px, region.y_px), corner, _BGR[Verdict.NG], thickness)
        peak = (region.peak_x_px, region.peak_y_px)
        cv2.drawMarker(picture, peak, (255, 255, 255), cv2.MARKER_CROSS, 8 * thickness, thickness)


def _number(picture: Image, patches: Sequence[GoodPatch]) -> None:
    """The places that `_beside` shows again."""
    scale = max(0.45, picture.shape[1] / 1600)
    for number, patch in enumerate(patches, 1):
        corner = patch.x_px + patch.width_px - 1, patch.y_px + patch.height_px - 1
        cv2.rectangle(picture, (patch.x_px, patch.y_px), corner, (255, 255, 255), max(1, round(scale)))
        _text(picture, str(number), (patch.x_px + 2, patch.y_px + round(30 * scale)), scale)


def _beside(width: int, frame: Frame, result: Result) -> list[Image]:
    """Strips of `width`: each place that was found, as it came and as a good part shows it; none if that were too narrow to be seen."""
    if not result.good_patches or width < _NARROWEST_PX:
        return []
    picture, side = as_bgr(frame), min(_PATCH_PX, (width - 3 * _GAP_PX) // 2)
    pairs = [_pair(picture, number, patch, side) for number, patch in enumerate(result.good_patches, 1)]
    per_row = max(1, width // pairs[0].shape[1])
    shown_px = max(_fitted(patch.width_px, patch.height_px, side)[1] for patch in result.good_patches)
    rows = [
        np.hstack(pairs[start : start + per_row])[: _LEGEND_PX + shown_px + _GAP_PX]
        for start in range(0, len(pairs), per_row)
    ]
    return [cv2.copyMakeBorder(row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=_DARK) for row in rows]


def _pair(picture: Image, number: int, patch: GoodPatch, side: int) -> Image:
    """Under a line of text the place of the part, then of the good part, each with its longer edge scaled to `side` px."""
    own = picture[patch.y_px : patch.y_px + patch.height_px, patch.x_px : patch.x_px + patch.width_px]
    good = patch.picture if patch.picture.ndim == 3 else cv2.cvtColor(patch.picture, cv2.COLOR_GRAY2BGR)
    pair = np.full((_LEGEND_PX + side + _GAP_PX, 2 * side + 3 * _GAP_PX, 3), _DARK, np.uint8)
    for shown, left in ((own, _GAP_PX), (good, 2 * _GAP_PX + side)):
        width, height = _fitted(shown.shape[1], shown.shape[0], side)
        pair[_LEGEND_PX : _LEGEND_PX + height, left : left + width] = cv2.resize(shown, (width, height))
    _text(pair, f"{number}: this part", (_GAP_PX, 15), 0.4)
    _text(pair, f"good: {patch.part}", (2 * _GAP_PX + side, 15), 0.4)
    return pair


def _fitted(width: int, height: int, side: int) -> tuple[int, int]:
    scale = side / max(width, height)
    return max(1, round(scale * width)), max(1, round(scale * height))


def _at_most(picture: Image, width: int) -> Image:
    if picture.shape[1] <= width:
        return picture
    height = round(picture.shape[0] * width / picture.shape[1])
    smaller: Image = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return smaller


def _banner(width: int, result: Result) -> Image:
    strip = np.full((_BANNER_PX, width, 3), _BGR[result.verdict], np.uint8)
    score = "not scored" if result.score is None else f"score {result.score:.4f}"
    limit = "" if result.threshold is None else f"   limit {result.threshold:.4f}"
    _text(strip, f"{result.verdict.value}   {score}{limit}", (8, 18), 0.55)
    _text(strip, ", ".join(reason.value for reason in result.reasons), (8, 37), 0.45)
    return strip


def _legend(width: int, result: Result) -> Image:
    strip = np.full((_LEGEND_PX, width, 3), _DARK, np.uint8)
    if result.anomaly_map is None or result.threshold is None:
        return strip
    scale_px = min(width // 2, 256)
    levels = np.linspace(0, 255, scale_px).astype(np.uint8)
    strip[4:-4, 8 : 8 + scale_px] = _COLOUR[levels] * _OPACITY[levels][:, None] / _OPACITY[-1]
    cv2.line(strip, (8 + scale_px // 2, 1), (8 + scale_px // 2, _LEGEND_PX - 2), (255, 255, 255), 1)
    _text(strip, f"| limit {result.threshold:.4f}", (16 + scale_px, 15), 0.4)
    return strip


def _text(strip: Image, text: str, origin: tuple[int, int], scale: float) -> None:
    cv2.putText(strip, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
