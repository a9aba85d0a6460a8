"""What TensorRT measured is kept between builds; what is damaged or made elsewhere is left aside in words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from networks import conv_relu

from lad_edge.runtime import compiler
from lad_edge.runtime.compiler import Target, compile_graph, open_timings
from lad_edge.runtime.gpu import Gpu, Gpus
from lad_edge.runtime.timings import Timings

HERE = "tensorrt 10.13 on Orin"


def kept(path: Path, data: bytes = b"\x00measured\nhere") -> bytes:
    timings = Timings(path, HERE)
    timings.data = data
    timings.save()
    return data


def test_what_was_measured_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "part.timings"
    data = kept(path)
    again = Timings(path, HERE)
    assert (again.data, again.problem) == (data, "")
    assert list(tmp_path.iterdir()) == [path]


def test_there_is_nothing_before_the_first_build(tmp_path: Path) -> None:
    timings = Timings(tmp_path / "part.timings", HERE)
    assert (timings.data, timings.problem) == (b"", "")
    timings.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"\xff" + b, lambda _: b"", lambda b: b + b"x"]
)
def test_a_damaged_file_is_left_aside_and_replaced(tmp_path: Path, spoil: Any) -> None:
    path = tmp_path / "part.timings"
    kept(path)
    path.write_bytes(spoil(path.read_bytes()))
    timings = Timings(path, HERE)
    assert timings.data == b""
    assert "damaged, or no file of timings; TensorRT measures anew" in timings.problem
    timings.data = b"new"
    timings.save()
    again = Timings(path, HERE)
    assert (again.data, again.problem) == (b"new", "")


def test_measurements_of_another_gpu_or_version_are_left_aside_by_name(tmp_path: Path) -> None:
    path = tmp_path / "part.timings"
    kept(path)
    for here in ("tensorrt 10.14 on Orin", "tensorrt 10.13 on Thor"):
        timings = Timings(path, here)
        assert timings.data == b""
        assert f"it was made by {HERE}, here is {here}" in timings.problem


def test_a_folder_that_takes_no_file_is_told_and_no_error(tmp_path: Path) -> None:
    timings = Timings(tmp_path / "missing" / "part.timings", HERE)
    timings.data = b"measured"
    timings.save()
    assert "cannot be written" in timings.problem


# the order of the calls, against a recording TensorRT: in addition to what a real one proves


class Config:
    """The settings of a build; refuses timings that begin with "foreign"."""

    def __init__(self) -> None:
        self.cache: bytes | None = None

    def clear_flag(self, _flag: object) -> None:
        pass

    def create_timing_cache(self, data: bytes) -> Any:
        return SimpleNamespace(data=data, serialize=lambda: data + b"+")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return not cache.data.startswith(b"foreign")

    def get_timing_cache(self) -> Any:
        return self.cache


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SimpleNamespace(create_network=lambda _flags: None, create_builder_config=Config)
    network.build_serialized_network = lambda _network, config: b"engine of " + config.cache.data
    trt = SimpleNamespace(
        Builder=lambda _log: network,
        NetworkDefinitionCreationFlag=SimpleNamespace(),
        OnnxParser=lambda _network, _log: SimpleNamespace(parse=lambda _onnx: True),
        BuilderFlag=SimpleNamespace(TF32=0),
        __version__="10.13",
    )
    monkeypatch.setattr(compiler, "package", lambda _runtime: trt)
    monkeypatch.setattr(compiler, "engine_version", lambda _runtime: "10.13")
    monkeypatch.setattr(compiler, "logger", lambda _runtime: None)
    monkeypatch.setattr(compiler, "find_gpus", lambda: Gpus((Gpu("Orin", "8.7", 1 << 30),)))


@pytest.mark.usefixtures("recorder")
def test_each_build_begins_with_what_the_one_before_measured(tmp_path: Path) -> None:
    target, path = Target("tensorrt", ("8.7",)), tmp_path / "part.timings"
    for begun in (b"", b"+", b"++"):
        timings = open_timings(path, target)
        assert timings is not None
        assert compile_graph(target, "conv", *conv_relu(), timings=timings) == b"engine of " + begun
        timings.save()
    assert Timings(path, HERE).data == b"+++"


@pytest.mark.usefixtures("recorder")
def test_measurements_that_tensorrt_refuses_are_left_aside(tmp_path: Path) -> None:
    target, path = Target("tensorrt", ("8.7",)), tmp_path / "part.timings"
    kept(path, b"foreign")
    timings = open_timings(path, target)
    assert timings is not None
    assert compile_graph(target, "conv", *conv_relu(), timings=timings) == b"engine of "
    assert timings.problem == f"{path}: TensorRT refuses it; TensorRT measures anew"
    timings.save()
    assert Timings(path, HERE).data == b"+"


def test_tensorrt_rtx_measures_nothing_when_it_builds(tmp_path: Path) -> None:
    assert open_timings(tmp_path / "part.timings", Target("tensorrt_rtx", ("8.9",))) is None
