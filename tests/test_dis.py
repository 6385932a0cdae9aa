"""Flow from DIS, and the sizes it is computed at."""

import pytest
import torch

from t4g_tracker.errors import ConfigError
from t4g_tracker.flow.dis import dis_flow
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.settings import FlowConfig, flow_size

MARGIN_PX = 12  # nearer the border, what flow matches may have left the frame


def middle(flow):
    return flow[..., MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX].flatten(-2)


@pytest.mark.parametrize("velocity", [(3.0, -2.0), (0.4, 0.7), (-5.5, 2.25), (0.0, 0.0)])
def test_flow_of_a_sliding_texture_is_its_velocity(slide, velocity):
    first, second = slide(2, (96, 128), velocity).frames
    error = middle(dis_flow(first, second)) - torch.tensor(velocity)[:, None]
    assert error.abs().max() < 0.2


@pytest.mark.parametrize("patch_stride", [1, 2])
def test_patches_closer_together_change_the_flow_and_keep_it_right(slide, patch_stride):
    first, second = slide(2, (96, 128), (0.4, 0.7)).frames
    flow = dis_flow(first, second, patch_stride=patch_stride)
    assert (middle(flow) - torch.tensor([0.4, 0.7])[:, None]).abs().max() < 0.2
    assert not torch.equal(flow, dis_flow(first, second))


def test_flow_both_ways_lies_where_its_pairs_say(slide):
    clip = slide(4, (96, 128), (2.0, 1.0))
    pairs = [(0, 1), (0, 3), (2, 3), (1, 3)]
    flow = FlowEstimator(FlowConfig(), torch.device("cpu")).both_ways(clip.frames, pairs)
    assert flow.size == (96, 128)
    for begin, end in [*pairs, *(pair[::-1] for pair in pairs)]:
        moved = (end - begin) * torch.tensor([2.0, 1.0])
        found = middle(flow.between(begin, end).float()).mean(-1)
        torch.testing.assert_close(found, moved, atol=0.15, rtol=0)
    assert not flow.has(0, 2)
    with pytest.raises(KeyError):
        flow.between(2, 0)


def test_flow_of_no_pairs_has_the_size_of_the_frames(slide):
    flow = FlowEstimator(FlowConfig(), torch.device("cpu")).both_ways(slide(4, (96, 128)).frames, [])
    assert flow.size == (96, 128)
    assert not flow.has(0, 1)


def test_any_frame_pairs_can_be_asked_for_and_are_reported(slide):
    clip = slide(5, (96, 128), (1.5, 0.0))
    seen = []
    flows = FlowEstimator(FlowConfig(), torch.device("cpu")).pairs(
        clip.frames, [(0, 4), (3, 1)], lambda done, total: seen.append((done, total))
    )
    along = middle(flows.float())[:, 0].median(-1).values
    torch.testing.assert_close(along, torch.tensor([6.0, -3.0]), atol=0.2, rtol=0)
    assert seen == [(1, 2), (2, 2)]


def test_searching_at_half_size_is_coarser_but_still_right_to_half_a_pixel(slide):
    first, second = slide(2, (96, 128), (3.0, -2.0)).frames
    error = middle(dis_flow(first, second, finest_scale=1)) - torch.tensor([3.0, -2.0])[:, None]
    assert error.abs().median() < 0.5


@pytest.mark.parametrize(
    ("original", "wanted"), [((480, 854), (360, 640)), ((64, 96), (64, 96)), ((1080, 1920), (360, 640))]
)
def test_flow_is_computed_at_the_original_size_or_smaller_with_the_aspect_kept(original, wanted):
    assert flow_size(original, FlowConfig()) == wanted


@pytest.mark.parametrize("settings", [{"updates": 0}, {"pixels": 100}, {"finest_scale": 4}])
def test_flow_settings_out_of_range_are_refused(settings):
    name = next(iter(settings))
    with pytest.raises(ConfigError, match=f"flow.{name} must be"):
        FlowConfig(**settings)
