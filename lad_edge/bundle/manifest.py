"""The manifest: everything the edge needs to know about a detector, as frozen values with a strict JSON form."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from lad_edge.bundle.device import ENGINES, PRECISIONS, Device, parse_device
from lad_edge.bundle.fields import (
    MAX_INTEGER,
    Fields,
    Json,
    checked_integer,
    checked_list,
    checked_sha256,
    checked_word,
    finite_number,
    plain,
)
from lad_edge.bundle.gates import Gates, parse_gates
from lad_edge.bundle.layout import DTYPES, MAX_DIMS, MAX_TENSORS, TensorInfo, check_tensor_name, checked_tensor_name
from lad_edge.bundle.mask import Mask, parse_mask
from lad_edge.bundle.refused import Refused
from lad_edge.bundle.registration import Registration, parse_registration

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

FORMAT_VERSION = 1
KINDS = ("lad", "plan")
PIXEL_FORMATS = ("bgr8", "rgb8", "mono8")
POLICIES = ("conformal", "quantile", "fixed")
MAX_SIDE_PX = 1 << 16

_ABSENT_IF_NONE = {"absent_if_none": True}  # keys that only some bundles have


@dataclass(frozen=True)
class Cost:
    """What a network weighs: constants of floating point, and multiply-accumulates for one frame."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Graph:
    """One network: `tensor` holds its bytes (U8); inputs and outputs are float32 of fixed shape.

    format: "onnx", or in a plan the name of the runtime whose engine it is. precision: "any" runs at that of the engine, "f32" never at
    less. cost: as the exporter counted it, None where nobody did. It is there to be read; nothing depends on it. source: in a plan the
    tensor of the ONNX that the engine was built from.
    """

    tensor: str
    format: str
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    precision: str = "any"
    cost: Cost | None = None
    source: str | None = field(default=None, metadata=_ABSENT_IF_NONE)


@dataclass(frozen=True)
class Contract:
    """What a frame must be and how its pixels become the input tensor.

    width, height: of the frame in px, None = any. roi: (x, y, width, height) in px of the frame, None = all of it.
    size: (height, width) of the network input in px. mean, std: per channel in `channel_order`, for values in 0..1.
    """

    width: int | None
    height: int | None
    pixel_format: str
    roi: tuple[int, int, int, int] | None
    size: tuple[int, int]
    channel_order: str
    resize: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def region_px(self) -> tuple[int, int] | None:
        """(width, height) of what is inspected; None if it is as large as the frames happen to be."""
        if self.roi is not None:
            return self.roi[2:]
        return None if self.width is None or self.height is None else (self.width, self.height)


@dataclass(frozen=True)
class Policy:
    """How the threshold was chosen. value: false-reject rate, quantile or threshold; n: images it rests on."""

    name: str
    value: float
    n: int
    statement: str


@dataclass(frozen=True)
class Calibration:
    """What was measured on good validation images through one runtime at one precision.

    normalisation: branch → (low, high) quantile of its map. scores: tensor of the sorted float64 image scores.
    envelope: (lowest, highest) plausible image score. golden_scores: tensor of the scores of the golden frames.
    places: float32 tensor (2, branches, h, w), mean and scale of each place of the raw maps, or None if places are judged alike.
    """

    runtime: str
    normalisation: Mapping[str, tuple[float, float]]
    threshold: float
    policy: Policy
    scores: str
    envelope: tuple[float, float]
    golden_scores: str
    places: str | None = None


@dataclass(frozen=True)
class Golden:
    """Frames of known score. frames: U8 tensor (N, H, W, 3) or (N, H, W); tolerance: precision → relative error."""

    frames: str
    tolerance: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole manifest. The writer fills `tensors`; parameters, parity, provenance and metrics are free-form JSON.

    kind: "lad" runs anywhere, "plan" on its `device` alone. gates: None where nothing is asked of the picture itself.
    registration: None where the region of interest stays where it is. mask: None where all of the region is looked at.
    """

    name: str
    detector: str
    tool_version: str
    contract: Contract
    graphs: Mapping[str, Graph]
    calibrations: Mapping[str, Calibration]
    golden: Golden
    parameters: Mapping[str, Json] = field(default_factory=dict)
    parity: Mapping[str, Json] = field(default_factory=dict)
    provenance: Mapping[str, Json] = field(default_factory=dict)
    metrics: Mapping[str, Json] = field(default_factory=dict)
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    kind: str = "lad"
    device: Device | None = field(default=None, metadata=_ABSENT_IF_NONE)
    gates: Gates | None = field(default=None, metadata=_ABSENT_IF_NONE)
    registration: Registration | None = field(default=None, metadata=_ABSENT_IF_NONE)
    mask: Mask | None = field(default=None, metadata=_ABSENT_IF_NONE)

    def to_json(self) -> dict[str, Json]:
        """Return plain dicts, lists and scalars, ready for json.dumps."""
        return cast("dict[str, Json]", plain(self))


def bundle_name(text: str) -> str:
    """What a manifest may be called, from any text: other signs than A-Z a-z 0-9 . _ - become -, at most 64 of them."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:64] or "part"


def parse_manifest(value: object) -> Manifest:
    """Return the manifest in a JSON value; a missing, unknown or wrong key is refused by its dotted name."""
    top = Fields(value, "")
    version, kind = _version(top), top.text("kind")
    if kind not in KINDS:
        raise Refused("VERSION", f"this is a bundle of kind '{kind[:40]}'; this program reads {' and '.join(KINDS)}")
    manifest = Manifest(
        format_version=version,
        kind=kind,
        name=checked_word(top.take("name"), "name"),
        detector=checked_word(top.take("detector"), "detector"),
        tool_version=top.text("tool_version"),
        parameters=top.free_form("parameters"),
        contract=_contract(top.take("contract")),
        graphs=_named(top.each("graphs", _graph), "graphs"),
        calibrations=_by_precision(top.each("calibrations", _calibration), "calibrations"),
        golden=_golden(top.take("golden")),
        parity=top.free_form("parity"),
        provenance=top.free_form("provenance"),
        metrics=top.free_form("metrics"),
        tensors=_tensors(top),
        device=parse_device(top.take("device")) if kind == "plan" else None,
        gates=parse_gates(top.take("gates")) if "gates" in top.left else None,
        registration=parse_registration(top.take("registration")) if "registration" in top.left else None,
        mask=parse_mask(top.take("mask")) if "mask" in top.left else None,
    )
    top.end()
    _check_formats(manifest)
    return manifest


def _version(top: Fields) -> int:
    version = top.integer("format_version", 0, 2**31)
    if version != FORMAT_VERSION:
        remedy = "update lad-edge" if version > FORMAT_VERSION else "export the detector again"
        raise Refused("VERSION", f"format version {version}; this program reads version {FORMAT_VERSION}: {remedy}")
    return version


def _check_formats(manifest: Manifest) -> None:
    """A plan holds engines of one runtime, calibrated for their precision; a lad holds ONNX."""
    device = manifest.device
    expected = "onnx" if device is None else device.runtime
    for role, graph in manifest.graphs.items():
        if graph.format != expected:
            raise Refused(
                "MANIFEST", f"'graphs.{role}.format': expected {expected} in this {manifest.kind}, came {graph.format}"
            )
    if device is not None and not set(device.caches) <= set(manifest.graphs):
        raise Refused(
            "MANIFEST", f"'device.caches': expected roles of the graphs, came {', '.join(device.caches)[:80]}"
        )
    if device is not None and device.precision not in manifest.calibrations:
        raise Refused("MANIFEST", f"key 'calibrations.{device.precision}' is missing, which is the engines' precision")


def _contract(value: object) -> Contract:
    fields = Fields(value, "contract")
    contract = Contract(
        width=fields.optional("width", _side),
        height=fields.optional("height", _side),
        pixel_format=fields.choice("pixel_format", *PIXEL_FORMATS),
        roi=fields.optional("roi", _roi),
        size=cast("tuple[int, int]", fields.integers("size", 2, 1, MAX_SIDE_PX)),
        channel_order=fields.choice("channel_order", "rgb"),
        resize=fields.choice("resize", "bilinear-antialias"),
        mean=cast("tuple[float, float, float]", fields.numbers("mean", 3)),
        std=cast("tuple[float, float, float]", fields.numbers("std", 3)),
    )
    fields.end()
    _check_contract(contract)
    return contract


def _check_contract(contract: Contract) -> None:
    if (contract.width is None) != (contract.height is None):
        raise Refused("MANIFEST", "'contract.width' and 'contract.height': expected both or neither")
    if min(contract.std) <= 0:
        raise Refused("MANIFEST", f"'contract.std': expected values above 0, came {contract.std}")
    if contract.roi and contract.width is not None and contract.height is not None:
        x, y, width, height = contract.roi
        if x + width > contract.width or y + height > contract.height:
            raise Refused(
                "MANIFEST", f"'contract.roi' {contract.roi} leaves the frame of {contract.width}x{contract.height} px"
            )


def _side(value: object, where: str) -> int:
    return checked_integer(value, 1, MAX_SIDE_PX, where)


def _roi(value: object, where: str) -> tuple[int, int, int, int]:
    x, y, width, height = checked_list(value, 4, where)
    return (
        checked_integer(x, 0, MAX_SIDE_PX, where),
        checked_integer(y, 0, MAX_SIDE_PX, where),
        _side(width, where),
        _side(height, where),
    )


def _graph(value: object, where: str) -> Graph:
    fields = Fields(value, where)
    kind = fields.choice("format", "onnx", *ENGINES)
    graph = Graph(
        tensor=check_tensor_name(fields.text("tensor")),
        format=kind,
        inputs=_not_empty(fields.each("inputs", _shape), f"{where}.inputs"),
        outputs=_not_empty(fields.each("outputs", _shape), f"{where}.outputs"),
        precision=fields.choice("precision", "any", "f32"),
        cost=fields.optional("cost", _cost),
        source=None if kind == "onnx" else check_tensor_name(fields.text("source")),
    )
    fields.end()
    return graph


def _cost(value: object, where: str) -> Cost:
    fields = Fields(value, where)
    cost = Cost(fields.integer("parameters", 0, MAX_INTEGER), fields.integer("macs", 0, MAX_INTEGER))
    fields.end()
    return cost


def _calibration(value: object, where: str) -> Calibration:
    fields = Fields(value, where)
    calibration = Calibration(
        runtime=checked_word(fields.take("runtime"), f"{where}.runtime"),
        normalisation=fields.each("normalisation", _range),
        threshold=fields.number("threshold"),
        policy=_policy(fields.take("policy"), f"{where}.policy"),
        scores=check_tensor_name(fields.text("scores")),
        envelope=_envelope(fields.numbers("envelope", 2), f"{where}.envelope"),
        golden_scores=check_tensor_name(fields.text("golden_scores")),
        places=fields.optional("places", checked_tensor_name),
    )
    fields.end()
    return calibration


def _policy(value: object, where: str) -> Policy:
    fields = Fields(value, where)
    policy = Policy(
        name=fields.choice("name", *POLICIES),
        value=fields.number("value"),
        n=fields.integer("n", 0, 2**31),
        statement=fields.text("statement"),
    )
    fields.end()
    return policy


def _golden(value: object) -> Golden:
    fields = Fields(value, "golden")
    frames = check_tensor_name(fields.text("frames"))
    golden = Golden(frames, _by_precision(fields.each("tolerance", _tolerance), "golden.tolerance"))
    fields.end()
    return golden


def _tensors(top: Fields) -> dict[str, TensorInfo]:
    tensors = top.each("tensors", _tensor)
    if len(tensors) > MAX_TENSORS:
        raise Refused("SIZE", f"{len(tensors)} tensors; expected at most {MAX_TENSORS}")
    for name in tensors:
        check_tensor_name(name)
    return tensors


def _tensor(value: object, where: str) -> TensorInfo:
    fields = Fields(value, where)
    info = TensorInfo(fields.choice("dtype", *DTYPES), _shape(fields.take("shape"), where), fields.text("sha256"))
    fields.end()
    checked_sha256(info.sha256, f"{where}.sha256")
    return info


def _shape(value: object, where: str) -> tuple[int, ...]:
    items = checked_list(value, None, where)
    if len(items) > MAX_DIMS:
        raise Refused("SHAPE", f"'{where}': expected at most {MAX_DIMS} dimensions, came {len(items)}")
    return tuple(checked_integer(item, 1, 2**40, where) for item in items)


def _range(value: object, where: str) -> tuple[float, float]:
    low, high = (float(finite_number(item, where)) for item in checked_list(value, 2, where))
    if not low < high:
        raise Refused(
            "MANIFEST", f"'{where}': expected low < high, came {low} and {high}; the validation images are too alike"
        )
    return low, high


def _envelope(value: tuple[float, ...], where: str) -> tuple[float, float]:
    low, high = value
    if not low <= high:
        raise Refused("MANIFEST", f"'{where}': expected low <= high, came {low} and {high}")
    return low, high


def _tolerance(value: object, where: str) -> float:
    number = float(finite_number(value, where))
    if not 0 < number < 1:
        raise Refused("MANIFEST", f"'{where}': expected a relative error between 0 and 1, came {number}")
    return number


def _named(values: dict[str, T], where: str) -> dict[str, T]:
    for name in values:
        checked_word(name, where)
    return _not_empty(values, where)


def _by_precision(values: dict[str, T], where: str) -> dict[str, T]:
    for name in values:
        if name not in PRECISIONS:
            raise Refused("MANIFEST", f"'{where}.{name}': expected a precision out of {', '.join(PRECISIONS)}")
    return _not_empty(values, where)


def _not_empty(values: dict[str, T], where: str) -> dict[str, T]:
    if not values:
        raise Refused("MANIFEST", f"'{where}': expected at least one entry, came none")
    return values
