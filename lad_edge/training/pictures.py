"""Good images on disk → the tensor that training sees, and the geometry that the exported engine will expect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lad_edge.datasets import Dataset, choose_categories, open_dataset
from lad_edge.errors import DataError, UsageError
from lad_edge.images import read_image
from lad_edge.kernels import Preprocess
from lad_edge.training.run_folder import Frame


def open_datasets(data: Path, layout: str, categories: tuple[str, ...] | None) -> list[Dataset]:
    """The data set; or these categories of it, () = all that it holds. Raises DataError and UsageError if there are none such."""
    if categories is None:
        return [open_dataset(data, layout=layout)]
    chosen = list(choose_categories(data, categories).values())
    if chosen == [data]:
        raise UsageError(
            f"--categories: {data} is one category itself; leave it out, or give the folder that holds several"
        )
    return [open_dataset(folder, layout=layout) for folder in chosen]


def read_training_images(
    datasets: Sequence[Dataset], side: int, roi: tuple[int, int, int, int] | None
) -> tuple[torch.Tensor, list[Frame]]:
    """(N, 3, side, side) RGB in [0, 1] of all data sets, and the geometry of each; one data set at a time is held at full size.

    Raises DataError for too few images, and for those that are no 8-bit colour or grey.
    """
    tensors, frames = [], []
    for dataset in datasets:
        pictures, frame = _read_frames(dataset)
        tensors.append(to_tensor(pictures, frame[2], side, roi))
        frames.append(frame)
    return torch.cat(tensors), frames


def _read_frames(dataset: Dataset) -> tuple[list[NDArray[np.uint8]], Frame]:
    """All training images with their common width and height (None where they differ) and pixel format."""
    paths = [record.path for record in dataset.select(split="train")]
    if len(paths) < 2:
        raise DataError(
            f"{dataset.root}: training needs at least 2 good images besides the validation images, found {len(paths)}; 50 to 300 serve well"
        )
    pictures, formats, sizes = [], set(), set()
    for path in paths:
        image, pixel_format = read_image(path)
        if pixel_format not in ("bgr8", "mono8"):
            raise DataError(
                f"{path}: expected 8-bit colour or grey, found {pixel_format}; "
                "convert it, for example with 'convert IN -alpha off -depth 8 OUT'"
            )
        pictures.append(image.astype(np.uint8, copy=False))
        formats.add(pixel_format)
        sizes.add(image.shape[:2])
    if len(formats) > 1:
        raise DataError(
            f"{dataset.root}: the training images mix colour and grey; make them one kind, as the camera delivers them"
        )
    height, width = sizes.pop() if len(sizes) == 1 else (None, None)
    return pictures, (width, height, formats.pop())


def to_tensor(
    pictures: Iterable[NDArray[np.uint8]], pixel_format: str, side: int, roi: tuple[int, int, int, int] | None
) -> torch.Tensor:
    """(N, 3, side, side) RGB in [0, 1], through the kernel that the edge uses too."""
    plans: dict[tuple[int, ...], Preprocess] = {}
    tensors = []
    for picture in pictures:
        if picture.shape not in plans:
            plans[picture.shape] = Preprocess(
                picture.shape,
                (side, side),
                roi=roi,
                swap_rb=pixel_format == "bgr8",
                mean=(0.0, 0.0, 0.0),
                std=(1.0, 1.0, 1.0),
            )
        out = np.empty((3, side, side), np.float32)
        plans[picture.shape](picture, out)
        tensors.append(torch.from_numpy(out))
    return torch.stack(tensors)
