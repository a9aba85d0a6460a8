from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import Codebook, RidgeTables

class MaskedRidge:
    def __init__(self, tables: RidgeTables) -> None: ...
    def __call__(
        self,
        cells: NDArray[np.float32],
        fine: NDArray[np.float32],
        coarse: NDArray[np.float32],
        own: NDArray[np.float32],
    ) -> int: ...

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
    def __call__(self, image: NDArray[np.uint8], out: NDArray[np.float32]) -> None: ...
    @property
    def source_shape(self) -> list[int]: ...
    @property
    def size(self) -> list[int]: ...

class Quantizer:
    def __init__(self, top: Codebook, levels: Sequence[Codebook]) -> None: ...
    def __call__(
        self,
        tokens: NDArray[np.float32],
        codes_out: NDArray[np.uint16],
        memory_out: NDArray[np.float32] | None = None,
    ) -> int: ...

def distance_map(
    a: NDArray[np.float32], b: NDArray[np.float32], *, cosine: float = 0.0, out: NDArray[np.float32]
) -> int: ...
def fuse(
    structural: NDArray[np.float32],
    logical: NDArray[np.float32],
    *,
    scale: Sequence[float],
    offset: Sequence[float],
    sigmoid: bool,
    border: int,
    border_mode: str,
    size: Sequence[int],
    out: NDArray[np.float32] | None = None,
) -> tuple[float, int, int, float, float, int]: ...
def fuse_places(
    structural: NDArray[np.float32],
    logical: NDArray[np.float32],
    *,
    places: NDArray[np.float32],
    border: int,
    border_mode: str,
    size: Sequence[int],
    out: NDArray[np.float32] | None = None,
) -> tuple[float, int, int, float, float, int]: ...
def masked_histograms(
    codes: NDArray[np.uint16], masks: NDArray[np.uint32], entries: int, out: NDArray[np.uint16]
) -> None: ...
def masked_histogram_score(
    codes: NDArray[np.uint16], masks: NDArray[np.uint32], logits: NDArray[np.float32], out: NDArray[np.float32]
) -> int: ...
def project_maps(
    maps: Sequence[NDArray[np.float32]],
    rows: Sequence[NDArray[np.float32]],
    columns: Sequence[NDArray[np.float32]],
    weights: Sequence[float],
    constant: float,
    out: NDArray[np.float32],
) -> tuple[float, int, int, int]: ...
def symmetric_kl(
    queries: NDArray[np.float32],
    keys: NDArray[np.float32],
    sigmas: NDArray[np.float32],
    *,
    heads: int,
    side: int,
    weight: float,
    out: NDArray[np.float32],
) -> int: ...
def quantiles(arrays: Sequence[NDArray[np.float32]], q: Sequence[float]) -> NDArray[np.float64]: ...
def exponential(x: NDArray[np.float32]) -> NDArray[np.float32]: ...
def power_of_two(x: NDArray[np.float32]) -> NDArray[np.float32]: ...
def logarithm(x: NDArray[np.float32]) -> NDArray[np.float32]: ...
def isas() -> list[str]: ...
def isa() -> str: ...
def use_isa(name: str) -> None: ...
