"""Tracking, through ``track`` alone: points of a known motion are found, hidden ones reported hidden."""

import dataclasses

import pytest
import torch

from t4g_tracker.coordinates import inside
from t4g_tracker.datatypes import FeatureGrid, FlowFields, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.patch import extract_patch
from t4g_tracker.features.settings import PatchConfig
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.motion.following import Motion
from t4g_tracker.motion.settings import MotionConfig
from t4g_tracker.tracking.scene import Scene, cycle_error, match_frames
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

UNREFINED = TrackingConfig(subpixel=False)
STEP_COST = 0.02
MOTION = MotionConfig(step_cost=STEP_COST)


def tracked(clip, queries, features=None, config=TrackingConfig(), **kwargs):  # noqa: B008 frozen settings
    return track(
        queries,
        features or clip.features(),
        clip.video,
        MatchingConfig(),
        config,
        VisibilityConfig(),
        **kwargs,
    )


def worst_px(tracks, clip, queries):
    """The largest error over all frames in which the point is not covered."""
    xy, seen = clip.follow(queries)
    return (tracks.xy - xy).norm(dim=-1)[seen].max().item()


@pytest.fixture(scope="module")
def points(ask):
    """Queries in the first, a middle and the last frame, that stay in the frame throughout."""
    return ask((0, 30, 40), (0, 60.25, 50.5), (3, 70.0, 33.75), (7, 80, 20), (7, 100.5, 41.5))


@pytest.mark.parametrize("velocity", [(2.5, -1.25), (-1.1, 0.4), (0.0, 0.0)])
def test_tracks_on_a_sliding_texture_follow_it_to_half_a_pixel(slide, points, velocity):
    clip = slide(velocity=velocity)
    patch = PatchConfig(stride_px=4, window_px=16, channels=128)
    features = extract_patch(clip.frames, patch, torch.device("cpu"), seed=0)
    tracks = tracked(clip, points, features)
    assert worst_px(tracks, clip, points) < 0.5
    assert tracks.visibility.all()


def test_matching_alone_is_right_to_a_fraction_of_a_cell(slide, points):
    clip = slide()
    assert worst_px(tracked(clip, points, config=UNREFINED), clip, points) < 0.4 * clip.features().stride_px


def test_the_subpixel_takes_the_match_the_rest_of_the_way(slide, points):
    clip = slide()
    assert worst_px(tracked(clip, points), clip, points) < 0.1


def test_in_its_query_frame_a_point_is_exactly_as_asked_for(slide, points):
    tracks = tracked(slide(), points)
    rows = torch.arange(len(points))
    assert torch.equal(tracks.xy[rows, points.frame], points.xy)
    assert tracks.visibility[rows, points.frame].all()
    assert (tracks.confidence[rows, points.frame] == 1).all()


def test_a_hidden_point_is_reported_hidden_and_found_again(slide, ask):
    clip = slide(20, velocity=(0.5, 0.0), bar_px=28.0, bar_left_px=-30.0, bar_speed_px=7.0)
    queries = ask((0, 50, 30), (0, 70, 40), (19, 60, 20))
    tracks = tracked(clip, queries)
    xy, _ = clip.follow(queries)
    reach = torch.tensor([8.0, 0.0])  # what lies this near the bar's edge may be reported either way
    for t in range(20):
        near = torch.stack([clip.covered(xy[:, t] + shift, t) for shift in (-reach, 0 * reach, reach)])
        assert not tracks.visibility[near.all(0), t].any()
        assert tracks.visibility[~near.any(0), t].all()
    deep = clip.covered(xy[0, 9], 9) & clip.covered(xy[0, 11], 11)
    assert deep  # the bar does pass
    clear = torch.tensor([0, 1, 2, 17, 18, 19])
    assert (tracks.xy[0, clear] - xy[0, clear]).norm(dim=-1).max() < 0.5


def test_a_point_that_left_the_frame_is_reported_hidden(slide, ask):
    clip = slide(8, velocity=(12.0, 0.0))
    tracks = tracked(clip, ask((0, 90, 30)))
    assert tracks.visibility[0, :3].all()
    assert not tracks.visibility[0, 5:].any()


def test_confidence_is_a_share_and_higher_where_seen(slide, ask):
    clip = slide(20, velocity=(0.5, 0.0), bar_px=28.0, bar_left_px=-30.0, bar_speed_px=7.0)
    tracks = tracked(clip, ask((0, 50, 30), (0, 70, 40)))
    assert 0 <= tracks.confidence.min() <= tracks.confidence.max() <= 1
    seen = tracks.visibility
    assert tracks.confidence[seen].mean() > tracks.confidence[~seen].mean() + 0.3


def look_alike_grid():
    """A point that moves one cell to the right each frame, and in frame 3 an exact copy of it far away."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, 32, 16, 32, generator=generator)
    point = torch.randn(32, generator=generator)
    for t in range(7):
        values[t, :, 8, 6 + t] = point
    values[3, :, 8, 9] = point + 0.4 * torch.randn(32, generator=generator)  # a little changed
    values[3, :, 2, 27] = point  # the copy
    return FeatureGrid(values, 4, 1.5, (64, 128))


@pytest.mark.parametrize("query_frame", [0, 5, 6])
def test_with_flow_a_point_does_not_jump_to_a_better_looking_copy(slide, ask, query_frame):
    clip, grid = slide(7, velocity=(4.0, 0.0)), look_alike_grid()
    queries = ask((query_frame, (6 + query_frame) * 4 + 1.5, 8 * 4 + 1.5))
    true_x = 25.5 + 4 * torch.arange(7.0)
    alone = track(queries, grid, clip.video, MatchingConfig(), UNREFINED, VisibilityConfig())
    motion = Motion(clip.flow, MOTION)
    followed = track(queries, grid, clip.video, MatchingConfig(), UNREFINED, VisibilityConfig(), motion)
    assert abs(alone.xy[0, 3, 0] - true_x[3]) > 50
    assert (followed.xy[0, :, 0] - true_x).abs().max() < 4


def smooth_grid(frames: int, frequencies: torch.Tensor) -> FeatureGrid:
    """Features that fade slowly with the distance from a point, and move 2 px to the right each frame."""
    y, x = torch.meshgrid(torch.arange(16) * 4 + 1.5, torch.arange(32) * 4 + 1.5, indexing="ij")
    values = []
    for t in range(frames):
        phase = torch.einsum("fk,khw->fhw", frequencies, torch.stack([x - 2.0 * t, y]))
        values.append(torch.cat([phase.cos(), phase.sin()]))
    return FeatureGrid(torch.stack(values), 4, 1.5, (64, 128))


def drifting_flow(frames: int, drift: float) -> Motion:
    """2 px to the right, ``drift`` too much forward and exact backward."""
    forward = torch.tensor([2.0 + drift, 0.0]).view(1, 2, 1, 1).expand(frames - 1, 2, 64, 128)
    backward = torch.tensor([-2.0, 0.0]).view(1, 2, 1, 1).expand(frames - 1, 2, 64, 128)
    config = MotionConfig(step_cost=STEP_COST, jump_cost=0)
    return Motion(FlowFields.of_neighbours(forward, backward), config)


def test_flow_that_drifts_is_left_for_a_match_once_it_is_less_certain(slide, ask):
    frequencies = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) / 20
    grid, motion = smooth_grid(20, frequencies), drifting_flow(20, 0.4)
    video, queries = slide(20).video, ask((0, 40.0, 32.0))
    true_x = 40 + 2 * torch.arange(20.0)

    def error(match_cost: float) -> torch.Tensor:
        config = dataclasses.replace(UNREFINED, match_cost=match_cost)
        tracks = track(queries, grid, video, MatchingConfig(), config, VisibilityConfig(), motion)
        return (tracks.xy[0, :, 0] - true_x).abs()

    torch.testing.assert_close(error(1000.0), 0.4 * torch.arange(20.0), atol=0.01, rtol=0)
    assert error(UNREFINED.match_cost)[:9].max() > 3  # a flow costs 0.4^2 + 0.02, a match as much as ten
    assert error(UNREFINED.match_cost)[12:].max() < 2


def test_where_no_match_leads_back_either_the_flow_is_followed(slide, ask):
    frequencies = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) / 20
    frequencies[:, 0] = 0  # all alike along a row
    queries = ask((0, 40.0, 32.0))
    tracks = track(
        queries,
        smooth_grid(20, frequencies),
        slide(20).video,
        MatchingConfig(),
        UNREFINED,
        VisibilityConfig(),
        drifting_flow(20, 0.4),
    )
    assert (tracks.xy[0, :, 0] - (40 + 2.4 * torch.arange(20.0))).abs().max() < 1


@pytest.mark.parametrize("gaps", [(1,), (1, 2, 4, 8)])
def test_with_flow_a_point_is_found_again_behind_what_hid_it(slide, ask, gaps):
    """By a match, where flow between neighbouring frames takes it along with the bar, else by flow too."""
    clip = slide(20, velocity=(0.5, 0.0), bar_px=28.0, bar_left_px=-30.0, bar_speed_px=7.0)
    queries = ask((0, 50, 30), (19, 60, 20))
    tracks = tracked(clip, queries, motion=Motion(clip.flow_over(*gaps), MOTION))
    xy, _ = clip.follow(queries)
    ends = torch.tensor([0, 1, 18, 19])
    assert (tracks.xy[:, ends] - xy[:, ends]).norm(dim=-1).max() < 0.5
    if len(gaps) > 1:
        assert tracks.visibility[:, ends].all()


def test_a_second_best_match_joins_where_the_best_does_not_lead_back(slide, ask):
    """In frame 3 a look-alike of the point is nearer to it than the point itself, but not to what it is."""
    grid, clip = look_alike_grid(), slide(7, velocity=(4.0, 0.0))
    grid.values[0, :, 13, 20] = grid.values[3, :, 2, 27] = grid.values[0, :, 8, 6] + 0.2 * torch.randn(
        32, generator=torch.Generator().manual_seed(1)
    )
    queries, xy = ask((0, 25.5, 33.5)), torch.tensor([37.5, 33.5])
    nowhere = Motion(FlowFields.of_neighbours(clip.flow.forward * 0, clip.flow.backward * 0 + 50), MOTION)
    found = {}
    for candidates in (1, 2):
        config = dataclasses.replace(UNREFINED, candidates=candidates)
        args = (clip.video, MatchingConfig(), config, VisibilityConfig(), nowhere)
        found[candidates] = (track(queries, grid, *args).xy[0, 3] - xy).norm()
    assert found[1] > 50
    assert found[2] < 2


@pytest.mark.parametrize(("alike", "taken"), [(0.5, False), (0.8, True)])
def test_the_less_a_match_looks_alike_the_more_uncertain_flow_is_followed(slide, ask, alike, taken):
    """Flow stays in place with an error of 2 px, so a cost of 4; a match costs 1.8 + 9 (0.8 - similarity)."""
    generator = torch.Generator().manual_seed(0)
    values, other = (torch.randn(*shape, generator=generator) for shape in ((2, 256, 16, 32), (256,)))
    point = torch.nn.functional.normalize(values[0, :, 8, 6], dim=0)
    other = torch.nn.functional.normalize(other - (other @ point) * point, dim=0)
    values[1, :, 2, 27] = alike * point + (1 - alike**2) ** 0.5 * other
    there = torch.zeros(1, 2, 64, 128)
    flow = FlowFields.of_neighbours(there, there + torch.tensor([2.0, 0.0]).view(1, 2, 1, 1))
    grid, video = FeatureGrid(values, 4, 1.5, (64, 128)), slide(2).video
    wanted = torch.tensor([109.5, 9.5] if taken else [25.5, 33.5])

    def found(appearance_cost, trust=1.0):
        config = dataclasses.replace(UNREFINED, appearance_cost=appearance_cost)
        args = (grid, video, MatchingConfig(), config, VisibilityConfig(), Motion(flow, MOTION))
        return track(ask((0, 25.5, 33.5)), *args, trust=trust).xy[0, 1]

    torch.testing.assert_close(found(0.0), wanted, atol=1.0, rtol=0)
    # where flow leads looks nothing like the point, which counts too, in proportion to the trust
    torch.testing.assert_close(found(10.0), torch.tensor([109.5, 9.5]), atol=1.0, rtol=0)
    for trust in (0.0, 0.2):
        torch.testing.assert_close(found(10.0, trust), torch.tensor([25.5, 33.5]), atol=1.0, rtol=0)


def test_tracks_are_in_pixels_of_the_original_video(slide, ask):
    clip = slide()
    large = torch.nn.functional.interpolate(clip.frames.float(), scale_factor=2, mode="bilinear")
    video = Video(large.round().byte().permute(0, 2, 3, 1).contiguous().numpy(), 24.0, "large", "large.mp4")
    queries, in_clip = ask((0, 60, 80)), ask((0, (60 - 0.5) / 2, (80 - 0.5) / 2))
    tracks = track(queries, clip.features(), video, MatchingConfig(), UNREFINED, VisibilityConfig())
    xy, _ = clip.follow(in_clip)
    assert (tracks.xy - (2 * xy + 0.5)).norm(dim=-1).max() < 3.2  # twice the 1.6 px of the smaller video


@pytest.mark.parametrize("joined", [False, True])
def test_points_do_not_influence_each_other(slide, points, joined):
    clip = slide(8, bar_px=10.0, bar_left_px=20.0, bar_speed_px=5.0)  # flow alone would not do
    motion = Motion(clip.flow_over(1, 2), MOTION) if joined else None
    together = tracked(clip, points, motion=motion)
    few_at_once = tracked(clip, points, config=TrackingConfig(points_at_once=2), motion=motion)
    torch.testing.assert_close(few_at_once.xy, together.xy, atol=1e-3, rtol=0)
    assert torch.equal(few_at_once.visibility, together.visibility)
    for n in range(len(points)):
        alone = tracked(clip, points.subset(torch.tensor([n])), motion=motion)
        torch.testing.assert_close(alone.xy[0], together.xy[n], atol=1e-3, rtol=0)


def test_the_second_round_knows_a_point_by_what_sure_frames_show_of_it(slide, ask):
    """In its query frame a point looks half like something else, which in the last frame is elsewhere."""
    generator = torch.Generator().manual_seed(0)
    point, other = torch.linalg.qr(torch.randn(256, 2, generator=generator)).Q.T
    values = 0.02 * torch.randn(6, 256, 16, 32, generator=generator)
    values[0, :, 8, 6] = point + other
    for t in range(1, 6):
        values[t, :, 8, 6 + t] = point
    values[5, :, 2, 27] = 0.3 * point + other
    flow = FlowFields.of_neighbours(*(torch.zeros(5, 2, 64, 128) for _ in range(2)))
    flow.forward[:, 0], flow.backward[:, 0] = 4.0, -4.0
    flow.backward[4] = 50.0  # flow is lost before the last frame
    grid, video = FeatureGrid(values, 4, 1.5, (64, 128)), slide(6).video

    def last(memory):
        config = dataclasses.replace(UNREFINED, memory=memory)
        args = (grid, video, MatchingConfig(), config, VisibilityConfig(), Motion(flow, MOTION))
        return track(ask((0, 25.5, 33.5)), *args).xy[0, 5]

    torch.testing.assert_close(last(0.0), torch.tensor([109.5, 9.5]), atol=1.5, rtol=0)
    torch.testing.assert_close(last(3.0), torch.tensor([45.5, 33.5]), atol=1.5, rtol=0)


def test_a_point_that_leaves_the_frame_is_not_drawn_back_to_a_match_inside(slide, ask):
    clip = slide(8, velocity=(12.0, 0.0))
    tracks = tracked(clip, ask((0, 90, 30)), motion=Motion(clip.flow_over(1, 2, 4), MOTION))
    assert tracks.visibility[0].tolist() == [True] * 4 + [False] * 4
    assert (tracks.xy[0, 4:, 0] > 127).all()


def test_a_point_outside_is_where_the_border_moves_it_hidden_and_without_confidence(slide, ask):
    clip, queries = slide(8, velocity=(12.0, -4.0)), ask((0, 90, 30), (7, 30, 40), (0, 60, 8))
    motion = Motion(clip.flow_over(1, 2, 4), MOTION)
    true, _ = clip.follow(queries)
    outside = ~inside(true, clip.size)
    assert outside.any(1).all()  # to the right, to the left on the way back, and upwards
    for trust in (0.0, 1.0):  # flow alone, and joined with matches
        tracks = tracked(clip, queries, motion=motion, trust=trust)
        assert (tracks.xy - true)[outside].norm(dim=-1).max() < 1
        assert torch.equal(tracks.visibility, ~outside)
        assert (tracks.confidence[outside] == 0).all()
        assert tracks.confidence[~outside].min() > 0.8


@pytest.mark.parametrize(
    ("found", "trust"), [(None, 0.5), (0.2, 0), (0.6, 0), (0.7, 0.5), (0.8, 1), (1.0, 1)]
)
def test_matches_are_trusted_as_far_as_held_out_points_are_found(found, trust):
    assert TrackingConfig().trust(found) == pytest.approx(trust)


def test_trust_must_rise():
    with pytest.raises(ConfigError, match=r"tracking.trust_from must be below tracking.trust_full, 0.8"):
        TrackingConfig(trust_from=0.85)


def test_without_trust_progress_still_comes_to_its_end(slide, points):
    clip, seen = slide(), []
    tracked(
        clip,
        points,
        motion=Motion(clip.flow, MOTION),
        trust=0.0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (8, 8)


def test_tracks_are_the_same_on_any_number_of_threads(slide, points):
    clip, before, found = slide(), torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        motion = Motion(clip.flow_over(1, 2, 4), MOTION)
        found.append(tracked(clip, points, motion=motion))
    torch.set_num_threads(before)
    torch.testing.assert_close(found[0].xy, found[1].xy, atol=1e-3, rtol=0)
    assert torch.equal(found[0].visibility, found[1].visibility)


def test_several_matches_of_a_point_are_matched_back_each_by_itself(slide, points):
    clip = slide()
    scene = Scene.of(clip.features(), points, clip.size, MatchingConfig(), points_at_once=7)
    peaks, _ = match_frames(scene, scene.queries(), 3)
    together = cycle_error(scene, peaks)
    for k in range(3):
        torch.testing.assert_close(together[:, :, k], cycle_error(scene, peaks[:, :, k]), atol=1e-3, rtol=0)


def test_the_same_input_gives_the_same_tracks(slide, points):
    clip = slide()
    first, again = tracked(clip, points), tracked(clip, points)
    assert torch.equal(first.xy, again.xy)
    assert torch.equal(first.confidence, again.confidence)


def test_half_precision_features_track_as_well(slide, points):
    clip = slide()
    full = clip.features()
    half = FeatureGrid(full.values.half(), full.stride_px, full.offset_px, full.working_size)
    assert worst_px(tracked(clip, points, half), clip, points) < 0.1


def test_progress_counts_up_to_the_whole(slide, points):
    seen = []
    tracked(slide(), points, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(
    "settings",
    [
        {"match_cost": -1.0},
        {"alike": 1.1},
        {"candidates": 0},
        {"points_at_once": 0},
        {"subpixel_window_px": 2},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="tracking"):
        TrackingConfig(**settings)
