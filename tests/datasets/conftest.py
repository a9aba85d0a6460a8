"""Data sets small enough to make for each test, one for each layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_samples import mask, photo, save

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve different good images in one folder."""
    for i in range(12):
        save(tmp_path / "parts" / f"{i:02d}.png", photo(i))
    return tmp_path / "parts"


@pytest.fixture
def mvtec_ad(tmp_path: Path) -> Path:
    root = tmp_path / "widget"
    for i in range(10):
        save(root / "train" / "good" / f"{i:03d}.png", photo(i))
    save(root / "test" / "good" / "000.png", photo(20))
    for i in range(2):
        save(root / "test" / "scratch" / f"{i:03d}.png", photo(30 + i))
        save(root / "ground_truth" / "scratch" / f"{i:03d}_mask.png", mask())
    return root


@pytest.fixture
def mvtec_loco(tmp_path: Path) -> Path:
    root = tmp_path / "box"
    for i in range(4):
        save(root / "train" / "good" / f"{i:03d}.png", photo(i))
    save(root / "validation" / "good" / "000.png", photo(10))
    save(root / "test" / "good" / "000.png", photo(20))
    save(root / "test" / "logical_anomalies" / "000.png", photo(30))
    save(root / "ground_truth" / "logical_anomalies" / "000" / "000.png", mask(255))
    save(root / "ground_truth" / "logical_anomalies" / "000" / "001.png", mask(254))
    save(root / "test" / "structural_anomalies" / "000.png", photo(40))
    save(root / "ground_truth" / "structural_anomalies" / "000" / "000.png", mask(253))
    entries = [("missing_nut", 255, 120, False), ("extra_nut", 254, 0.5, True), ("scratch", 253, 1.0, True)]
    keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    config = [dict(zip(keys, entry, strict=True)) for entry in entries]
    (root / "defects_config.json").write_text(json.dumps(config))
    return root


@pytest.fixture
def mvtec_3d(tmp_path: Path) -> Path:
    root = tmp_path / "ring"
    for i in range(4):
        save(root / "train" / "good" / "rgb" / f"{i:03d}.png", photo(i))
    save(root / "validation" / "good" / "rgb" / "000.png", photo(10))
    for kind, seed in (("good", 20), ("cut", 30)):
        save(root / "test" / kind / "rgb" / "000.png", photo(seed))
        save(root / "test" / kind / "gt" / "000.png", mask() if kind == "cut" else mask(0))
    return root


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    """The root of a raw VisA with one category; the images are told apart by the table alone."""
    root, rows = tmp_path / "VisA", ["object,split,label,image,mask"]
    for i, split in enumerate(("train", "test", "train", "train")):
        name = f"candle/Data/Images/Normal/{i:04d}.JPG"
        save(root / name, photo(i, width=80))
        rows.append(f"candle,{split},normal,{name},")
    for i, kind in enumerate((1, 3)):
        name, truth = f"candle/Data/Images/Anomaly/{i:03d}.JPG", f"candle/Data/Masks/Anomaly/{i:03d}.png"
        save(root / name, photo(30 + i, width=80))
        save(root / truth, mask(kind, width=80))
        rows.append(f"candle,test,anomaly,{name},{truth}")
    rows.append("pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real images beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"the real images are not at {SHARED}")
    return SHARED
