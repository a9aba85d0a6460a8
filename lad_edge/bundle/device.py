"""The device identity of a plan: what its engines were built for, by what and where."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lad_edge.bundle.fields import Fields, checked_line, checked_list, checked_sha256, checked_word
from lad_edge.bundle.layout import checked_tensor_name
from lad_edge.bundle.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

ENGINES = ("tensorrt", "tensorrt_rtx", "onnxruntime_cuda")  # runtimes of plans
PRECISIONS = ("f32", "bf16", "f16", "int8")

_COMPUTE_CAPABILITY = re.compile(r"[1-9][0-9]?\.[0-9]", re.ASCII)


@dataclass(frozen=True)
class Device:
    """What the engines of a plan were built for, by what and where.

    runtime: one of ENGINES, with its version. compute_capabilities: of the GPUs, such as "8.9". precision: of the engines.
    gpu, driver, cuda: of the machine that built it, None where it has no GPU (or does not say). system: such as "Linux x86_64".
    source_sha256: of the bundle that it was built from. caches: role → tensor of what TensorRT-RTX compiled when the plan was first run on
    the GPU; without them it compiles at every start.
    """

    runtime: str
    version: str
    compute_capabilities: tuple[str, ...]
    precision: str
    gpu: str | None
    driver: str | None
    cuda: str | None
    system: str
    source_sha256: str
    caches: Mapping[str, str] = field(default_factory=dict)


def parse_device(value: object) -> Device:
    """Return the device identity in a JSON value; refused by the name of its key."""
    fields = Fields(value, "device")
    device = Device(
        runtime=fields.choice("runtime", *ENGINES),
        version=checked_word(fields.take("version"), "device.version"),
        compute_capabilities=_compute_capabilities(fields.take("compute_capabilities")),
        precision=fields.choice("precision", *PRECISIONS),
        gpu=fields.optional("gpu", checked_line),
        driver=fields.optional("driver", checked_line),
        cuda=fields.optional("cuda", checked_line),
        system=checked_line(fields.take("system"), "device.system"),
        source_sha256=checked_sha256(fields.text("source_sha256"), "device.source_sha256"),
        caches=fields.each("caches", checked_tensor_name),
    )
    fields.end()
    return device


def _compute_capabilities(value: object) -> tuple[str, ...]:
    where = "device.compute_capabilities"
    items = checked_list(value, None, where)
    found = tuple(item for item in items if isinstance(item, str) and _COMPUTE_CAPABILITY.fullmatch(item))
    if not found or len(found) != len(items):
        raise Refused("MANIFEST", f"'{where}': expected texts such as '8.9', at least one; came {str(value)[:80]}")
    return found
