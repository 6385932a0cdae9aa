"""Failures of generation, by class: found by rule in what was measured of each video, not picked by hand.

Measured are the figures of ``t4g video-metrics``, and the consistency of the tracks of ``t4g generate``. None
of them knows impossible motion or a face that is wrong: such failures only people find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, median_high

from t4g_tracker.outputs.generated import GeneratedFolder, video_name
from t4g_tracker.storage.files import file_digest

STILL, FLICKER, DRIFT, LOST = KINDS = "still", "flicker", "drift", "lost"
STILL_PERCENT = 90.0  # of pixels that do not move
FLICKER_PERCENT = 5.0  # warp error; five real clips at 6 frames a second have 0.8 to 3.2
JUMP_PERCENT, JUMP_TIMES = 3.0, 2.0  # warp error of one frame, and how many times the median
DRIFT_COSINE = 0.75  # of CLIP embeddings, to the first frame
LOST_SHARE = 0.5  # of matches lead back
ENDING = 4  # the last frames that drift is taken from are so small a part of all


@dataclass(frozen=True)
class GenerationClass:
    """A class of failures, for readers."""

    heading: str
    rule: str
    measured_by: str  # a command, to follow "run"


# all measures in one command, since each run writes over the figures of the one before
_METRICS = "t4g video-metrics FOLDER --measures motion clipsim and give its --out to t4g gallery too"
CLASSES = {
    STILL: GenerationClass(
        "Stands still",
        f"Videos in which {STILL_PERCENT:g} % of the pixels or more do not move, on average over the frames.",
        _METRICS,
    ),
    FLICKER: GenerationClass(
        "Flickers or falls apart",
        "Videos whose colours change by what is no motion: the warp error is "
        f"{FLICKER_PERCENT:g} % or more in half of the frames, or in one frame {JUMP_PERCENT:g} % or more "
        f"and at least {JUMP_TIMES:g} times the video's median.",
        _METRICS,
    ),
    DRIFT: GenerationClass(
        "Drifts away from its picture",
        "Videos whose last frames are unlike the first: the cosine of their CLIP embeddings is below "
        f"{DRIFT_COSINE:g}, on average over the last quarter.",
        _METRICS,
    ),
    LOST: GenerationClass(
        "Loses its points",
        f"Videos in which fewer than {100 * LOST_SHARE:g} % of the matches of embedded tracks lead back to "
        "within a cell of their point.",
        "t4g generate with --embed-tracks",
    ),
}


@dataclass(frozen=True)
class GeneratedEvidence:
    """What was measured of a generated video of T frames."""

    video: Path
    model: str
    image: str
    seed: int
    pairs: Mapping[str, Sequence[float]]  # T - 1 values of each figure of t4g video-metrics that was measured
    consistency: float | None = None  # share of matches that lead back, 0..1, if points were tracked

    def known(self, kind: str) -> bool:
        """Whether a class could be looked for."""
        needed = {STILL: "static", FLICKER: "warp error", DRIFT: "CLIP to first"}
        return self.consistency is not None if kind == LOST else bool(self.pairs.get(needed[kind]))


@dataclass(frozen=True)
class GenerationFailure:
    """A video that went wrong."""

    kind: str  # still, flicker, drift or lost
    frame: int | None  # where it shows, counted from 0; None: in all of the video
    weight: float  # the larger, the worse, within a kind
    text: str  # what is said of the video
    values: tuple[str, ...] = ()  # T - 1, of each frame but the first


def evidence_of(
    folder: GeneratedFolder, measured: Mapping[str, Mapping[str, Sequence[float]]]
) -> list[GeneratedEvidence]:
    """Collect what is known of the videos of a folder.

    Args:
        folder: Generated videos.
        measured: The pairs of ``GeneratedEvidence``, by the digest of the video's file.
    """
    return [
        GeneratedEvidence(
            path,
            model,
            scene.image,
            scene.seed,
            measured.get(file_digest(path) or "", {}),
            folder.recorded.consistency.get(video_name(scene.image, model, scene.seed)),
        )
        for scene in folder.scenes
        for model, path in scene.videos.items()
    ]


def find_failure(evidence: GeneratedEvidence, kind: str) -> GenerationFailure | None:
    """Look for a class of failure in a video; None if it is not there, or was not measured."""
    rules: dict[str, Callable[[GeneratedEvidence], GenerationFailure | None]] = {
        STILL: _still,
        FLICKER: _flicker,
        DRIFT: _drift,
        LOST: _lost,
    }
    return rules[kind](evidence) if evidence.known(kind) else None


def _still(evidence: GeneratedEvidence) -> GenerationFailure | None:
    static = evidence.pairs["static"]
    mean = fmean(static)
    if mean < STILL_PERCENT:
        return None
    text = f"{mean:.1f} % of its pixels do not move from one frame to the next"
    return GenerationFailure(STILL, None, mean, text, tuple(f"{value:.0f} % still" for value in static))


def _flicker(evidence: GeneratedEvidence) -> GenerationFailure | None:
    """All over the video, or at one frame."""
    errors = evidence.pairs["warp error"]
    usual, worst = median(errors), max(errors)
    in_half = median_high(errors)  # so many percent or more
    values = tuple(f"{value:.1f} %" for value in errors)
    if in_half >= FLICKER_PERCENT:
        text = f"its colours change by {in_half:.1f} % or more in half of its frames, beside what moves"
        return GenerationFailure(FLICKER, None, worst, text, values)
    if worst < JUMP_PERCENT or worst < JUMP_TIMES * usual:
        return None
    frame = errors.index(worst) + 1
    change = f"its colours change by {worst:.1f} % in frame {frame}, beside what moves"
    text = f"{change}, and usually by {usual:.1f} %"
    return GenerationFailure(FLICKER, frame, worst, text, values)


def _drift(evidence: GeneratedEvidence) -> GenerationFailure | None:
    cosines = evidence.pairs["CLIP to first"]
    end = fmean(cosines[-max(1, len(cosines) // ENDING) :])
    if end >= DRIFT_COSINE:
        return None
    text = f"by CLIP, its last frames are unlike the first, with a cosine of {end:.2f}"
    return GenerationFailure(DRIFT, None, 1 - end, text, tuple(f"cosine {value:.2f}" for value in cosines))


def _lost(evidence: GeneratedEvidence) -> GenerationFailure | None:
    share = evidence.consistency
    if share is None or share >= LOST_SHARE:
        return None
    return GenerationFailure(LOST, None, 1 - share, f"{share:.1%} of the matches of its points lead back")
