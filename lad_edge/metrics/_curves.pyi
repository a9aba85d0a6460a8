import numpy as np
from numpy.typing import NDArray

def count_good(
    good: NDArray[np.float32], scores: NDArray[np.float32], below: NDArray[np.uint32], ties: NDArray[np.uint32]
) -> None:
    """Add to below[i] how many good scores are at most scores[i] and above the one before it, to ties[i] how many equal it.

    good (n,) and scores (m,) ascend; of equal scores the first one gets both counts; good scores above the last one are
    not counted. Raises ValueError unless below and ties are (m,).
    """

def areas(
    scores: NDArray[np.float32],
    regions: NDArray[np.uint32],
    weights: NDArray[np.float64],
    below: NDArray[np.uint32],
    ties: NDArray[np.uint32],
    good_px: float,
    limits: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The area under the overlap curve up to each limit; limits and areas in numbers of good pixels.

    scores, regions, below, ties: (m,), ascending, as counted; weights: the rise of the curve by one pixel of a region;
    good_px: of all images. Raises ValueError unless the four have one length.
    """
