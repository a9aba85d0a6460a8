"""CUDA graphs."""

from __future__ import annotations

import ctypes

from lad_edge.runtime.libcuda import call

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on using CUDA while a frame is captured


class CapturedWork:
    """What a stream was given between `begin` and `end`, and the streams that joined it; see `Stream.capture`.

    All methods raise EngineError with the number of CUDA's error.
    """

    def __init__(self, stream: int) -> None:
        self._stream, self._graph, self._executable = ctypes.c_void_p(stream), ctypes.c_void_p(), ctypes.c_void_p()

    def begin(self) -> None:
        """From here on the stream records instead of doing."""
        call("cuStreamBeginCapture_v2", self._stream, _THREAD_LOCAL)

    def end(self) -> None:
        """End the capture and make it ready to run."""
        call("cuStreamEndCapture", self._stream, ctypes.byref(self._graph))
        call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), self._graph, ctypes.c_ulonglong(0))

    def launch(self) -> None:
        """Enqueue all of it on the stream that it was captured from."""
        call("cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Free it; it must not be running."""
        for name, handle in (("cuGraphExecDestroy", self._executable), ("cuGraphDestroy", self._graph)):
            if handle.value is not None:
                call(name, handle)
                handle.value = None
