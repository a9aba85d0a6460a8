"""A frame on its way to a GPU: read where it lies if the GPU can do that, else copied to pinned memory first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lad_edge.runtime.device import Cuda, Stream


class Upload:
    """Takes frames of one shape, uint8. roi: (x, y, width, height) in px; only these are copied, and only their rows go up.

    on_gpu: the whole frame there. address: where the frame that was taken last goes up from.
    """

    def __init__(self, cuda: Cuda, frame_shape: Sequence[int], roi: tuple[int, int, int, int] | None) -> None:
        x, y, width, height = roi or (0, 0, frame_shape[1], frame_shape[0])
        self._rows, self._columns = slice(y, y + height), slice(x, x + width)
        self._reads_in_place, self._pinned = cuda.reads_in_place, cuda.pinned(tuple(frame_shape), np.uint8)
        self.on_gpu = cuda.array(tuple(frame_shape), np.uint8)
        self._rows_on_gpu = self.on_gpu[self._rows]
        self.release()

    @property
    def address(self) -> int:
        """See the class."""
        return self._source.ctypes.data

    def take(self, image: NDArray[Any]) -> None:
        """The frame to go up next, which stays as it is until `release`. Raises EngineError for another shape or type."""
        if image.shape != self._pinned.shape or image.dtype != np.uint8:
            raise EngineError(f"expected a frame of uint8 {self._pinned.shape}, came {image.dtype} {image.shape}")
        if self._reads_in_place(image):
            self._source = image[self._rows]
        else:
            np.copyto(self._pinned[self._rows, self._columns], image[self._rows, self._columns])
            self._source = self._pinned[self._rows]

    def enqueue(self, stream: Stream) -> None:
        """Let it go up."""
        stream.upload(self._source, self._rows_on_gpu)

    def release(self) -> None:
        """Hold the frame no longer: the slot of a camera must not wait for the next one."""
        self._source = self._pinned[self._rows]
