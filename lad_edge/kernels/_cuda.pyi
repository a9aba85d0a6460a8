from collections.abc import Sequence
from typing import Any, Protocol

class DeviceArray(Protocol):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

def device_count() -> int: ...
def device_names() -> list[str]: ...
def fuse_workspace_bytes(*, size: Sequence[int]) -> int: ...
def fuse(
    structural: DeviceArray,
    logical: DeviceArray,
    *,
    scale: Sequence[float],
    offset: Sequence[float],
    sigmoid: bool,
    border: int,
    border_mode: str,
    size: Sequence[int],
    out: DeviceArray | None = None,
    result: DeviceArray,
    workspace: DeviceArray,
    stream: int,
) -> None: ...
def fuse_places(
    structural: DeviceArray,
    logical: DeviceArray,
    *,
    places: DeviceArray,
    border: int,
    border_mode: str,
    size: Sequence[int],
    out: DeviceArray | None = None,
    result: DeviceArray,
    workspace: DeviceArray,
    stream: int,
) -> None: ...
