from collections.abc import Sequence
from typing import Any, Protocol

from lad_edge.kernels import Codebook, RidgeTables

class DeviceArray(Protocol):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

def device_count() -> int: ...
def device_names() -> list[str]: ...

class MaskedRidge:
    def __init__(self, tables: RidgeTables) -> None: ...
    @property
    def table_bytes(self) -> int: ...
    @property
    def workspace_bytes(self) -> int: ...
    def prepare(self, tables: DeviceArray, *, stream: int) -> None: ...
    def __call__(
        self,
        cells: DeviceArray,
        fine: DeviceArray,
        coarse: DeviceArray,
        own: DeviceArray,
        *,
        nonfinite: DeviceArray,
        workspace: DeviceArray,
        stream: int,
    ) -> None: ...

class Preprocess:
    def __init__(
        self,
        source_shape: Sequence[int],
        size: Sequence[int],
        *,
        roi: Sequence[int] | None = None,
        swap_rb: bool,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None: ...
    @property
    def table_bytes(self) -> int: ...
    def prepare(self, tables: DeviceArray, *, stream: int) -> None: ...
    def __call__(self, image: DeviceArray, out: DeviceArray, *, stream: int) -> None: ...

class Quantizer:
    def __init__(self, top: Codebook, levels: Sequence[Codebook]) -> None: ...
    @property
    def table_bytes(self) -> int: ...
    def prepare(self, tables: DeviceArray, *, stream: int) -> None: ...
    def workspace_bytes(self, tokens: int) -> int: ...
    def __call__(
        self,
        tokens: DeviceArray,
        codes_out: DeviceArray,
        memory_out: DeviceArray | None = None,
        *,
        nonfinite: DeviceArray,
        workspace: DeviceArray,
        stream: int,
    ) -> None: ...

def count_nonfinite(values: DeviceArray, *, nonfinite: DeviceArray, stream: int) -> None: ...
def distance_map(
    a: DeviceArray, b: DeviceArray, *, cosine: float = 0.0, out: DeviceArray, nonfinite: DeviceArray, stream: int
) -> None: ...
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
def project_workspace_bytes(*, size: Sequence[int]) -> int: ...
def project_maps(
    maps: Sequence[DeviceArray],
    rows: Sequence[DeviceArray],
    columns: Sequence[DeviceArray],
    weights: Sequence[float],
    constant: float | DeviceArray,
    out: DeviceArray,
    *,
    result: DeviceArray,
    workspace: DeviceArray,
    stream: int,
) -> None: ...
def masked_histograms(
    codes: DeviceArray, masks: DeviceArray, entries: int, out: DeviceArray, *, stream: int
) -> None: ...
def masked_histogram_score(
    codes: DeviceArray,
    masks: DeviceArray,
    logits: DeviceArray,
    out: DeviceArray,
    *,
    nonfinite: DeviceArray,
    stream: int,
) -> None: ...
def symmetric_kl_workspace_bytes(*, heads: int, side: int, layers: int = 1) -> int: ...
def symmetric_kl(
    queries: DeviceArray,
    keys: DeviceArray,
    sigmas: DeviceArray,
    *,
    heads: int,
    side: int,
    weight: float,
    out: DeviceArray,
    nonfinite: DeviceArray,
    workspace: DeviceArray,
    stream: int,
) -> None: ...
def take_rows(table: DeviceArray, codes: DeviceArray, *, out: DeviceArray, stream: int) -> None: ...
def modulate(
    error: DeviceArray, divergence: DeviceArray, *, from_largest: bool, out: DeviceArray, stream: int
) -> None: ...
def larger_of_regions(
    fine: DeviceArray, coarse: DeviceArray, *, scales: Sequence[float], out: DeviceArray, stream: int
) -> None: ...
def mask_maps(
    distances: DeviceArray,
    scores: DeviceArray,
    *,
    channels: int,
    means: DeviceArray,
    scales: DeviceArray,
    shares: DeviceArray,
    roots: DeviceArray,
    heat: DeviceArray,
    mean_deviation: DeviceArray,
    stream: int,
) -> None: ...
def join_branches(
    peak: DeviceArray,
    mean_deviation: DeviceArray,
    *,
    scale: Sequence[float],
    offset: Sequence[float],
    drawn_offset: Sequence[float],
    scores: DeviceArray,
    constants: DeviceArray,
    most: DeviceArray,
    stream: int,
) -> None: ...
def larger_capped(
    first: DeviceArray, second: DeviceArray, most: DeviceArray, *, out: DeviceArray, stream: int
) -> None: ...
