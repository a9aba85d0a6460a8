"""A size, a rate and a pixel format go in; moving test pictures come out, each with its number in its pixels."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.errors import UsageError
from lad_edge.sources.source import Waiting, frame_now
from lad_edge.sources.uri import SourceUri, pair_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lad_edge.values import Frame

NUMBER_BITS = 32
_CHANNELS = {"bgr8": 3, "rgb8": 3, "mono8": 1}
_DEFAULT_SIZE, _DEFAULT_FPS = "640x480", 25.0
_SHIFT_PX = 4  # the scene moves to the left by that much a frame


class Pattern(Waiting):
    """`pattern://1280x1024?fps=30&format=mono8&frames=100&seed=0`: the same pictures in every run.

    With `frames` it ends, as a video does; without, it is live. `fps=0`: as fast as it is read.
    """

    def __init__(self, uri: SourceUri) -> None:
        super().__init__()
        self.name = "pattern"
        self.size = pair_of(uri.address or _DEFAULT_SIZE, "the size of pattern://")
        self.pixel_format = uri.choice("format", "bgr8", "rgb8", "mono8")
        self._frames = int(uri.number("frames", 0))
        self.live = self.free_running = not self._frames
        fps = uri.number("fps", _DEFAULT_FPS if self.live else 0)
        self._period_s = 1 / fps if fps else 0.0
        self._seed = int(uri.number("seed", 0))
        self._number = 0
        if min(self.size[0] // NUMBER_BITS, self.size[1] // NUMBER_BITS) < 1:
            raise UsageError(f"pattern:// needs at least {NUMBER_BITS}x{NUMBER_BITS} px; came {uri.address}")

    def open(self) -> None:
        """Makes the scene: (height, twice the width) or with 3 channels, uint8."""
        self._scene = _scene(self.size, _CHANNELS[self.pixel_format], self._seed)
        self._due_s = time.monotonic()

    def read(self) -> Frame | None:
        """The next picture when it is due; None after the last, and when interrupted."""
        if self._number and self._number == self._frames:
            return None
        if self._interrupted.wait(self._until_due()):
            return None
        self._number += 1
        image = picture(self._scene, self._number)
        return frame_now(f"{self.name}#{self._number}", image, self.pixel_format, self.name)

    def _until_due(self) -> float:
        """Seconds; a reader that was late does not get what it missed in a burst."""
        now_s = time.monotonic()
        wait_s = max(0.0, self._due_s - now_s)
        self._due_s = max(self._due_s, now_s) + self._period_s
        return wait_s


def picture(scene: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The window of the scene that belongs to the number, (H, W) or (H, W, 3), with the number as bright and dark squares on top."""
    width = scene.shape[1] // 2
    at = number * _SHIFT_PX % width
    image: NDArray[np.uint8] = scene[:, at : at + width].copy()
    side = width // NUMBER_BITS
    for bit in range(NUMBER_BITS):
        image[:side, bit * side : (bit + 1) * side] = 255 * (number >> bit & 1)
    return image


def read_number(image: NDArray[Any]) -> int:
    """The number in a picture of `pattern://`, also after it was compressed."""
    side = image.shape[1] // NUMBER_BITS
    squares = np.asarray(image[:side, : side * NUMBER_BITS], np.float64).reshape(side, NUMBER_BITS, side, -1)
    return int(sum(1 << bit for bit, bright in enumerate(squares.mean(axis=(0, 2, 3)) > 127) if bright))


def _scene(size: tuple[int, int], channels: int, seed: int) -> NDArray[np.uint8]:
    """Smooth waves with a little noise, twice side by side, so that every window of the width is a picture."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 32, (height, width, channels))
    across, down = np.meshgrid(np.arange(width) * (2 * np.pi / width), np.arange(height) * (2 * np.pi / height))
    waves = [110 + 50 * np.sin((channel + 2) * across) * np.cos((3 - channel) * down) for channel in range(channels)]
    one = (np.stack(waves, axis=2) + noise).astype(np.uint8)
    return np.ascontiguousarray(np.concatenate([one, one], axis=1).squeeze())
