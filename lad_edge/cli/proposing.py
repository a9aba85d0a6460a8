"""An engine, the parts that it judged and what the operator said of them go in; a better engine, and what it would change, come out.

A taught engine is fitted again with the parts that it rejected falsely. Any other gets a threshold that rests on their scores as well.
If a missed part still lies under the threshold, the threshold goes down to it, as long as few enough good parts are rejected then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lad_edge.bundle import Bundle, Manifest, Policy, rethresholded
from lad_edge.cli.teach_options import policy_for
from lad_edge.errors import DataError, UsageError
from lad_edge.inspector import Inspector, Options
from lad_edge.teaching import DETECTOR, Lesson
from lad_edge.teaching import Options as Lessons
from lad_edge.thresholds import choose, parse_policy
from lad_edge.values import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lad_edge.cli.kept_parts import KeptPart

_BELOW = 1e-3  # of its score: how far the threshold goes under a missed part


@dataclass(frozen=True)
class Said:
    """What the operator said: parts that were good and rejected, parts that were bad and released."""

    false_rejects: Sequence[KeptPart]
    missed: Sequence[KeptPart]

    def is_good(self, part: KeptPart) -> bool:
        """By what was said, else by the verdict: OK was good, the rest was not."""
        if part in self.missed:
            return False
        return part in self.false_rejects or part.verdict is Verdict.OK


@dataclass(frozen=True)
class Told:
    """What an engine says of good parts that it was not fitted to, and of the parts of the history.

    good: sorted scores that its threshold rests on; verdicts: name of a part → verdict; threshold: in force.
    """

    threshold: float
    good: NDArray[np.float64]
    scores: Mapping[str, float]
    verdicts: Mapping[str, Verdict]

    @property
    def expected_false_rejects(self) -> float:
        """Share of the good parts that the threshold rests on, which lie above it."""
        return float(np.mean(self.good > self.threshold))


@dataclass(frozen=True)
class Proposal:
    """The new engine. before, after: what both say; caught: whether every missed part is found now.

    left_out: parts of other engines, and parts whose pictures are gone. refitted: whether it scores otherwise than before.
    """

    manifest: Manifest
    tensors: Mapping[str, NDArray[Any]]
    before: Told
    after: Told
    caught: bool
    left_out: int
    refitted: bool


def check_said(engine: Bundle, said: Said) -> None:
    """Raises UsageError for labels that contradict each other or the record, DataError for records of another engine."""
    both = [part.name for part in said.false_rejects if part in said.missed]
    if both:
        raise UsageError(f"part {both[0]} cannot be a false reject and missed at once; decide for one")
    if not said.false_rejects and not said.missed:
        raise UsageError("nothing was said of any part; name parts with --false-reject and --missed")
    for part in said.false_rejects:
        _check_part(engine, part, part.verdict is not Verdict.OK, "--false-reject")
    for part in said.missed:
        _check_part(engine, part, part.verdict is Verdict.OK, "--missed")


def propose(
    engine: Bundle,
    parts: Sequence[KeptPart],
    said: Said,
    options: Options,
    policy: str | None,
    most_false_rejects: float,
) -> Proposal:
    """policy: of the new threshold, None = as before. most_false_rejects: share of good parts that may be rejected for a missed one.

    Raises DataError for pictures that are gone or cannot be judged, UsageError, and as `Inspector`.
    """
    own = [part for part in parts if part.record["engine_sha256"] == engine.sha256 and part.picture.is_file()]
    before, precision = _look(engine, options, own, {})
    if engine.manifest.detector == DETECTOR:
        made, unseen = _taught_again(engine, said.false_rejects, options, policy)
    else:
        more = [before.scores[part.name] for part in said.false_rejects]
        made, unseen = _calibrated_again(engine, precision, more, policy), {}
    refitted = made.manifest.detector == DETECTOR and made is not engine
    after, _ = _look(made, options, own, unseen)
    lower = _under_missed(after, said.missed)
    if lower is not None and float(np.mean(after.good > lower)) <= most_false_rejects:
        made = _with_threshold(made, precision, made.scores(precision), ("fixed", lower))
        after, _ = _look(made, options, own, unseen)
    caught = all(after.verdicts[part.name] is not Verdict.OK for part in said.missed)
    return Proposal(made.manifest, made.tensors, before, after, caught, len(parts) - len(own), refitted)


def _check_part(engine: Bundle, part: KeptPart, fits: bool, option: str) -> None:
    if not fits:
        raise UsageError(
            f"{option} {part.name} contradicts its record, which says {part.verdict.value}; look the number up again"
        )
    judged_by = str(part.record["engine_sha256"])
    if judged_by != engine.sha256:
        raise DataError(
            f"part {part.name} was judged by the engine {judged_by[:12]}…, {engine.path} is {engine.sha256[:12]}…; propose "
            "for that one, or name parts that this one judged"
        )
    part.frame(engine.manifest.contract.pixel_format)
    if part.record["score"] is None:
        raise DataError(f"part {part.name} was not scored ({part.record['detail']}); there is nothing to learn from it")


def _taught_again(
    engine: Bundle, false_rejects: Sequence[KeptPart], options: Options, policy: str | None
) -> tuple[Bundle, Mapping[str, float]]:
    """The engine with more good parts, and the score of each of them by ridges that never saw it."""
    if not false_rejects and policy is None:
        return engine, {}
    lessons = Lessons(
        runtime=options.runtime,
        precision=options.precision,
        threads=options.threads,
        policy=policy_for(policy, engine),
    )
    with Lesson(lessons, engine) as lesson:
        for part in false_rejects:
            if part.name in lesson.shown.names:
                raise UsageError(f"--false-reject {part.name}: the engine was taught this part already; leave it out")
            frame = part.frame(engine.manifest.contract.pixel_format)
            lesson.show(part.name, np.asarray(frame.image, np.uint8), frame.pixel_format)
        taught = lesson.finish()
    return Bundle(taught.manifest, taught.tensors, "", engine.path), taught.scores


def _calibrated_again(engine: Bundle, precision: str, more: Sequence[float], policy: str | None) -> Bundle:
    """The engine with a threshold that rests on more good scores."""
    before = engine.calibration(precision).policy
    chosen = (before.name, before.value) if policy is None else parse_policy(policy)
    return _with_threshold(engine, precision, np.sort([*engine.scores(precision), *more]), chosen)


def _with_threshold(engine: Bundle, precision: str, scores: NDArray[np.float64], policy: tuple[str, float]) -> Bundle:
    chosen = choose(scores, *policy)
    stated = Policy(chosen.policy, chosen.parameter, chosen.n, chosen.statement)
    manifest, tensors = rethresholded(engine, {precision: (chosen.value, stated)}, {precision: scores})
    return replace(engine, manifest=manifest, tensors=tensors, sha256="")


def _look(engine: Bundle, options: Options, parts: Sequence[KeptPart], unseen: Mapping[str, float]) -> tuple[Told, str]:
    """What an engine says of the parts, and its precision. unseen: scores of those that it was fitted to, by an engine that was not."""
    scores: dict[str, float] = {}
    verdicts: dict[str, Verdict] = {}
    with Inspector(engine, options) as inspector:
        limit, precision = inspector.threshold, inspector.runtime.precision
        for seq, part in enumerate(parts, 1):
            result = inspector.inspect(replace(part.frame(engine.manifest.contract.pixel_format), seq=seq))
            verdicts[part.name] = result.verdict
            if result.score is not None:
                scores[part.name] = result.score
            if part.name in unseen:
                scores[part.name] = unseen[part.name]
                verdicts[part.name] = Verdict.OK if unseen[part.name] <= limit else Verdict.NG
    return Told(limit, engine.scores(precision), scores, verdicts), precision


def _under_missed(told: Told, missed: Sequence[KeptPart]) -> float | None:
    """The threshold that finds every missed part; None if they are found already."""
    still = [told.scores[part.name] for part in missed if told.verdicts[part.name] is Verdict.OK]
    return min(still) * (1 - _BELOW) if still else None
