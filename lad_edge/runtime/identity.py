"""What a plan says of the machine that it was built for, and whether that is this one."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from lad_edge.bundle import Device
from lad_edge.errors import EngineError, MissingDependencyError
from lad_edge.runtime.gpu import find_gpus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lad_edge.runtime.compiler import Target
    from lad_edge.runtime.gpu import Gpus


def engine_version(runtime: str) -> str:
    """Return the version of an installed runtime of plans; MissingDependencyError with the command otherwise."""
    if runtime == "onnxruntime_cuda":
        from lad_edge.runtime import onnxruntime

        return str(onnxruntime.package().__version__)
    from lad_edge.runtime import tensorrt

    return str(tensorrt.package(runtime).__version__)


def identity(target: Target, precision: str, source_sha256: str, gpus: Gpus) -> Device:
    """Return what stands in a plan about its engines. gpus: of this machine if it is the target, else `Gpus()`."""
    return Device(
        runtime=target.runtime,
        version=engine_version(target.runtime),
        compute_capabilities=target.compute_capabilities,
        precision=precision,
        gpu=gpus.devices[0].name if gpus.devices else None,
        driver=gpus.driver,
        cuda=gpus.cuda,
        system=_system(),
        source_sha256=source_sha256,
    )


def check_belongs_here(device: Device, file: str) -> None:
    """Raise EngineError where a plan was built for something else, before CUDA starts: what was built where, what is here, the command."""
    here = list(_differences(device))
    if here:
        raise EngineError(
            f"{file}: built {_built(device)}; here: {', '.join(here)}; build it again on the machine that runs it: "
            f"lad-edge build {file} -o here.plan"
        )


def _differences(device: Device) -> Iterator[str]:
    """What is not here as the plan needs it, each in words."""
    if _system() != device.system:
        yield _system()
    gpus = find_gpus()
    if not gpus.devices:
        yield gpus.problem
    elif gpus.devices[0].compute_capability not in device.compute_capabilities:
        yield f"{gpus.devices[0].name} of compute capability {gpus.devices[0].compute_capability}"
    try:
        found = engine_version(device.runtime)
    except MissingDependencyError as exc:
        yield str(exc)
    else:
        if found != device.version:
            yield f"{device.runtime} {found}"


def _built(device: Device) -> str:
    where = f"on {device.gpu}, " if device.gpu else ""
    targets = ", ".join(device.compute_capabilities)
    return f"for compute capability {targets} by {device.runtime} {device.version} ({where}{device.system})"


def _system() -> str:
    return f"{platform.system()} {platform.machine()}"
