"""Real videos as training clips, with tracks chained from optical flow as in Track4Gen's training data.

Source: supplement 1.1 of Track4Gen, arXiv:2412.06016.
"""

from __future__ import annotations

import glob
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from t4g_tracker.coordinates import Size, middle_part
from t4g_tracker.datatypes import Trajectories, Video
from t4g_tracker.errors import DatasetError, NothingToFollowError, VideoError
from t4g_tracker.flow.estimator import FlowEstimator, resolve_flow, weights_stamp
from t4g_tracker.flow.settings import FlowConfig, flow_size
from t4g_tracker.inputs.image_sequences import image_files
from t4g_tracker.inputs.video import read_video, working_frames
from t4g_tracker.motion.fields import pairs_over_gaps
from t4g_tracker.motion.settings import MotionConfig, TrajectoriesConfig
from t4g_tracker.motion.trajectories import make_trajectories
from t4g_tracker.storage.cache import make_key
from t4g_tracker.storage.files import prepare_output_folder
from t4g_tracker.synthetic.clips import TrainingClip
from t4g_tracker.training.loop.items import read_cached, write_cached

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


@dataclass(frozen=True)
class RealClips:
    """Stretches of real videos, whose tracks are chained from flow once and cached.

    Args:
        videos: Folder of video files, or of folders of frames.
        frames: T frames of a clip; videos are cut into stretches of this length.
        size: (H, W) of the clips: the middle of the frame, cut to this aspect and resized.
        points: N tracks of each clip.
        folder: Cache of the clips.
        flow: Settings of optical flow.
        device: Where the flow runs.

    Raises:
        DatasetError: If no clip can be made of any video.
        OutputError: If ``folder`` cannot be written.
    """

    videos: Path
    frames: int
    size: Size
    points: int
    folder: Path
    flow: FlowConfig = field(default_factory=FlowConfig)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    files: list[Path] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        prepare_output_folder(self.folder)
        estimator = FlowEstimator(self.flow, self.device)
        for source in find_videos(self.videos):
            try:
                self.files.extend(self._prepare(source, estimator))
            except VideoError as error:
                log.warning("left out: %s", error)
        if not self.files:
            raise DatasetError(
                f"{self.videos}: no video in it has {self.frames} frames whose flow is consistent; "
                "give longer videos, or set clips.frames lower"
            )

    def __len__(self) -> int:
        return len(self.files)

    def clip(self, index: int) -> TrainingClip:
        """Read clip ``index``.

        Raises:
            DatasetError: If its file is damaged.
        """
        clip = read_cached(self.files[index], TrainingClip)
        if clip is None:
            video = self.files[index].stem.rpartition("-")[0]
            (self.folder / f"{video}.done").unlink(missing_ok=True)
            raise DatasetError(f"{self.files[index]}: is damaged; run the same command again to replace it")
        return clip

    def _prepare(self, source: Path, estimator: FlowEstimator) -> list[Path]:
        """List the files of one video's clips, after making them if they are not cached."""
        name = f"{source.name}-{self._key(source)}"
        done = self.folder / f"{name}.done"
        if not done.exists():
            video = cut_to_aspect(read_video(source), self.size)
            log.info("%s flow of %s, %d frames", estimator.config.method, source, video.frame_count)
            for number in range(video.frame_count // self.frames):
                begin = number * self.frames
                part = replace(video, frames=video.frames[begin : begin + self.frames])
                try:
                    clip = flow_clip(part, self.size, self.points, estimator)
                except NothingToFollowError:
                    log.warning("%s, frames from %d: left out: no flow is cycle-consistent", source, begin)
                    continue
                write_cached(self.folder / f"{name}-{begin:06d}.npz", clip)
            done.touch()
        return sorted(self.folder.glob(f"{glob.escape(name)}-[0-9][0-9][0-9][0-9][0-9][0-9].npz"))

    def _key(self, source: Path) -> str:
        """Digest video and settings, to distinguish clips of another video of the same name."""
        flow = resolve_flow(self.flow)
        files = image_files(source) if source.is_dir() else [source]
        return make_key(
            frames=self.frames,
            size=self.size,
            points=self.points,
            flow=asdict(flow),
            weights=weights_stamp(flow),
            video=[(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files],
        )[:8]


def find_videos(folder: Path) -> list[Path]:
    """List the video files and frame folders directly below ``folder``, sorted.

    Raises:
        DatasetError: If there are none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is not a folder; give one with video files")
    videos = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in VIDEO_SUFFIXES or (path.is_dir() and image_files(path))
    ]
    if not videos:
        suffixes = ", ".join(sorted(VIDEO_SUFFIXES))
        raise DatasetError(f"{folder}: holds no videos; give a folder of video files ({suffixes})")
    return videos


def cut_to_aspect(video: Video, size: Size) -> Video:
    """Cut the middle out of every frame, in the aspect of ``size``."""
    rows, columns = middle_part(video.size, size)
    return replace(video, frames=video.frames[:, rows, columns])


def flow_clip(video: Video, size: Size, points: int, estimator: FlowEstimator) -> TrainingClip:
    """Resize a stretch of video and chain flow into tracks through it, by the published rule.

    A point counts as visible while its trajectory lasts.

    Raises:
        NothingToFollowError: If no point's flow is cycle-consistent.
    """
    frames = working_frames(video, size)
    large = working_frames(video, flow_size(video.size, estimator.config))
    config = TrajectoriesConfig(rule="chained")
    flow = estimator.both_ways(large, pairs_over_gaps(len(large), (1, *config.direct_gaps)))
    trajectories = make_trajectories(flow, len(large), config, size, MotionConfig())
    return TrainingClip(frames, *sample_tracks(trajectories, len(frames), points))


def sample_tracks(trajectories: Trajectories, frames: int, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample trajectories, long ones more often, as xy (N, T, 2) and visibility (N, T)."""
    chosen = torch.multinomial(
        trajectories.length.float(),
        points,
        replacement=len(trajectories) < points,
        generator=torch.Generator().manual_seed(0),
    )
    time = torch.arange(frames)
    start, length = trajectories.begin[chosen, None], trajectories.length[chosen, None]
    visible = (time >= start) & (time < start + length)
    frame = torch.minimum(torch.maximum(time.expand_as(visible), start), start + length - 1)
    xy = trajectories.at(chosen[:, None].expand_as(frame).flatten(), frame.flatten())
    return xy.view(points, frames, 2), visible
