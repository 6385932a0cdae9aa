"""Sub-pixel refinement: it moves a match to the true position, or leaves it exactly where it was."""

import cv2
import numpy as np
import pytest
import torch

from t4g_tracker.datatypes import Video
from t4g_tracker.tracking import subpixel
from t4g_tracker.tracking.subpixel import refine_positions

REACH_PX, WINDOW_PX = 6.0, 15


def refined(video, queries, xy, reach_px=REACH_PX, **options):
    return refine_positions(video, queries, xy, reach_px, WINDOW_PX, **options)


def texture(size, seed):
    """(H, W, 3) uint8, smooth over a few pixels."""
    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    grey = np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def video_of(*frames):
    return Video(np.stack(frames), 24.0, "clip", "clip.mp4")


def slid(size, dx):
    """Two frames of ``size``; the texture of the first lies ``dx`` pixels further right in the second."""
    wide = texture((size[0], size[1] + dx), seed=0)
    return video_of(wide[:, dx:], wide[:, : size[1]])


def test_a_match_moves_to_the_true_position_in_every_frame_but_its_query_frame(slide, ask):
    clip = slide(5, (96, 160), (2.5, -1.25))
    queries = ask((0, 50, 60), (2, 80.25, 40.5), (4, 100, 50))
    true_xy, _ = clip.follow(queries)
    matches = true_xy + torch.empty(true_xy.shape).uniform_(-2, 2, generator=torch.manual_seed(0))
    found = refined(clip.video, queries, matches)
    others = torch.arange(5) != queries.frame[:, None]
    assert (matches - true_xy).norm(dim=-1)[others].mean() > 1
    assert (found - true_xy).norm(dim=-1)[others].max() < 0.2
    assert torch.equal(found[~others], matches[~others])


def test_a_longer_move_than_the_reach_is_refused(ask):
    video, queries = slid((96, 160), 3), ask((0, 80, 48))
    matches = torch.tensor([[[80.0, 48.0], [87.0, 48.0]]])  # 4 px right of the true position
    assert torch.equal(refined(video, queries, matches, reach_px=3.9), matches)
    found = refined(video, queries, matches, reach_px=4.2)
    torch.testing.assert_close(found[0, 1], torch.tensor([83.0, 48.0]), atol=0.1, rtol=0)


def test_a_move_that_does_not_lead_back_is_refused(ask):
    """The second frame shows something else; Lucas-Kanade still finds places nearby that it likes."""
    video = video_of(texture((96, 160), seed=0), texture((96, 160), seed=1))
    queries = ask((0, 40, 40), (0, 60, 50), (0, 80, 40), (0, 100, 50), (0, 120, 40))
    start = queries.xy.numpy()[:, None]
    options = {"winSize": (WINDOW_PX, WINDOW_PX), "maxLevel": 1, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
    first, second = video.frames[..., 0]
    there, _, _ = cv2.calcOpticalFlowPyrLK(first, second, start, start.copy(), **options)
    assert (np.linalg.norm(there - start, axis=2) < REACH_PX).any()  # so the reach alone would accept them
    matches = queries.xy[:, None].repeat(1, 2, 1)
    assert torch.equal(refined(video, queries, matches), matches)


@pytest.mark.parametrize(
    ("move_px", "return_px", "lost", "accepted"),
    [
        (5.9, 0.9, None, True),
        (6.1, 0.0, None, False),
        (0.0, 1.1, None, False),
        (5.0, 0.0, "there", False),
        (5.0, 0.0, "back", False),
    ],
)
@pytest.mark.parametrize("scale", [1, 2])
def test_the_limits_are_the_reach_and_a_pixel_of_cycle_error(
    monkeypatch, ask, move_px, return_px, lost, accepted, scale
):
    """Lucas-Kanade replaced by fixed moves, in a frame of twice the side at scale 2."""

    def moved(first, second, begin, guess, **options):
        back = first[0, 0] == 1
        found = np.full((len(guess), 1), lost != ("back" if back else "there"), np.uint8)
        return guess + np.float32([0, (return_px if back else move_px) * scale]), found, None

    monkeypatch.setattr(subpixel.cv2, "calcOpticalFlowPyrLK", moved)
    frames = np.zeros((2, 40 * scale, 60 * scale, 3), np.uint8)
    frames[1] = 1
    matches = torch.tensor([[[20.0, 20.0], [22.0, 21.0]]])
    found = refined(video_of(*frames), ask((0, 20, 20)), matches, pixels=40 * 60)
    wanted = torch.tensor([22.0, 21.0 + move_px * scale * accepted])
    torch.testing.assert_close(found[0, 1], wanted)
    assert torch.equal(found[0, 0], matches[0, 0])


@pytest.mark.parametrize(
    ("size", "accepted"), [((480, 854), False), ((960, 1708), True), ((240, 427), False)]
)
def test_the_reach_is_in_pixels_at_480p_and_never_less_than_the_frame_s_own(ask, size, accepted):
    video = slid(size, 3)
    queries = ask((0, size[1] / 2, size[0] / 2))
    middle = queries.xy[0]
    match = middle + torch.tensor([3.0 + 1.5 * REACH_PX, 0.0])
    matches = torch.stack([middle, match])[None]
    found = refined(video, queries, matches)
    if accepted:
        torch.testing.assert_close(found[0, 1], middle + torch.tensor([3.0, 0.0]), atol=0.2, rtol=0)
    else:
        assert torch.equal(found, matches)
        assert refined(video, queries, matches, 2 * REACH_PX)[0, 1, 0] < match[0]
