"""Memory: what tracking holds at once, beside its inputs, hardly grows with the length of a clip.

That is matching and following. Sub-pixel refinement holds every frame in grey.
"""

import json

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from t4g_tracker.datatypes import FeatureGrid, FlowFields, QueryPoints, Video
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.motion.fields import pairs_over_gaps
from t4g_tracker.motion.following import Motion
from t4g_tracker.motion.settings import MotionConfig
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

CHANNELS, HEIGHT, WIDTH, STRIDE_PX, POINTS = 64, 16, 24, 4, 6


def most_bytes_held(function, path):
    """The most bytes of CPU tensors alive at once among those that ``function`` makes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    recorded.export_chrome_trace(str(path))
    events = [
        event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"
    ]
    held = most = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        most = max(most, held)
    return most


def tracking(frames, with_flow):
    """Tracks a few points through features stored channels last; of others tracking makes a copy first."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(frames, CHANNELS, HEIGHT, WIDTH, generator=generator).half()
    size = (HEIGHT * STRIDE_PX, WIDTH * STRIDE_PX)
    grid = FeatureGrid(values.contiguous(memory_format=torch.channels_last), STRIDE_PX, 1.5, size)
    pairs = torch.tensor(pairs_over_gaps(frames, (1, 2)))
    forward = torch.randn(len(pairs), 2, *size, generator=generator).half()
    motion = Motion(FlowFields(pairs, forward, -forward), MotionConfig()) if with_flow else None
    video = Video(torch.zeros(frames, *size, 3, dtype=torch.uint8).numpy(), 24.0, "clip", "clip.mp4")
    xy = torch.rand(POINTS, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT]) * STRIDE_PX
    queries = QueryPoints(torch.arange(POINTS) % frames, xy, tuple("abcdef"))
    config = TrackingConfig(subpixel=False, points_at_once=4)  # cost maps of 4 points at a time
    return lambda: track(queries, grid, video, MatchingConfig(), config, VisibilityConfig(), motion)


@pytest.mark.parametrize("with_flow", [False, True])
def test_tracking_holds_as_much_for_a_clip_eight_times_as_long(tmp_path, with_flow):
    short, long = (
        most_bytes_held(tracking(frames, with_flow), tmp_path / f"{frames}.json") for frames in (6, 48)
    )
    one_frame = 4 * CHANNELS * HEIGHT * WIDTH  # as unit vectors
    assert short > one_frame  # the probe does see what is held
    assert long < 1.5 * short  # candidates for points and frames are a part of it, the frames' vectors not
