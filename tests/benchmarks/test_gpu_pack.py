"""What is brought to a GPU machine in boxes is whole again there, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_pack import SUMS, join, pack

SIZES = {"a.whl": 300, "b.whl": 2500, "c.tar.gz": 1000, "empty.whl": 0}
BOX = 1000  # bytes


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng, folder = np.random.default_rng(0), tmp_path / "files"
    folder.mkdir()
    for name, size in SIZES.items():
        (folder / name).write_bytes(rng.bytes(size))
    return sorted(folder.iterdir())


@pytest.fixture
def packed(files: list[Path], tmp_path: Path) -> Path:
    pack(files, tmp_path / "packed", BOX)
    return tmp_path / "packed"


def test_what_was_packed_is_joined_again(files: list[Path], packed: Path, tmp_path: Path) -> None:
    joined = join(packed, tmp_path / "joined")
    assert {path.name: path.read_bytes() for path in joined.iterdir()} == {f.name: f.read_bytes() for f in files}
    assert join(packed, joined) == joined  # again, over what is there


def test_no_box_is_larger_than_asked(packed: Path) -> None:
    boxes = [path for path in packed.iterdir() if path.is_dir()]
    assert len(boxes) > 2
    assert all(0 < sum(piece.stat().st_size for piece in box.iterdir()) <= BOX for box in boxes)


def test_packing_again_leaves_nothing_of_before(files: list[Path], packed: Path) -> None:
    pack(files[:1], packed, BOX)
    assert sorted(path.name for path in packed.rglob("*") if path.is_file()) == [SUMS, "a.whl"]


def test_a_box_that_stayed_behind_is_noticed(packed: Path, tmp_path: Path) -> None:
    next(packed.rglob("b.whl.part001")).unlink()
    with pytest.raises(ValueError, match=r"b\.whl: a box is missing"):
        join(packed, tmp_path / "joined")
    assert not (tmp_path / "joined" / "b.whl").exists()


def test_a_part_that_was_changed_is_noticed(packed: Path, tmp_path: Path) -> None:
    part = next(packed.rglob("b.whl.part002"))
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="changed on its way"):
        join(packed, tmp_path / "joined")


def test_a_folder_of_whole_wheels_serves_as_it_is(files: list[Path], tmp_path: Path) -> None:
    assert join(files[0].parent, tmp_path / "joined") == files[0].parent
