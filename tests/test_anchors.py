"""Visibility by anchors: what all anchors find where the track is, is seen; what is elsewhere is not."""

import pytest
import torch

from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.tracking import anchors
from t4g_tracker.tracking.anchors import anchor_errors
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

FRAMES = 6
# look-alikes beside the bar reach 0.88, and an anchor is never hidden by another one
RULE = VisibilityConfig(rule="anchors", similarity_threshold=0.6, anchor_threshold=0.9)


def sample(frame, xy):
    """A feature that says where and when it was taken."""
    return torch.cat([frame[:, None].float(), xy], 1)


def find(astray):
    """Matching that returns a position as it is, but from the frame ``astray`` 5 further right."""

    def found(anchor, vectors):
        away = torch.where(vectors[:, 0] == astray, 5.0, 0.0) + 0.01 * anchor
        return vectors[:, 1:] + torch.stack([away, torch.zeros_like(away)], 1)

    return found


def still(points):
    """Tracks of points that stand still, all alike."""
    xy = torch.rand(points, 1, 2, generator=torch.Generator().manual_seed(0)).expand(points, FRAMES, 2) * 50
    return xy.contiguous(), torch.full((points, FRAMES), 0.9)


def test_a_track_on_which_all_frames_agree_has_no_error_above_its_limit():
    xy, similarity = still(3)
    error, limit = anchor_errors(xy, similarity, 0.7, sample, find(astray=-1))
    assert (error <= limit[:, None]).all()
    assert limit.max() < 0.06


def test_a_frame_that_every_anchor_sends_elsewhere_is_beyond_the_limit_unless_an_anchor_itself():
    xy, similarity = still(3)
    similarity[1:, 4] = 0.65  # of the first point, the frame is an anchor, and widens the limit
    error, limit = anchor_errors(xy, similarity, 0.7, sample, find(astray=4))
    assert (error > limit[:, None]).nonzero().tolist() == [[1, 4], [2, 4]]
    assert limit[0] > 4.9


def test_errors_are_the_lower_middle_ones_over_the_anchors_alone():
    xy, similarity = still(1)
    similarity[0, 2:] = 0.5  # anchors are the frames 0 and 1, which are 0.00 and 0.01 off
    error, limit = anchor_errors(xy, similarity, 0.7, sample, find(astray=-1))
    torch.testing.assert_close(error, torch.zeros(1, FRAMES), atol=1e-5, rtol=0)
    similarity[0, 2] = 0.8
    error, limit = anchor_errors(xy, similarity, 0.7, sample, find(astray=-1))
    torch.testing.assert_close(error, torch.full((1, FRAMES), 0.01), atol=1e-5, rtol=0)
    torch.testing.assert_close(limit, torch.tensor([0.01]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("at_once", [1, 2 * FRAMES**2, 2**20])
def test_all_at_once_give_what_one_position_at_a_time_gives(monkeypatch, at_once):
    monkeypatch.setattr(anchors, "ERRORS_AT_ONCE", at_once)
    random = torch.Generator().manual_seed(1)
    xy = torch.rand(5, FRAMES, 2, generator=random) * 50
    similarity = torch.rand(5, FRAMES, generator=random)
    similarity[:, 0] = 1
    shift = torch.randn(FRAMES, FRAMES, 2, generator=random)

    def scattered(anchor, vectors):
        return vectors[:, 1:] + shift[vectors[:, 0].long(), anchor]

    error, limit = anchor_errors(xy, similarity, 0.7, sample, scattered)
    for n in range(5):
        marked = [t for t in range(FRAMES) if similarity[n, t] >= 0.7]
        for t in range(FRAMES):
            away = sorted((xy[n, t] + shift[t, a] - xy[n, a]).norm().item() for a in marked)
            assert error[n, t].item() == pytest.approx(away[(len(away) - 1) // 2], rel=1e-4)
        assert limit[n].item() == pytest.approx(max(error[n, a].item() for a in marked))


def test_a_point_behind_a_passing_bar_is_hidden_and_otherwise_seen(slide, ask):
    clip = slide(8, bar_px=24.0, bar_left_px=-24.0, bar_speed_px=20.0, velocity=(0.0, 0.0))
    queries = ask((0, 40, 30), (0, 70, 40), (7, 30, 20))
    tracks = track(
        queries,
        clip.features(stride_px=4),
        clip.video,
        MatchingConfig(),
        TrackingConfig(subpixel=False),
        RULE,
    )
    _, visibility = clip.follow(queries)
    assert not visibility.all()
    assert not tracks.visibility[~visibility].any()
    assert tracks.visibility[visibility].float().mean() > 0.9
    assert (tracks.visibility[torch.arange(3), queries.frame]).all()
    shown = tracks.confidence[tracks.visibility]
    assert shown.min() >= 0.25
