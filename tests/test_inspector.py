"""The inspector on real parts: verdicts, regions, self-test, and no exception whatever the frame or the engine does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from tiny import BLUE_SPOT, good_picture, spotted_picture

import lad_edge
from lad_edge.errors import EngineError, ParityError, UsageError
from lad_edge.inspector import Inspector, Options
from lad_edge.values import Frame, Reason, Verdict

OpenInspector = Callable[..., Inspector]


def test_a_good_picture_is_ok_and_carries_all_numbers(open_inspector: OpenInspector) -> None:
    inspector = open_inspector()
    result = inspector(good_picture(1))
    assert (result.verdict, result.reasons) == (Verdict.OK, (Reason.SCORE_WITHIN_LIMIT,))
    assert result.score is not None
    assert result.score <= result.threshold == inspector.threshold
    assert 0 < result.p_value <= 1
    assert set(result.stages_us) == {"wait", "pre", "infer", "post", "total"}
    assert result.engine_sha256 == inspector.bundle.sha256


@pytest.mark.parametrize(
    ("colour", "cause"),
    [((255, 255, 255), Reason.STRUCTURAL_ABOVE_LIMIT), (BLUE_SPOT, Reason.LOGICAL_ABOVE_LIMIT)],
)
def test_a_spot_is_ng_with_the_branch_that_saw_it(
    open_inspector: OpenInspector, colour: tuple[int, ...], cause: Reason
) -> None:
    result = open_inspector()(spotted_picture(1, colour))
    assert (result.verdict, result.reasons) == (Verdict.NG, (cause,))
    assert result.p_value == pytest.approx(1 / 61)


def test_a_region_covers_the_spot_in_pixels_of_the_frame(open_inspector: OpenInspector) -> None:
    (region,) = open_inspector()(spotted_picture(1)).regions
    assert region.x_px <= 24
    assert region.y_px <= 16
    assert region.x_px + region.width_px >= 40
    assert region.y_px + region.height_px >= 32
    assert 24 <= region.peak_x_px < 40
    assert 16 <= region.peak_y_px < 32


def test_a_region_is_found_through_the_region_of_interest(open_inspector: OpenInspector) -> None:
    (region,) = open_inspector(roi=(16, 8, 40, 32))(spotted_picture(1)).regions
    assert 24 <= region.peak_x_px < 40
    assert 16 <= region.peak_y_px < 32
    assert region.x_px >= 16
    assert region.x_px + region.width_px <= 56


def test_a_spot_outside_the_region_of_interest_is_not_judged(open_inspector: OpenInspector) -> None:
    picture = good_picture(1)
    picture[:8, :8] = 255
    assert open_inspector(roi=(16, 8, 40, 32))(picture).verdict is Verdict.OK
    assert open_inspector()(picture).verdict is Verdict.NG


def test_the_map_of_a_result_survives_the_next_frame(open_inspector: OpenInspector) -> None:
    inspector = open_inspector()
    first = inspector(spotted_picture(1))
    kept = first.anomaly_map.copy()
    inspector(good_picture(2))
    np.testing.assert_array_equal(first.anomaly_map, kept)


def test_maps_are_copied_only_for_the_wanted_verdicts(open_inspector: OpenInspector) -> None:
    inspector = open_inspector(Options(maps_for=frozenset({Verdict.NG})))
    assert inspector(good_picture(1)).anomaly_map is None
    assert inspector(spotted_picture(2)).anomaly_map is not None


def test_nan_in_the_network_is_unknown_and_leaves_no_number(open_inspector: OpenInspector) -> None:
    picture = good_picture(1)
    picture[16:32, 24:40] = 0
    result = open_inspector(dark_is_nan=True)(picture)
    assert (result.verdict, result.reasons) == (Verdict.UNKNOWN, (Reason.OUTPUT_INVALID,))
    assert result.score is None
    assert result.p_value is None


def test_a_score_outside_the_calibrated_envelope_is_unknown(open_inspector: OpenInspector) -> None:
    result = open_inspector(envelope=(-10.0, 100.0))(spotted_picture(1))
    assert result.reasons == (Reason.OUTPUT_INVALID,)
    assert result.score > 100.0


def test_a_frame_of_another_size_is_unknown_and_the_next_one_is_judged(open_inspector: OpenInspector) -> None:
    inspector = open_inspector()
    assert inspector(good_picture(1)[:40]).reasons == (Reason.FRAME_FORMAT,)
    assert inspector(good_picture(1)).verdict is Verdict.OK


def test_a_grey_picture_is_not_taken_for_a_colour_one(open_inspector: OpenInspector) -> None:
    assert open_inspector()(good_picture(1)[:, :, 0].copy()).reasons == (Reason.FRAME_FORMAT,)


def test_a_mono_contract_takes_mono_frames(open_inspector: OpenInspector) -> None:
    inspector = open_inspector(pixel_format="mono8")
    grey = good_picture(1, (tiny.HEIGHT, tiny.WIDTH))
    assert inspector(grey).verdict is Verdict.OK
    assert inspector(np.repeat(grey[..., None], 3, axis=2)).reasons == (Reason.FRAME_FORMAT,)


def test_without_a_fixed_geometry_any_size_is_judged_and_few_plans_are_kept(open_inspector: OpenInspector) -> None:
    inspector = open_inspector(geometry=(None, None))
    for i in range(7):
        assert inspector(good_picture(i, (40 + 8 * i, 64, 3))).score is not None
    assert len(inspector._scorers) == 4


def test_the_threshold_of_the_caller_is_in_force(open_inspector: OpenInspector) -> None:
    inspector = open_inspector(Options(threshold=1e5))
    result = inspector(spotted_picture(1))
    assert result.verdict is Verdict.OK
    assert result.threshold == 1e5


def test_a_threshold_that_is_not_finite_is_refused(open_inspector: OpenInspector) -> None:
    with pytest.raises(UsageError, match="finite"):
        open_inspector(Options(threshold=float("nan")))


def test_a_deadline_that_was_missed_is_unknown_and_keeps_the_score(open_inspector: OpenInspector) -> None:
    result = open_inspector(Options(deadline_ms=1e-6))(good_picture(1))
    assert result.reasons == (Reason.DEADLINE,)
    assert result.score is not None


def test_an_engine_that_fails_in_a_frame_is_unknown_and_the_next_frame_is_judged(
    open_inspector: OpenInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector = open_inspector()
    with monkeypatch.context() as patch:
        patch.setattr(inspector, "_scorer", _raising(EngineError("the engine has gone")))
        crashed = inspector(good_picture(1))
        patch.setattr(inspector, "_scorer", _raising(ZeroDivisionError("a bug")))
        broken = inspector(good_picture(2))
    assert (crashed.verdict, crashed.reasons) == (Verdict.UNKNOWN, (Reason.ENGINE_CRASH,))
    assert "the engine has gone" in crashed.detail
    assert (broken.verdict, broken.reasons) == (Verdict.UNKNOWN, (Reason.INTERNAL,))
    assert inspector(good_picture(3)).verdict is Verdict.OK


def test_a_closed_engine_is_an_unknown_not_an_exception(open_inspector: OpenInspector) -> None:
    inspector = open_inspector()
    inspector(good_picture(1))
    inspector.runtime.close()
    assert inspector(good_picture(2)).reasons == (Reason.ENGINE_CRASH,)


@pytest.mark.parametrize("error", [0.05, -0.05, 1.0])
def test_golden_frames_that_score_otherwise_stop_the_start(open_inspector: OpenInspector, error: float) -> None:
    with pytest.raises(ParityError, match="SELF_TEST_FAILED: golden frame 0"):
        open_inspector(golden_error=error)


def test_every_result_of_a_runtime_equals_that_of_the_other(make_bundle: Callable[..., Path]) -> None:
    path = make_bundle()
    with lad_edge.load(path, runtime="openvino") as one, lad_edge.load(path, runtime="onnxruntime") as other:
        for seed in range(10):
            picture = spotted_picture(seed) if seed % 3 == 0 else good_picture(seed)
            first, second = one(picture), other(picture)
            assert (first.verdict, first.reasons) == (second.verdict, second.reasons)
            assert first.score == pytest.approx(second.score, rel=1e-4, abs=1e-5)


def test_a_precision_without_calibration_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match="calibrated for f32"):
        lad_edge.load(tiny_bundle, precision="bf16")


def test_what_is_no_array_is_refused(open_inspector: OpenInspector) -> None:
    with pytest.raises(UsageError, match="numpy array"):
        open_inspector()([[1, 2], [3, 4]])


def test_an_unverified_frame_order_is_noticed(open_inspector: OpenInspector) -> None:
    inspector = open_inspector()
    inspector.inspect(Frame(9, "9", good_picture(1), "bgr8", 0, 0))
    assert inspector.inspect(Frame(8, "8", good_picture(2), "bgr8", 0, 0)).reasons == (Reason.FRAME_ORDER,)


def test_the_edge_judges_without_torch_or_onnx(tiny_bundle: Path) -> None:
    program = (
        "import sys, numpy, lad_edge\n"
        "assert 'cv2' not in sys.modules and 'openvino' not in sys.modules and 'numpy' in sys.modules\n"
        f"result = lad_edge.load({str(tiny_bundle)!r})(numpy.full((48, 64, 3), 128, numpy.uint8))\n"
        "assert result.verdict is lad_edge.Verdict.OK, result\n"
        "assert not {'torch', 'onnx', 'onnxscript'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120)


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, lad_edge; assert not {'numpy', 'cv2', 'openvino', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_public_names_are_all_there() -> None:
    assert all(getattr(lad_edge, name) is not None for name in lad_edge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = lad_edge.nonsense


def test_the_version_is_that_of_the_project() -> None:
    project = Path(__file__).parent.parent / "pyproject.toml"
    assert f'version = "{lad_edge.__version__}"' in project.read_text()


def _raising(exc: Exception) -> Callable[..., object]:
    def scorer(*_args: object) -> object:
        raise exc

    return scorer
