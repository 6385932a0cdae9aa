"""The cycle error of tracking: a match is matched back in its own point's query frame."""

import torch

from t4g_tracker.datatypes import FeatureGrid, Video
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

FRAMES, HEIGHT, WIDTH, STRIDE_PX = 5, 12, 20, 8


def unrelated_features(seed=0):
    """(T, C, h, w) where no cell resembles another."""
    return torch.randn(FRAMES, 64, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def at_cell(column, row):
    return column * STRIDE_PX + (STRIDE_PX - 1) / 2, row * STRIDE_PX + (STRIDE_PX - 1) / 2


def tracked(values, queries):
    """Matching alone, without flow and without refinement on the (empty) frames."""
    size = (HEIGHT * STRIDE_PX, WIDTH * STRIDE_PX)
    grid = FeatureGrid(values, STRIDE_PX, (STRIDE_PX - 1) / 2, size)
    video = Video(torch.zeros(FRAMES, *size, 3, dtype=torch.uint8).numpy(), 24.0, "clip", "clip.mp4")
    config = TrackingConfig(motion=False, subpixel=False)
    return track(queries, grid, video, MatchingConfig(), config, VisibilityConfig())


def test_moving_points_of_several_query_frames_all_lead_home(ask):
    """Each moves 2 cells a frame: matched back in any other frame, it would miss by 16 px or more."""
    values, points = unrelated_features(), unrelated_features(1)[0, :, 0, :3].T
    for t in range(FRAMES):
        for n, point in enumerate(points):
            values[t, :, 2 + 4 * n, 3 + 2 * t] = point
    frames = [(0, 0), (2, 1), (4, 2), (4, 0), (0, 2)]  # of the query, and which point
    tracks = tracked(values, ask(*((t, *at_cell(3 + 2 * t, 2 + 4 * n)) for t, n in frames)))
    x = torch.tensor([at_cell(3 + 2 * t, 0)[0] for t in range(FRAMES)])
    assert (tracks.xy[..., 0] - x).abs().max() < 0.5
    assert tracks.visibility.all()
    assert tracks.confidence.min() > 0.95  # 0.5 where the cycle error is at the threshold


def test_a_look_alike_in_one_query_frame_hides_the_points_of_that_frame_alone(ask):
    """A point at rest looks a little different in frame 0, where another cell looks as it does later."""
    values, later = unrelated_features(), unrelated_features(1)[0, :, 0, 0]
    values[:, :, 5, 4] = later
    values[0, :, 5, 4] = later + 0.5 * unrelated_features(2)[0, :, 0, 0]
    values[0, :, 5, 15] = later  # the look-alike
    rest = at_cell(4, 5)
    tracks = tracked(values, ask((0, *rest), (3, *rest)))
    others = torch.tensor([1, 2, 4])
    assert (tracks.xy[:, others] - torch.tensor(rest)).abs().max() < 0.5  # both are found there
    assert not tracks.visibility[0, others].any()  # but in frame 0 the match leads to the look-alike
    assert tracks.visibility[1, others].all()
    assert tracks.confidence[1, others].min() > 0.95
