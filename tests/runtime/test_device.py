"""Which GPUs there are, the device layer on a driver of host memory, and its errors where there is no driver at all."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from gpu_needs import needs_no_gpu
from host_cuda import compile_driver, python

from lad_edge.errors import EngineError, MissingDependencyError
from lad_edge.runtime import libcuda
from lad_edge.runtime.device import Cuda
from lad_edge.runtime.gpu import driver_version, find_gpus

needs_pycuda = pytest.mark.skipif(
    importlib.util.find_spec("pycuda") is None, reason="pycuda is not installed: pip install pycuda"
)

OPEN = "from lad_edge.runtime.device import Cuda\nimport numpy as np\ncuda = Cuda()\n"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(tmp_path_factory.mktemp("driver"))


# which GPUs there are


def test_a_gpu_is_found_by_its_driver(driver: Path) -> None:
    done = python(driver, "from lad_edge.runtime.gpu import find_gpus\nprint(find_gpus())", gpu=120)
    assert "devices=(Gpu(name='Host GPU 0', compute_capability='12.0', memory_bytes=8589934592),)" in done.stdout
    assert "cuda='13.1'" in done.stdout
    assert "problem=''" in done.stdout


@pytest.mark.parametrize(("error", "remedy"), [(100, "--gpus all"), (803, "reboot"), (42, "nvidia-smi")])
def test_a_driver_that_does_not_start_is_a_problem_with_a_remedy(driver: Path, error: int, remedy: str) -> None:
    done = python(driver, "from lad_edge.runtime.gpu import find_gpus\nprint(find_gpus())", gpu=-error)
    assert f"CUDA does not start (error {error})" in done.stdout
    assert remedy in done.stdout
    assert "devices=()" in done.stdout


@needs_no_gpu
def test_a_machine_without_a_driver_is_an_answer() -> None:
    found = find_gpus()
    assert found.devices == ()
    assert found.problem


def test_the_version_of_the_driver_is_that_of_its_module_or_of_the_jetson(tmp_path: Path) -> None:
    assert driver_version(tmp_path) is None
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 1\n")
    assert driver_version(tmp_path) == "R36 (release), REVISION: 4.3, GCID: 1"
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
    (tmp_path / "proc/driver/nvidia/version").write_text(line)
    assert driver_version(tmp_path) == "580.65.06"


# errors


@needs_no_gpu
def test_without_a_driver_the_device_layer_says_so_and_what_to_install() -> None:
    with pytest.raises(MissingDependencyError, match=r"pycuda cannot be imported .*; pip install 'lad-edge\[cuda\]'"):
        Cuda()


def test_a_missing_pycuda_is_named_with_its_command(driver: Path) -> None:
    code = (
        "sys.modules['pycuda'] = None\nfrom lad_edge.runtime.device import Cuda\nfrom lad_edge.errors import LadEdgeError\n"
        "try: Cuda()\nexcept LadEdgeError as exc: print(exc)"
    )
    said = python(driver, code).stdout
    assert "pip install 'lad-edge[cuda]'" in said
    assert "nvcc first on PATH" in said


@needs_pycuda
def test_what_the_driver_refuses_is_an_engine_error(driver: Path) -> None:
    code = OPEN + (
        "from lad_edge.errors import EngineError\n"
        "try: cuda.array((1 << 33,))\nexcept EngineError as exc: print(exc.reason, exc)\n"
        "cuda.close(); cuda.close()\n"
        "try: cuda.array((1,))\nexcept EngineError as exc: print(exc)"
    )
    said = python(driver, code).stdout.splitlines()
    assert said[0].startswith("GPU_MEMORY the GPU has too little free memory")
    assert said[1] == "the GPU is closed; open it again"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(1, "ENGINE_CRASH"), (2, "GPU_MEMORY"), (214, "GPU_FAULT"), (700, "GPU_FAULT"), (999, "GPU_FAULT")],
)
def test_an_error_of_the_driver_is_told_apart_by_its_number(
    monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    monkeypatch.setattr(libcuda, "_function", lambda _name: lambda *_arguments: status)
    with pytest.raises(EngineError, match=f"cuGraphLaunch gave error {status}") as caught:
        libcuda.call("cuGraphLaunch")
    assert caught.value.reason == reason


@needs_pycuda
def test_a_driver_that_does_not_start_is_an_engine_error(driver: Path) -> None:
    code = "from lad_edge.runtime.device import Cuda\nfrom lad_edge.errors import EngineError\n"
    done = python(driver, code + "try: Cuda()\nexcept EngineError as exc: print(exc)", gpu=-100)
    assert "the driver finds no GPU" in done.stdout


# work


@needs_pycuda
def test_arrays_go_up_and_come_down_in_the_order_of_the_stream(driver: Path) -> None:
    code = OPEN + (
        "up, on_gpu, down = cuda.pinned((2, 3)), cuda.array((2, 3)), cuda.pinned((2, 3))\n"
        "assert up.dtype == np.float32 and not up.any()\n"
        "up[:] = np.arange(6).reshape(2, 3)\n"
        "with cuda.active():\n"
        "    first = cuda.stream.record()\n"
        "    cuda.stream.upload(up, on_gpu)\n"
        "    cuda.stream.download(on_gpu, down)\n"
        "    last = cuda.stream.record()\n"
        "    cuda.stream.after(last)\n"
        "    cuda.stream.synchronize()\n"
        "    print(last.elapsed_ms(first))\n"
        "print((up == down).all(), isinstance(cuda.stream.handle, int))\n"
        "shown = on_gpu.__cuda_array_interface__\n"
        "assert shown['data'] == (on_gpu.pointer, False)\n"
        "print(shown['shape'], shown['typestr'], shown['strides'], shown['version'])"
    )
    done = python(driver, code)
    assert done.stdout.splitlines() == ["1.5", "True True", "(2, 3) <f4 None 3"]
    assert done.stderr.split() == ["record", "upload", "download", "record", "wait", "synchronize"]


@needs_pycuda
def test_parts_of_an_array_are_where_they_lie_in_it(driver: Path) -> None:
    code = OPEN + (
        "whole = cuda.put(np.arange(24, dtype=np.uint16).reshape(2, 3, 4))\n"
        "print(cuda.get(whole[1]).tolist(), cuda.get(whole[1][:2]).shape, cuda.get(whole[-1][2]).tolist())\n"
        "print(whole[1].pointer - whole.pointer)\n"
        "for wrong in (slice(0, 2, 2), slice(1, 1), 2):\n"
        "    try: whole[wrong]\n"
        "    except IndexError as exc: print(exc)"
    )
    done = python(driver, code)
    assert done.stdout.splitlines() == [
        "[[12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23]] (2, 4) [20, 21, 22, 23]",
        "24",
        "a part of an array on the GPU is one entry or several in a row, not [slice(0, 2, 2)]",
        "a part of an array on the GPU is one entry or several in a row, not [slice(1, 1, None)]",
        "range object index out of range",
    ]


@needs_pycuda
def test_mirrored_arrays_come_to_the_host_by_one_copy(driver: Path) -> None:
    code = OPEN + (
        "mirror, other = cuda.mirror(), cuda.array((1,))\n"
        "scores, small = mirror.array((3,), np.float64), mirror.array((2, 5))\n"
        "from lad_edge.errors import EngineError\n"
        "try: scores.pointer\n"
        "except EngineError as exc: print(exc)\n"
        "mirror.open()\n"
        "print((small.pointer - scores.pointer) % 256, mirror.on_host(other))\n"
        "with cuda.active():\n"
        "    cuda.stream.upload(np.array([1.0, 2.0, 3.0]), scores)\n"
        "    cuda.stream.clear(small)\n"
        "    mirror.download(cuda.stream)\n"
        "    cuda.stream.synchronize()\n"
        "print(mirror.on_host(scores).tolist(), mirror.on_host(small).tolist())"
    )
    done = python(driver, code)
    assert done.stdout.splitlines() == [
        "the arrays of a mirror are used before it is open",
        "0 None",
        "[1.0, 2.0, 3.0] [[0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]",
    ]
    assert done.stderr.split() == ["upload", "clear", "download", "synchronize"]


@needs_pycuda
def test_a_mark_can_be_set_again_and_waited_for_by_another_stream(driver: Path) -> None:
    code = OPEN + (
        "side, mark = cuda.new_stream(), cuda.event()\n"
        "with cuda.active():\n"
        "    for _ in range(2):\n"
        "        assert cuda.stream.record(mark) is mark\n"
        "        side.after(mark)"
    )
    done = python(driver, code)
    assert done.returncode == 0
    assert done.stderr.split() == ["record", "wait", "record", "wait"]


@needs_pycuda
def test_captured_work_is_launched_by_one_call(driver: Path) -> None:
    code = OPEN + (
        "up, on_gpu = cuda.pinned((4,)), cuda.array((4,))\n"
        "with cuda.active():\n"
        "    with cuda.stream.capture() as work:\n"
        "        cuda.stream.upload(up, on_gpu)\n"
        "    work.launch()\n"
        "    work.launch()\n"
        "    work.close()\n"
        "    work.close()"
    )
    done = python(driver, code)
    assert done.returncode == 0
    calls = ["capture", "upload", "end", "instantiate", "launch", "launch", "destroy executable", "destroy graph"]
    assert done.stderr.splitlines() == calls


IN_SHARED_MEMORY = OPEN + (
    "from lad_edge.sources.process import DriverProcess\n"
    "camera, on_gpu = DriverProcess('test', {}), cuda.array((3, 4, 3), np.uint8)\n"
    "frame = camera.picture(1, '|u1', (3, 4, 3))\n"
    "frame[:] = 7\n"
)


@needs_pycuda
def test_a_frame_in_shared_memory_is_locked_once_and_read_where_it_is(driver: Path) -> None:
    code = IN_SHARED_MEMORY + (
        "with cuda.active():\n"
        "    print(cuda.reads_in_place(frame), cuda.reads_in_place(camera.picture(1, '|u1', (3, 4, 3))))\n"
        "    print(cuda.reads_in_place(frame.copy()), cuda.reads_in_place(frame[:, 1:]))\n"
        "    cuda.stream.upload(frame, on_gpu)\n"
        "print((cuda.get(on_gpu) == 7).all())\n"
        "del frame, camera\n"
        "cuda.close()\n"
        "print('closed', file=sys.stderr)"
    )
    done = python(driver, code)
    assert done.stdout.split() == ["True", "True", "False", "False", "True"]
    assert done.stderr.splitlines() == ["lock 36 bytes", "upload", "download", "synchronize", "unlock", "closed"]


@needs_pycuda
def test_pages_that_cannot_be_locked_are_tried_once(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAD_TEST_NO_LOCKS", "1")
    code = IN_SHARED_MEMORY + (
        "with cuda.active(): print(cuda.reads_in_place(frame), cuda.reads_in_place(frame))\n"
        "print(cuda.reads_in_place.problem)"
    )
    done = python(driver, code)
    assert done.stdout.splitlines()[0] == "False False"
    assert "cuMemHostRegister_v2 gave error 2" in done.stdout
    assert done.stderr.splitlines() == ["lock 36 bytes"]


# plans


REFUSED = """
from dataclasses import replace
from bundle_samples import plan_manifest, plan_tensors
from lad_edge.errors import LadEdgeError
from lad_edge.runtime import open_plan
device = replace(plan_manifest().device, version={version!r})
try: open_plan(device, {{}}, {{}}, file="x.plan")
except LadEdgeError as exc: print(exc)
"""


@pytest.mark.parametrize(
    ("gpu", "version", "here"),
    [
        (75, "1.7.1.116", "here: Host GPU 0 of compute capability 7.5"),
        (89, "0.1", "here: tensorrt_rtx "),
    ],
)
def test_a_plan_on_another_gpu_or_version_says_what_was_built_and_what_is_here(
    driver: Path, monkeypatch: pytest.MonkeyPatch, gpu: int, version: str, here: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    said = python(driver, REFUSED.format(version=version), gpu).stdout
    assert f"x.plan: built for compute capability 8.6, 8.9 by tensorrt_rtx {version} (Linux x86_64)" in said
    assert here in said
    assert "lad-edge build x.plan -o here.plan" in said
