"""The adaptation matches as tracking does: what the loss trains is what finds the query points."""

import pytest
import torch

from adaptation.adapter import build_head
from adaptation.objective import found_positions
from adaptation.sampling import Search
from t4g_tracker.datatypes import FeatureGrid, QueryPoints, Video
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

FRAMES, CHANNELS, HEIGHT, WIDTH = 3, 6, 7, 10
STRIDE_PX = 8  # at finer strides the adaptation looks for the peak on pooled cells: its window may differ


def query_points(seed):
    """Points anywhere in the frame, between cells and in the border half cell too, in every frame."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([WIDTH, HEIGHT]) * STRIDE_PX - 1.0
    xy = torch.rand(12, 2, generator=generator) * extent
    return QueryPoints(torch.arange(12) % FRAMES, xy, tuple(f"p{n}" for n in range(12)))


@pytest.mark.parametrize(
    ("temperature", "window_radius_px", "kind"),
    [(0.05, 16.0, "softmax"), (0.2, 24.0, "softmax"), (0.5, 12.0, "softmax"), (0.05, 16.0, "cnn")],
)
@torch.no_grad()
def test_the_adaptation_finds_points_where_tracking_finds_them(temperature, window_radius_px, kind):
    head = build_head(kind, seed=0)
    matching = MatchingConfig(temperature=temperature, window_radius_px=window_radius_px)
    values = torch.randn(FRAMES, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    queries = query_points(2)
    size = (HEIGHT * STRIDE_PX, WIDTH * STRIDE_PX)
    grid = FeatureGrid(values, STRIDE_PX, (STRIDE_PX - 1) / 2, size)
    video = Video(torch.zeros(FRAMES, *size, 3, dtype=torch.uint8).numpy(), 24.0, "clip", "clip.mp4")
    alone = TrackingConfig(motion=False, subpixel=False)  # matching and nothing else
    tracks = track(queries, grid, video, matching, alone, VisibilityConfig(), head=head)

    search = Search(  # each point in each frame
        source=queries.frame.repeat(FRAMES),
        target=torch.arange(FRAMES).repeat_interleave(len(queries)),
        source_xy=queries.xy.repeat(FRAMES, 1),
    )
    found = (
        found_positions(values, search, STRIDE_PX, matching, head)
        .view(FRAMES, len(queries), 2)
        .transpose(0, 1)
    )
    others = torch.arange(FRAMES) != queries.frame[:, None]  # in its query frame a track is the query point
    torch.testing.assert_close(found[others], tracks.xy[others], atol=1e-4, rtol=0)
