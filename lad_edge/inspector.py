"""A bundle goes in once, then frames; for each a Result comes out: never an exception, never an unearned OK."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lad_edge import bundle as bundles
from lad_edge.errors import EngineError, ParityError, UsageError
from lad_edge.gate import Decision, Findings, Gate, Limits
from lad_edge.kernels import label_regions
from lad_edge.runtime import Runtime, check_plan, check_runtime, open_plan, open_runtime, preferred_precision
from lad_edge.runtime.identity import check_belongs_here
from lad_edge.scoring import FrameScorer, open_scorer
from lad_edge.values import Frame, Reason, Region, Result, Scores, Verdict
from lad_edge.views import PictureGate, PlaceOfMap, Sight

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from numpy.typing import NDArray

    from lad_edge.bundle import Bundle
    from lad_edge.views import Roi

_PLANS = 4  # geometries for which buffers are kept when the contract admits any
_MIN_REGION_PX = 4  # of the anomaly map: smaller ones are upsampling residue
_MOST_REGIONS = 32  # the strongest ones; a map of noise would make a record of megabytes


@dataclass(frozen=True)
class Options:
    """How to inspect; everything else stands in the bundle.

    threshold: replaces the calibrated one; deadline_ms, max_age_ms: see `gate.Limits`; live: see `gate.Gate`. cuda_graph: False = on a GPU
    the steps of a frame are enqueued one by one, to compare.
    maps_for: verdicts whose results carry their own copy of the anomaly map. gates: False lets pictures of any light, focus and place pass.
    roi: (x, y, width, height) of the camera's frame in px that is the engine's frame, None = all of it.
    """

    runtime: str | None = None
    precision: str | None = None
    threads: int | None = None
    threshold: float | None = None
    deadline_ms: float | None = None
    max_age_ms: float | None = None
    live: bool = False
    cuda_graph: bool = True
    maps_for: Collection[Verdict] = field(default_factory=lambda: frozenset(Verdict))
    gates: bool = True
    roi: Roi | None = None


def load(
    path: str | Path,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    threshold: float | None = None,
    deadline_ms: float | None = None,
) -> Inspector:
    """Opens a bundle and proves the engine on its golden frames; the inspector is then called with frames.

    runtime: "openvino" or "onnxruntime", None = the best one here; precision: one that the bundle is calibrated for;
    threads: of the engine, None = all cores; threshold, deadline_ms: see `Options`.
    Raises BundleError, EngineError, and ParityError when the self-test fails.
    """
    options = Options(runtime, precision, threads, threshold, deadline_ms)
    return Inspector(bundles.read(Path(path)), options)


class Inspector:
    """Owns the engine and its buffers. Not for several threads at once: open one for each line."""

    def __init__(self, bundle: Bundle, options: Options | None = None) -> None:
        self.bundle, self.options = bundle, options or Options()
        with ExitStack() as if_it_fails:
            self._scorers: OrderedDict[tuple[object, ...], FrameScorer] = OrderedDict()
            self.runtime = _open_engine(bundle, self.options)
            if_it_fails.callback(self.close)
            self.calibration = bundle.calibration(self.runtime.precision)
            self.sight = Sight.of(bundle, self.options.roi)
            contract = self.sight.of_camera(bundle.manifest.contract)
            self.gate = Gate(contract, self._limits(), live=self.options.live, picture=self._picture_gate())
            self._calls = self._challenges = 0
            self.self_test()
            if_it_fails.pop_all()

    @property
    def threshold(self) -> float:
        """The limit in force: the caller's, else the bundle's."""
        return self.gate.limits.threshold

    @property
    def engine_name(self) -> str:
        """What runs the networks: runtime, its version, precision."""
        return f"{self.runtime.name} {self.runtime.version} {self.runtime.precision}"

    @property
    def frame_path(self) -> str:
        """How frames of the geometry seen last run, in words: kernels on the CPU (and why, beside a GPU engine), or one CUDA graph."""
        return next(reversed(self._scorers.values())).line.where

    def __call__(self, image: NDArray[np.uint8], pixel_format: str | None = None) -> Result:
        """Inspects one picture that was captured just now: (H, W, 3) uint8 is taken as BGR, (H, W) as mono8."""
        if not isinstance(image, np.ndarray):
            raise UsageError(f"a frame is a numpy array (H, W, 3) or (H, W) of uint8; came {type(image).__name__}")
        self._calls += 1
        stated = pixel_format or ("mono8" if image.ndim == 2 else "bgr8")
        return self.inspect(Frame(self._calls, str(self._calls), image, stated, time.monotonic_ns(), time.time_ns()))

    def inspect(self, frame: Frame) -> Result:
        """The verdict on one frame; whatever goes wrong on the way is an UNKNOWN with its reason."""
        start_ns = time.monotonic_ns()
        found: Findings = []
        try:
            found += self.gate.admit(frame)
            scores, moved_px = None, (0, 0)
            if not found and frame.image is not None:
                window = self.sight(np.asarray(frame.image, np.uint8))
                moved_px = window.moved_px
                scores = self._score(window.inspected, frame.pixel_format)
                found += window.findings + self.gate.look(window.inspected)
            return self._result(frame, self.gate.decide(frame, found, scores), scores, start_ns, moved_px)
        except EngineError as exc:
            found.append((Reason(exc.reason), str(exc)))
        except Exception as exc:  # the line goes on: an UNKNOWN with its cause instead of a dead process
            found.append((Reason.INTERNAL, f"{type(exc).__name__}: {exc}"))
        return self._result(frame, self.gate.decide(frame, found, None), None, start_ns)

    def keep_warm(self) -> None:
        """Scores a golden frame and forgets it: clocks, caches and driver stay awake while no part comes."""
        self._score_golden(self.bundle.golden_frames[0])

    def self_test(self) -> None:
        """Scores the golden frames through the real path. Raises ParityError (SELF_TEST_FAILED) on any disagreement."""
        frames = self.bundle.golden_frames
        expected = self.bundle.golden_scores(self.runtime.precision)
        for index, (image, reference) in enumerate(zip(frames, expected, strict=True)):
            self._check_golden(index, image, float(reference))
        self.gate.verified = True

    def challenge(self) -> None:
        """Scores one golden frame, each time the next one, through the real path. Raises ParityError when it disagrees, EngineError."""
        index = self._challenges % len(self.bundle.golden_frames)
        self._challenges += 1
        reference = self.bundle.golden_scores(self.runtime.precision)[index]
        self._check_golden(index, self.bundle.golden_frames[index], float(reference))

    def open_again(self) -> Inspector:
        """Another inspector of the same bundle, opened and proven like this one, which is closed. Raises as the first opening did."""
        with suppress(EngineError):  # what has failed may fail to close too
            self.close()
        return Inspector(self.bundle, self.options)

    def close(self) -> None:
        """Frees the engine; the inspector cannot be used afterwards."""
        for scorer in self._scorers.values():
            scorer.close()
        self._scorers.clear()
        self.runtime.close()

    def __enter__(self) -> Inspector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _picture_gate(self) -> PictureGate | None:
        gates = self.bundle.manifest.gates
        return PictureGate(gates, self.bundle.tensors) if gates is not None and self.options.gates else None

    def _limits(self) -> Limits:
        given, calibration = self.options.threshold, self.calibration
        if given is not None and not math.isfinite(given):
            raise UsageError(f"the threshold must be a finite number; came {given}")
        return Limits(
            threshold=calibration.threshold if given is None else given,
            envelope=calibration.envelope,
            scores=self.bundle.scores(self.runtime.precision),
            deadline_ms=self.options.deadline_ms,
            max_age_ms=self.options.max_age_ms,
        )

    def _check_golden(self, index: int, image: NDArray[np.uint8], reference: float) -> None:
        score = self._score_golden(image).score
        tolerance = self.bundle.manifest.golden.tolerance[self.runtime.precision]
        allowed = tolerance * max(abs(reference), abs(self.calibration.threshold))
        # Within the tolerance the verdict can only change for a reference that lies that close to the threshold.
        if not abs(score - reference) <= allowed:
            raise ParityError(
                f"SELF_TEST_FAILED: golden frame {index} scores {score:.6g} with {self.engine_name}, the bundle "
                f"states {reference:.6g} ± {allowed:.2g}; export it again, or choose another --runtime or --precision"
            )

    def _score_golden(self, image: NDArray[np.uint8]) -> Scores:
        return self._score(self.sight.at_rest(image), self.bundle.manifest.contract.pixel_format)

    def _score(self, inspected: NDArray[np.uint8], pixel_format: str) -> Scores:
        scorer = self._scorer(inspected, pixel_format)
        scorer.enqueue(inspected)
        return scorer.wait()

    def _scorer(self, image: NDArray[np.generic], pixel_format: str) -> FrameScorer:
        key = (*image.shape, pixel_format)
        scorer = self._scorers.get(key)
        if scorer is None:
            graph = self.options.cuda_graph
            scorer = open_scorer(_for_windows(self.bundle), self.runtime, image.shape, pixel_format, cuda_graph=graph)
            self._scorers[key] = scorer
            if len(self._scorers) > _PLANS:
                self._scorers.popitem(last=False)[1].close()
        self._scorers.move_to_end(key)
        return scorer

    def _result(
        self,
        frame: Frame,
        decision: Decision,
        scores: Scores | None,
        start_ns: int,
        moved_px: tuple[int, int] = (0, 0),
    ) -> Result:
        result = Result(
            seq=frame.seq,
            frame_id=frame.frame_id,
            verdict=decision.verdict,
            reasons=decision.reasons,
            captured_ns=frame.captured_ns,
            utc_ns=frame.utc_ns,
            threshold=self.threshold,
            detail=decision.detail,
            roi_px=self.options.roi,
            stages_us=_stages(frame, scores, start_ns),
            engine_sha256=self.bundle.sha256,
        )
        return (
            result if scores is None else self._scored(result, scores, self._place(frame, scores, moved_px), moved_px)
        )

    def _scored(self, result: Result, scores: Scores, place: PlaceOfMap, moved_px: tuple[int, int]) -> Result:
        """The result with what the scores say; places and sentences are worth their time for rejected parts only."""
        rejected, with_map = result.verdict is Verdict.NG, result.verdict in self.options.maps_for
        score = _finite(scores.score)
        return replace(
            result,
            score=score,
            p_value=None if score is None else self.gate.p_value(score),
            structural_score=_finite(scores.structural),
            logical_score=_finite(scores.logical),
            regions=self._regions(scores, place) if rejected else (),
            findings=scores.explain() if rejected else (),
            good_patches=tuple(map(place.patch, scores.show_good())) if rejected and with_map else (),
            moved_px=None if self.sight.follower is None else moved_px,
            anomaly_map=np.array(self.sight.shown(scores.anomaly_map)) if with_map else None,
        )

    def _regions(self, scores: Scores, place: PlaceOfMap) -> tuple[Region, ...]:
        """Areas above the threshold, in pixels of the frame."""
        found = label_regions(self.sight.shown(scores.anomaly_map), self.threshold, min_area_px=_MIN_REGION_PX)
        return tuple(place.region(each) for each in found[:_MOST_REGIONS])

    def _place(self, frame: Frame, scores: Scores, moved_px: tuple[int, int]) -> PlaceOfMap:
        assert frame.image is not None  # noqa: S101 - scores exist only for a picture
        x, y, width, height = self.sight.area or (0, 0, frame.image.shape[1], frame.image.shape[0])
        return PlaceOfMap((x + moved_px[0], y + moved_px[1], width, height), scores.anomaly_map.shape)


def check_options(bundle: Bundle, runtime: str | None, precision: str | None) -> None:
    """Whether these may be asked of an engine; it is not started. Raises UsageError, EngineError, MissingDependencyError."""
    device = bundle.manifest.device
    if device is not None:
        check_plan(device, str(bundle.path), runtime, precision)
        check_belongs_here(device, str(bundle.path))
        return
    check_runtime(runtime, _precision(bundle, runtime, precision))


def _precision(bundle: Bundle, runtime: str | None, asked: str | None) -> str:
    """That of a lad. Raises EngineError for one that it is not calibrated for, or when none of its own is native here."""
    if asked is None:
        return preferred_precision(runtime, bundle.manifest.calibrations)
    bundle.calibration(asked)  # raises with the list of those that there are
    return asked


def _open_engine(bundle: Bundle, options: Options) -> Runtime:
    """A plan runs as it was built; a lad at the asked precision, else the fastest that is native here and calibrated for."""
    device = bundle.manifest.device
    if device is not None:
        asked = {"runtime": options.runtime, "precision": options.precision}
        return open_plan(device, bundle.graphs(), bundle.caches(), file=str(bundle.path), **asked)
    precision = _precision(bundle, options.runtime, options.precision)
    return open_runtime(options.runtime, bundle.graphs(), precision=precision, threads=options.threads)


def _for_windows(bundle: Bundle) -> Bundle:
    """The same engine for pictures that are the region of interest."""
    manifest = bundle.manifest
    return replace(bundle, manifest=replace(manifest, contract=replace(manifest.contract, roi=None)))


def _finite(value: float) -> float | None:
    """What is not finite is not a number that anybody may use."""
    return value if math.isfinite(value) else None


def _stages(frame: Frame, scores: Scores | None, start_ns: int) -> dict[str, float]:
    """Durations in µs: wait = capture to start, pre/infer/post = the scorer's, total = capture to verdict."""
    now_ns = time.monotonic_ns()
    own = scores.stages_us if scores is not None else {}
    return {"wait": (start_ns - frame.captured_ns) / 1e3, **own, "total": (now_ns - frame.captured_ns) / 1e3}
