"""The border between the caller's buffers and an engine: each set is checked once, then found by identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np

from lad_edge.bundle.onnx_guard import OnnxRefusedError, inspect_onnx
from lad_edge.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from typing_extensions import Self

    from lad_edge.bundle import Graph
    from lad_edge.runtime.arrays import DeviceArray

B = TypeVar("B")
G = TypeVar("G")

MAX_SETS = (
    16  # sets of buffers kept for each graph: more than any pipeline has, and a bound for a caller that makes new ones
)


def checked_onnx(role: str, graph: Graph, data: bytes | memoryview) -> bytes:
    """Return the bytes of a graph if they are the ONNX that `graph` describes; raise EngineError otherwise."""
    if graph.format != "onnx":
        raise EngineError(f"graph '{role}': this engine reads onnx, came {graph.format}; export it again")
    try:
        difference = inspect_onnx(data).difference(graph.inputs, graph.outputs)
    except OnnxRefusedError as exc:
        raise EngineError(f"graph '{role}' is not usable: {exc}; export it again") from exc
    if difference:
        raise EngineError(f"graph '{role}': {difference}; export it again")
    return bytes(data)


def check_device_arrays(role: str, graph: Graph, arrays: Mapping[str, DeviceArray]) -> None:
    """Raise EngineError unless there is an array of float32 on the GPU for each input and output, with its shape."""
    expected = {name: (tuple(shape), np.dtype(np.float32)) for name, shape in {**graph.inputs, **graph.outputs}.items()}
    if {name: (array.shape, array.dtype) for name, array in arrays.items()} != expected:
        shown = ", ".join(f"{name} {shape}" for name, (shape, _) in expected.items())
        raise EngineError(f"graph '{role}': expected float32 arrays on the GPU: {shown}; came others")


class Runnable(Protocol):
    """One compiled graph."""

    def run(self, buffers: dict[str, NDArray[np.float32]]) -> None:
        """Run it on a set of buffers."""
        ...


def opened_as(role: str, graphs: Mapping[str, G]) -> G:
    """Return the open graph of a role; raise EngineError if there is none."""
    found = graphs.get(role)
    if found is None:
        raise EngineError(f"no graph '{role}'; open are: {', '.join(graphs) or 'none (closed)'}")
    return found


class OpenGraphs:
    """Compiled graphs by role: the part of a runtime that is the same for every engine."""

    def __init__(self, graphs: Mapping[str, Runnable]) -> None:
        self._graphs = graphs

    def run(self, graph: str, **buffers: NDArray[np.float32]) -> None:
        """See `lad_edge.runtime.Runtime.run`."""
        opened_as(graph, self._graphs).run(buffers)

    def close(self) -> None:
        """Release the engine's graphs."""
        self._graphs = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class BufferSets(Generic[B]):
    """Finds what was bound for a set of buffers, and binds a new set after checking it.

    The buffers are kept alive while they are bound, so an identity cannot be taken over by another array.
    """

    def __init__(self, role: str, graph: Graph, bind: Callable[[Mapping[str, NDArray[np.float32]]], B]) -> None:
        self.role, self.graph, self.bind = role, graph, bind
        self.shapes = {**graph.inputs, **graph.outputs}
        self.sets: dict[tuple[object, ...], tuple[B, dict[str, NDArray[np.float32]]]] = {}

    def __call__(self, buffers: dict[str, NDArray[np.float32]]) -> B:
        """Return what `bind` made of these buffers."""
        key = (*buffers, *map(id, buffers.values()))
        known = self.sets.get(key)
        if known is not None:
            return known[0]
        self._check(buffers)
        bound = self.bind(buffers)
        if len(self.sets) >= MAX_SETS:
            del self.sets[next(iter(self.sets))]
        self.sets[key] = (bound, buffers)
        return bound

    def _check(self, buffers: Mapping[str, NDArray[np.float32]]) -> None:
        if buffers.keys() != self.shapes.keys():
            expected, came = ", ".join(self.shapes), ", ".join(buffers) or "none"
            raise EngineError(f"graph '{self.role}': expected the buffers {expected}; came {came}")
        for name, shape in self.shapes.items():
            self._check_buffer(name, shape, buffers[name])
        self._check_overlap(buffers)

    def _check_buffer(self, name: str, shape: tuple[int, ...], buffer: object) -> None:
        if not isinstance(buffer, np.ndarray) or buffer.dtype != np.float32 or buffer.shape != tuple(shape):
            raise EngineError(f"graph '{self.role}': '{name}' expects float32 {tuple(shape)}, came {_shown(buffer)}")
        flags = buffer.flags
        if not (flags.c_contiguous and flags.aligned and flags.writeable):  # OpenVINO takes no read-only input either
            raise EngineError(
                f"graph '{self.role}': '{name}' expects a C-contiguous, aligned, writeable array; "
                f"make it with numpy.empty and fill it"
            )

    def _check_overlap(self, buffers: Mapping[str, NDArray[np.float32]]) -> None:
        for output in self.graph.outputs:
            for name, buffer in buffers.items():
                if name != output and np.may_share_memory(buffers[output], buffer):
                    raise EngineError(f"graph '{self.role}': '{output}' shares memory with '{name}'; give each its own")


def _shown(buffer: object) -> str:
    return f"{buffer.dtype} {buffer.shape}" if isinstance(buffer, np.ndarray) else type(buffer).__name__
