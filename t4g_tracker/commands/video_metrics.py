"""``t4g video-metrics``: how alike neighbouring frames of videos are, and how much moves in them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from t4g_tracker.choices import LpipsBackbone, VideoMeasure
from t4g_tracker.commands.arguments import add_device, add_first_frames, check_first_frames, path_text
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser
from t4g_tracker.commands.printing import say
from t4g_tracker.features.settings import CLIP_MODEL

EXIT_SOME_FAILED = 1


@dataclass
class FrameBar:
    """Counts frames over several videos; those not read yet are taken for as long as the others."""

    advance: Callable[[int, int, str], None]  # with (done, in all, what is at work)
    videos: int
    counts: list[int] = field(default_factory=list)  # of the videos so far
    name: str = ""

    def begin(self, name: str) -> None:
        """Go on to the next video."""
        self.counts.append(0)
        self.name = name

    def update(self, done: int, count: int) -> None:
        """Of the current video, ``done`` of ``count`` frames are done."""
        self.counts[-1] = count
        in_all = round(sum(self.counts) * self.videos / len(self.counts))
        self.advance(sum(self.counts[:-1]) + done, in_all, self.name)

    def finish(self) -> None:
        """There are no more frames, though the last video may not have been read."""
        if any(self.counts):
            self.advance(sum(self.counts), sum(self.counts), "")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code, 1 if a video failed."""
    return guarded(_main, argv)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="t4g video-metrics",
        description="Measure videos without annotations: CLIPSIM and LPIPS of neighbouring frames, and "
        "beside them motion, since both reward standing still. Videos of t4g generate are compared by model.",
    )
    parser.add_argument(
        "videos",
        type=path_text,
        nargs="+",
        help="video files, folders of them, folders of frames, or a folder that t4g generate wrote, or one "
        "of a picture in it",
    )
    parser.add_argument(
        "--measures",
        nargs="+",
        choices=get_args(VideoMeasure),
        default=get_args(VideoMeasure),
        metavar="MEASURE",
        help="of clipsim, lpips and motion (default all)",
    )
    parser.add_argument(
        "--clip", default=CLIP_MODEL, help="folder or hub name of a CLIP on disk (default %(default)s)"
    )
    parser.add_argument(
        "--lpips", choices=get_args(LpipsBackbone), default="alex", help="classifier (default alex)"
    )
    parser.add_argument("--baseline", default="", help="model to compare others with (default the first)")
    add_first_frames(parser, "each video")
    parser.add_argument(
        "--out",
        type=path_text,
        default=Path("outputs/video-metrics"),
        help="folder for the tables (default %(default)s)",
    )
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    request = parser.parse(argv)
    check_first_frames(parser, request.first_frames)
    return request


def _main(argv: list[str] | None) -> int:
    request = _parse(argv)
    from t4g_tracker import __version__
    from t4g_tracker.errors import VideoError, warn
    from t4g_tracker.hardware import pick_device
    from t4g_tracker.inputs.video import read_video
    from t4g_tracker.stage_log import progress_bar
    from t4g_tracker.storage.files import locked_folder
    from t4g_tracker.video_metrics.listing import list_videos, pick_baseline
    from t4g_tracker.video_metrics.measuring import Measures, Meter
    from t4g_tracker.video_metrics.report import compare_models, notes_of, write_report

    listed = list_videos(request.videos)
    baseline = pick_baseline(listed, request.baseline)
    measures = Measures(tuple(dict.fromkeys(request.measures)), request.clip, request.lpips)
    meter = Meter(measures, pick_device(request.device))
    scores, failures = [], list[VideoError]()
    with locked_folder(request.out, place="--out") as folder:
        with progress_bar("videos", "frame", request.quiet) as advance:
            bar = FrameBar(advance, len(listed))
            for video in listed:
                bar.begin(video.path.name)
                try:
                    read = read_video(video.path, request.first_frames)
                    scores.append(meter.measure(read, video, bar.update))
                except VideoError as error:
                    failures.append(error)
            bar.finish()
        if not scores:
            raise failures[0]
        models = compare_models(scores, measures.names, baseline) if baseline else None
        facts = {
            "version": __version__,
            "first_frames": request.first_frames,
            "failures": [str(error) for error in failures],
        }
        if models and models.caution:
            warn(models.caution)
        tables = write_report(folder, scores, measures, models, facts)
    for title, table in tables.items():
        say("\n".join([*([title] if title else []), *table.console(), ""]))
    say("\n".join(notes_of(measures)[:1]))
    say(f"tables in {folder}: video-metrics.md, .csv and .json{', models.csv' if models else ''}")
    for failure in failures:
        say(f"failed: {failure}")
    return EXIT_SOME_FAILED if failures else 0
