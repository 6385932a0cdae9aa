"""Measuring videos by the chosen measures, with what these need loaded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from t4g_tracker.choices import LpipsBackbone, VideoMeasure
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import WeightsError
from t4g_tracker.features.layouts import CLIP
from t4g_tracker.features.settings import CLIP_LARGE_MODEL, CLIP_MODEL
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.stage_log import Progress
from t4g_tracker.video_metrics.clip import ClipEncoder, find_clip, first_cosines, neighbour_cosines
from t4g_tracker.video_metrics.listing import ListedVideo
from t4g_tracker.video_metrics.lpips import Lpips, find_backbone
from t4g_tracker.video_metrics.motion import MOTION_FIGURES, motion_figures

FIGURES: dict[VideoMeasure, tuple[str, ...]] = {
    "clipsim": ("CLIPSIM", "CLIP to first"),
    "lpips": ("LPIPS",),
    "motion": MOTION_FIGURES,
}


@dataclass(frozen=True)
class VideoScores:
    """The figures of one video of T frames."""

    video: ListedVideo
    frames: int
    size: tuple[int, int]  # (H, W)
    pairs: dict[str, list[float]] = field(default_factory=dict)  # T - 1 values of each figure

    @property
    def figures(self) -> dict[str, float]:
        """The mean over the pairs of frames, by name."""
        return {name: sum(values) / len(values) for name, values in self.pairs.items()}


@dataclass(frozen=True)
class Measures:
    """Which measures, and which models they use."""

    chosen: tuple[VideoMeasure, ...] = get_args(VideoMeasure)
    clip: str = CLIP_MODEL
    lpips: LpipsBackbone = "alex"

    @property
    def names(self) -> list[str]:
        """The names of the figures, in the order of tables."""
        return [name for measure in FIGURES if measure in self.chosen for name in FIGURES[measure]]

    def check(self) -> Path | None:
        """Look for the weights, before any work; never uses the network.

        Returns:
            The folder of CLIP, if it is needed.

        Raises:
            WeightsError: Names every measure whose weights are missing, and what to do.
        """
        faults, remedies, folder = [], [], None
        if "clipsim" in self.chosen:
            try:
                folder = find_clip(self.clip)
            except WeightsError as error:
                if str(error).startswith(CLIP.setting):
                    raise
                faults.append(f"clipsim cannot be measured, {error}")
                remedies.append(_how_to_get(self.clip))
        if "lpips" in self.chosen:
            try:
                find_backbone(self.lpips)
            except WeightsError as error:
                faults.append(f"lpips cannot be measured, {error}")
                remedies.append(f"run t4g weights get lpips-{self.lpips}")
        if faults:
            others = [name for name in FIGURES if not any(fault.startswith(name) for fault in faults)]
            raise WeightsError(
                f"{'; '.join(faults)}; {' and '.join(remedies)}, or choose --measures {' '.join(others)}"
            )
        return folder


class Meter:
    """Measures videos.

    Args:
        measures: Which, checked here.
        device: Where models run.

    Raises:
        WeightsError: If weights are missing or do not fit.
    """

    def __init__(self, measures: Measures, device: torch.device) -> None:
        folder, chosen = measures.check(), measures.chosen
        self.clip = ClipEncoder(folder, device) if folder is not None else None
        self.lpips = Lpips(measures.lpips, device) if "lpips" in chosen else None
        self.flow = FlowEstimator(FlowConfig(method="dis"), device) if "motion" in chosen else None

    def measure(
        self, video: Video, listed: ListedVideo, progress: Progress = lambda done, total: None
    ) -> VideoScores:
        """Measure every pair of neighbouring frames of a video.

        Args:
            video: T frames, at least 2.
            listed: Where it is from.
            progress: Called with (frames done, frames in all), where a frame counts once for each measure.

        Raises:
            VideoError: If the frames are too small for LPIPS.
        """
        found: dict[str, Tensor] = {}
        models = [model for model in (self.clip, self.lpips, self.flow) if model is not None]

        def advance_of(model: ClipEncoder | Lpips | FlowEstimator) -> Callable[[int], None]:
            before, count = models.index(model) * video.frame_count, len(models) * video.frame_count
            return lambda done: progress(before + done, count)

        if self.clip is not None:
            embeddings = self.clip.embeddings(video, advance_of(self.clip))
            cosines = (neighbour_cosines(embeddings), first_cosines(embeddings))
            found |= zip(FIGURES["clipsim"], cosines, strict=True)
        if self.lpips is not None:
            found["LPIPS"] = self.lpips.distances(video, advance_of(self.lpips))
        if self.flow is not None:
            found |= motion_figures(video, self.flow, advance_of(self.flow))
        pairs = {name: values.tolist() for name, values in found.items()}
        return VideoScores(listed, video.frame_count, video.size, pairs)


def _how_to_get(model: str) -> str:
    """Say how to get a CLIP of a hub name or folder."""
    names = {CLIP_MODEL: "clip", CLIP_LARGE_MODEL: "clip-large"}
    if model in names:
        return f"run t4g weights get {names[model]}"
    return f"download it, and give its folder by {CLIP.setting}"
