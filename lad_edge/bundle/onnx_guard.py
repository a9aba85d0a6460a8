"""A small walk over ONNX bytes before any engine sees them: sizes, counts and features that we do not accept; and other sides of it.

The protobuf wire format is read field by field, without recursion and without allocating what the file claims to hold
(`onnx.checker` is no defence: external data and deep function chains pass it; reliability.md §6.2).
Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Shapes = Mapping[str, tuple[int, ...]]

MAX_NODES = 5_000
MAX_FIELDS = 500_000
MAX_ELEMENTS = 1 << 31

_FLOAT = 1
_ITEM_BYTES = {
    1: 4,
    2: 1,
    3: 1,
    4: 2,
    5: 2,
    6: 4,
    7: 8,
    9: 1,
    10: 2,
    11: 8,
    12: 4,
    13: 8,
    16: 2,
}  # TensorProto.DataType
_STANDARD_DOMAINS = (b"", b"ai.onnx")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class OnnxRefusedError(ValueError):
    """The bytes are not an ONNX graph that we accept; the message says why."""


@dataclass
class OnnxSummary:
    """What the walk saw. inputs, outputs: name → fixed shape, all float32. metadata: what the file says of itself."""

    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    nodes: int = 0
    metadata: dict[str, str] = field(default_factory=dict)

    def difference(self, inputs: Shapes, outputs: Shapes) -> str | None:
        """Return in words how stated inputs and outputs differ from the real ones; None if they are equal."""
        for what, stated, real in (("inputs", inputs, self.inputs), ("outputs", outputs, self.outputs)):
            if {name: tuple(shape) for name, shape in stated.items()} != real:
                return f"the {what} should be {_shown(stated)}, the ONNX has {_shown(real)}"
        return None


def _shown(shapes: Shapes) -> str:
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())[:300]


def inspect_onnx(data: bytes | memoryview) -> OnnxSummary:
    """Return inputs, outputs and node count; raise OnnxRefusedError for anything malformed or unwanted.

    Refused: external data, functions, sub-graphs (If, Loop, Scan), custom domains, training information, sparse and
    text tensors, more than 5000 nodes, sizes that the bytes do not hold, inputs or outputs that are not float32 of
    fixed shape.
    """
    walk = _Walk()
    walk.model(memoryview(data).cast("B"))
    return walk.summary


def reshaped(data: bytes | memoryview, shapes: Shapes) -> bytes:
    """The same graph for inputs and outputs of these shapes, all of them by name; if its nodes work for them, the engine finds out.

    Each side must need as many bytes as the one that it replaces (1 to 127, 128 to 16383): then no length changes. Raises
    OnnxRefusedError if not, for other names or numbers of dimensions, and as `inspect_onnx`.
    """
    copy = bytearray(data)
    walk = _Sides()
    walk.model(memoryview(copy))
    if {name: len(shape) for name, shape in shapes.items()} != {name: len(sides) for name, sides in walk.sides.items()}:
        raise OnnxRefusedError(f"expected inputs and outputs {_shown(shapes)}, it has {', '.join(walk.sides)[:300]}")
    for name, shape in shapes.items():
        for place, side in zip(walk.sides[name], shape, strict=True):
            _overwrite(place, side)
    return bytes(copy)


class _Walk:
    def __init__(self) -> None:
        self.summary = OnnxSummary()
        self.fields_left = MAX_FIELDS

    def model(self, view: memoryview) -> None:
        graphs = []
        for number, value in self.fields(view):
            if number == 7:
                graphs.append(_message(value, "graph"))
            elif number == 8:
                self.opset(_message(value, "opset_import"))
            elif number == 14:
                self.metadata(_message(value, "metadata_props"))
            elif number in (20, 25):
                raise OnnxRefusedError("it has training information or local functions; export a plain inference graph")
        if len(graphs) != 1:
            raise OnnxRefusedError(f"expected an ONNX model with one graph, found {len(graphs)}")
        self.graph(graphs[0])

    def opset(self, view: memoryview) -> None:
        for number, value in self.fields(view):
            if number == 1:
                _check_domain(_message(value, "domain"))

    def metadata(self, view: memoryview) -> None:
        entry = {number: bytes(_message(value, "metadata")) for number, value in self.fields(view)}
        key, text = (entry.get(number, b"").decode("utf-8", "replace") for number in (1, 2))
        self.summary.metadata[key] = text

    def graph(self, view: memoryview) -> None:
        for number, value in self.fields(view):
            if number == 1:
                self.node(_message(value, "node"))
            elif number == 5:
                self.tensor(_message(value, "initializer"))
            elif number in (11, 12):
                name, shape = self.value_info(_message(value, "value_info"))
                (self.summary.inputs if number == 11 else self.summary.outputs)[name] = shape
            elif number == 15:
                raise OnnxRefusedError("it has sparse initializers; export dense weights")
        if not (self.summary.nodes and self.summary.inputs and self.summary.outputs):
            raise OnnxRefusedError("expected nodes, inputs and outputs; at least one of them is missing")

    def node(self, view: memoryview) -> None:
        self.summary.nodes += 1
        if self.summary.nodes > MAX_NODES:
            raise OnnxRefusedError(f"it has more than {MAX_NODES} nodes")
        for number, value in self.fields(view):
            if number == 7:
                _check_domain(_message(value, "domain"))
            elif number == 5:
                self.attribute(_message(value, "attribute"))

    def attribute(self, view: memoryview) -> None:
        for number, value in self.fields(view):
            if number in (5, 10):
                self.tensor(_message(value, "attribute tensor"))
            elif number in (6, 11):
                raise OnnxRefusedError("it has a sub-graph (If, Loop, Scan); export straight-line code")
            elif number in (22, 23):
                raise OnnxRefusedError("it has sparse tensors; export dense ones")

    def tensor(self, view: memoryview) -> None:
        dims: list[int] = []
        item_bytes, raw = 0, None
        for number, value in self.fields(view):
            if number == 1:
                dims += [value] if isinstance(value, int) else self.packed(value)
            elif number == 2:
                item_bytes = _ITEM_BYTES.get(value, 0) if isinstance(value, int) else 0
            elif number == 9:
                raw = len(_message(value, "raw_data"))
            elif number == 13 or (number == 14 and value != 0):
                raise OnnxRefusedError("it keeps weights in another file; export with external_data=False")
        _check_size(dims, item_bytes, raw, len(view))

    def value_info(self, view: memoryview) -> tuple[str, tuple[int, ...]]:
        name, shape = "", None
        for number, value in self.fields(view):
            if number == 1:
                name = bytes(_message(value, "name")).decode("utf-8", "replace")
            elif number == 2:
                shape = self.tensor_type(_message(value, "type"))
        if not name or shape is None:
            raise OnnxRefusedError(f"input or output '{name}': expected float32 of fixed shape")
        return name, shape

    def tensor_type(self, view: memoryview) -> tuple[int, ...] | None:
        shape: tuple[int, ...] | None = None
        element = 0
        for number, value in self.fields(view):
            for inner, item in self.fields(_message(value, "tensor_type")) if number == 1 else ():
                if inner == 1:
                    element = item if isinstance(item, int) else 0
                elif inner == 2:
                    shape = tuple(
                        self.dimension(_message(dim, "dim"))
                        for n, dim in self.fields(_message(item, "shape"))
                        if n == 1
                    )
        return (
            shape
            if element == _FLOAT and shape is not None and all(0 < side <= MAX_ELEMENTS for side in shape)
            else None
        )

    def dimension(self, view: memoryview) -> int:
        return next((value for number, value in self.fields(view) if number == 1 and isinstance(value, int)), 0)

    def packed(self, view: memoryview) -> list[int]:
        values, position = [], 0
        while position < len(view):
            value, position = _varint(view, position)
            values.append(value)
            self.count()
        return values

    def count(self) -> None:
        self.fields_left -= 1
        if self.fields_left < 0:
            raise OnnxRefusedError(f"it has more than {MAX_FIELDS} fields")

    def fields(self, view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Yield field number and value: an int for varints, a view for everything else."""
        position = 0
        while position < len(view):
            self.count()
            tag, position = _varint(view, position)
            number, wire = tag >> 3, tag & 7
            if wire == _VARINT:
                value, position = _varint(view, position)
                yield number, value
                continue
            size, position = _payload(view, position, wire)
            yield number, view[position : position + size]
            position += size


class _Sides(_Walk):
    """Remembers where the sides of inputs and outputs stand, each a Dimension message."""

    def __init__(self) -> None:
        super().__init__()
        self.sides: dict[str, list[memoryview]] = {}
        self._of_one: list[memoryview] = []

    def value_info(self, view: memoryview) -> tuple[str, tuple[int, ...]]:
        self._of_one = []
        name, shape = super().value_info(view)
        self.sides[name] = self._of_one
        return name, shape

    def dimension(self, view: memoryview) -> int:
        self._of_one.append(view)
        return super().dimension(view)


def _overwrite(place: memoryview, side: int) -> None:
    """place: a Dimension message, which is the tag of dim_value, 0x08, and the number."""
    digits = [side] if side < 0x80 else [side & 0x7F | 0x80, side >> 7]
    if not 0 < side < 0x4000 or place[0] != 0x08 or len(place) != 1 + len(digits):
        raise OnnxRefusedError(f"a side of {len(place) - 1} bytes cannot become {side}")
    place[1:] = bytes(digits)


def _payload(view: memoryview, position: int, wire: int) -> tuple[int, int]:
    if wire == _BYTES:
        size, position = _varint(view, position)
    elif wire in (_FIXED32, _FIXED64):
        size = 4 if wire == _FIXED32 else 8
    else:
        raise OnnxRefusedError(f"it is not protobuf: wire type {wire} at byte {position}")
    if size > len(view) - position:
        raise OnnxRefusedError(f"it is cut short: a field of {size} bytes where {len(view) - position} are left")
    return size, position


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise OnnxRefusedError("it is cut short: a number has no end")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise OnnxRefusedError("it is not protobuf: a number of more than 10 bytes")


def _message(value: int | memoryview, what: str) -> memoryview:
    if isinstance(value, int):
        raise OnnxRefusedError(f"it is not an ONNX model: '{what}' is a number")
    return value


def _check_domain(domain: memoryview) -> None:
    if bytes(domain) not in _STANDARD_DOMAINS:
        name = bytes(domain[:40]).decode("utf-8", "replace")
        raise OnnxRefusedError(f"it uses operators of the domain '{name}'; only standard ONNX operators are accepted")


def _check_size(dims: list[int], item_bytes: int, raw: int | None, message_bytes: int) -> None:
    elements = prod(dims)
    if not item_bytes or elements > MAX_ELEMENTS:
        raise OnnxRefusedError(f"a tensor of {len(dims)} dimensions has an element type or a size that is not accepted")
    if raw is not None and raw != elements * item_bytes:
        raise OnnxRefusedError(f"a tensor says {elements * item_bytes} bytes and holds {raw}")
    if raw is None and elements > message_bytes:
        raise OnnxRefusedError(f"a tensor says {elements} values and holds {message_bytes} bytes")
