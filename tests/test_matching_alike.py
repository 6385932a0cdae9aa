"""The adaptation matches as tracking does: what the loss trains is what finds the query points."""

import pytest
import torch

from adaptation.objective import found_positions
from adaptation.sampling import PairBatch
from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Video
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.tracking.tracker import TrackingConfig, track
from t4g_tracker.tracking.visibility import VisibilityConfig

FRAMES, CHANNELS, HEIGHT, WIDTH = 3, 6, 7, 10
STRIDE_PX = 8  # at finer strides the adaptation looks for the peak on pooled cells: its window may differ


def query_points(seed):
    """Points anywhere in the frame, between cells and in the border half cell too, in every frame."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([WIDTH, HEIGHT]) * STRIDE_PX - 1.0
    xy = torch.rand(12, 2, generator=generator) * extent
    return QueryPoints(torch.arange(12) % FRAMES, xy, tuple(f"p{n}" for n in range(12)))


@pytest.mark.parametrize(("temperature", "window_radius_px"), [(0.05, 16.0), (0.2, 24.0), (0.5, 12.0)])
def test_the_adaptation_finds_points_where_tracking_finds_them(temperature, window_radius_px):
    matching = MatchingConfig(temperature=temperature, window_radius_px=window_radius_px)
    values = torch.randn(FRAMES, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    queries = query_points(2)
    size = (HEIGHT * STRIDE_PX, WIDTH * STRIDE_PX)
    grid = FeatureGrid(values, STRIDE_PX, (STRIDE_PX - 1) / 2, size)
    video = Video(torch.zeros(FRAMES, *size, 3, dtype=torch.uint8).numpy(), 24.0, "clip", "clip.mp4")
    alone = TrackingConfig(motion=False, subpixel=False)  # matching and nothing else
    tracks = track(queries, grid, video, matching, alone, VisibilityConfig())

    batch = PairBatch(  # each point to be found in each frame; only target_xy is not read
        torch.arange(FRAMES),
        queries.frame.repeat(FRAMES),
        queries.xy.repeat(FRAMES, 1),
        torch.full((FRAMES * len(queries), 2), float("nan")),
    )
    found = found_positions(values, batch, STRIDE_PX, matching).view(FRAMES, len(queries), 2).transpose(0, 1)
    others = torch.arange(FRAMES) != queries.frame[:, None]  # in its query frame a track is the query point
    torch.testing.assert_close(found[others], tracks.xy[others], atol=1e-4, rtol=0)
