"""Writing a bundle never leaves half a file, and says what to do when it cannot be written."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bundle_samples import sample_manifest, sample_tensors

from lad_edge import bundle
from lad_edge.bundle import writer
from lad_edge.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_DISK = "128k"
LARGE = {"tables/large": np.arange(50_000, dtype=np.int64)}  # 400 kB


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


@pytest.fixture
def small_file_limit() -> Iterator[None]:
    """Files of this process may not exceed 64 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file_whole(small_disk: Path) -> None:
    path = small_disk / "a.lad"
    sha256 = bundle.write(path, sample_manifest(), sample_tensors())
    with pytest.raises(SinkError, match=r"a\.lad: cannot be written \(No space left on device\); free some space"):
        bundle.write(path, sample_manifest(), sample_tensors() | LARGE)
    assert bundle.read(path).sha256 == sha256
    assert names(small_disk) == ["a.lad"]


def test_a_file_size_limit_leaves_the_old_file_whole(tmp_path: Path, small_file_limit: None) -> None:
    path = tmp_path / "a.lad"
    sha256 = bundle.write(path, sample_manifest(), sample_tensors())
    with pytest.raises(SinkError, match=r"a\.lad: cannot be written \(File too large\); raise the file size limit"):
        bundle.write(path, sample_manifest(), sample_tensors() | LARGE)
    assert bundle.read(path).sha256 == sha256
    assert names(tmp_path) == ["a.lad"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"none/a\.lad: cannot be written .*; make the folder first"):
        bundle.write(tmp_path / "none" / "a.lad", sample_manifest(), sample_tensors())


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.lad").mkdir()
    with pytest.raises(SinkError, match="a folder of this name is in the way"):
        bundle.write(tmp_path / "a.lad", sample_manifest(), sample_tensors())
    assert names(tmp_path) == ["a.lad"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SinkError, match="choose a folder that this user may write to"):
        bundle.write(tmp_path / "a.lad", sample_manifest(), sample_tensors())
    tmp_path.chmod(0o700)


def test_an_interrupt_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bundle.write(tmp_path / "a.lad", sample_manifest(), sample_tensors())
    assert names(tmp_path) == []


def test_file_and_folder_are_synced_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "a.lad", []
    fsync = os.fsync

    def recording(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").resolve().is_dir(), path.exists()))
        fsync(handle)

    monkeypatch.setattr(writer.os, "fsync", recording)
    bundle.write(path, sample_manifest(), sample_tensors())
    assert synced == [(False, False), (True, True)]  # (is a folder, target is there)


def test_the_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        bundle.write(tmp_path / "a.lad", sample_manifest(), sample_tensors())
    finally:
        os.umask(before)
    assert (tmp_path / "a.lad").stat().st_mode & 0o777 == 0o640
