"""Engines and frames to measure with: seeded weights go through the product's own training and export; a work folder keeps them.

The weights are those of one training step on pictures of the synthetic kit. Speed does not depend on them, parity is
proven at export as for any engine, and no teacher has to be shipped for every size.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np

from lad_edge.datasets.synthetic import make_sample

WIDTH, HEIGHT = 1280, 1024  # px, the frame of every figure
SIZES = ("s", "xs")
WORK = Path("build/benchmark-engines")
SEED, GOOD, PARITY_IMAGES = 11, 8, 32
POLICY = "quantile:0.95"  # lies between two good scores, of which none is then decided by the last bit
MADE_BY = ("lad_edge/backbones", "lad_edge/detectors", "export")
_MADE_FIRST = 960  # px, the height of a synthetic frame of this width


def frames(count: int, work: Path = WORK) -> np.ndarray:
    """Pictures of the kit that no engine was calibrated on, (count, 1024, 1280, 3) uint8 BGR."""
    file = frames_file(count, work)
    loaded: np.ndarray = np.load(file)
    return loaded


def frames_file(count: int, work: Path = WORK) -> Path:
    """The same pictures as a .npy file, made if it is not there."""
    file = work / f"frames_{count}.npy"
    if not file.is_file():
        work.mkdir(parents=True, exist_ok=True)
        np.save(file, np.stack([_picture("test/good", index) for index in range(count)]))
    return file


def engine(size: str, work: Path = WORK) -> Path:
    """The `.lad` of EfficientAD in this size ("s", "xs", "m"), made if it is not there or if its code has changed."""
    made = home(size, work) / f"efficient_ad_{size}.lad"
    if not made.is_file():  # in a process of its own: torch and its threads stay out of the one that measures
        subprocess.run([sys.executable, "-m", "benchmarks.engines", size, str(work)], check=True)
    return made


def weights(size: str, work: Path = WORK) -> Path:
    """The trained networks behind `engine`, as safetensors."""
    return engine(size, work).parent / "run" / "weights.safetensors"


def home(size: str, work: Path = WORK) -> Path:
    """The folder of an engine; its name holds a checksum of the code that makes networks and graphs."""
    root = Path(__file__).parent.parent
    sources = [path for room in MADE_BY for path in sorted((root / room).rglob("*.py"))]
    checksum = zlib.crc32(b"".join(path.read_bytes() for path in sources))
    return work / f"efficient_ad_{size}_{checksum:08x}"


def make(size: str, work: Path) -> None:
    """Train for one step and export."""
    import torch
    from lad_edge.export.export import ExportOptions, export_run  # type: ignore[import-not-found,unused-ignore]

    from lad_edge.backbones.pdn import PDN_SIZES, Pdn
    from lad_edge.training.checkpoint import save_tensors
    from lad_edge.training.fit import FitOptions, fit, load_networks

    folder = home(size, work)
    run, teacher = folder / "run", folder / "teacher.safetensors"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(SEED)
    save_tensors(teacher, Pdn(PDN_SIZES[size]).state_dict(), {"seed": SEED})
    settings = {"size": size, "steps": 1, "seed": SEED}
    fit("efficient_ad", _data(work), run, settings, FitOptions(teacher=teacher, device="cpu", quiet=True))
    _, config, networks = load_networks(run)
    examples = torch.zeros(2, 3, config.side, config.side)
    batches = ({0: torch.export.Dim.AUTO},)  # the peer exports for any
    program = torch.export.export(networks.autoencoder, (examples,), dynamic_shapes=batches)
    torch.export.save(program, run / "autoencoder.pt2")
    export_run(run, folder / f"efficient_ad_{size}.lad", ExportOptions(policy=POLICY))


def _data(work: Path) -> Path:
    """A data set in the MVTec AD layout: train/good and validation/good."""
    data = work / "kit_1280x1024"
    counts = {"train/good": GOOD, "validation/good": PARITY_IMAGES}
    for split, count in counts.items():
        (data / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            path = data / split / f"{index:03d}.png"
            if not path.is_file():
                cv2.imwrite(str(path), _picture(split, index))
    return data


def _picture(split: str, index: int) -> np.ndarray:
    """A synthetic frame, continued by its mirror image above and below to the height of a 5:4 sensor."""
    image = make_sample(SEED, split, index, width_px=WIDTH).image
    margin = (HEIGHT - _MADE_FIRST) // 2
    return np.ascontiguousarray(cv2.copyMakeBorder(image, margin, margin, 0, 0, cv2.BORDER_REFLECT_101))


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
