import numpy as np
from numpy.typing import NDArray

def label_regions(
    anomaly_map: NDArray[np.float32], threshold: float, min_area_px: int
) -> list[tuple[int, int, int, int, int, float, int, int]]: ...
