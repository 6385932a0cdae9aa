"""Where DIS starts from: a search at a smaller size, and flow by way of a frame in between."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from t4g_tracker.flow.dis import dis_flow
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.search import _through_another, composed, search_flows
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.motion.fields import pairs_from, pairs_over_gaps

CPU = torch.device("cpu")
SIZE = (128, 256)
PLAIN = FlowConfig(method="dis", search_scale=1, compose=False, still=False)


@pytest.fixture(scope="module")
def fast(slide):
    """Six frames of waves up to 40 px long that move by 9 px each."""
    return slide(6, SIZE, velocity=(-9.0, 2.0))


def missed(clip, flow: Tensor, first: int, second: int) -> float:
    """The share of pixels, of those that both frames show, whose flow is wrong by more than a pixel."""
    moved = (second - first) * torch.tensor(clip.velocity)
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    there = torch.stack([x, y], -1) + moved
    shown = ((there >= 8) & (there <= torch.tensor([SIZE[1] - 9, SIZE[0] - 9]))).all(-1)
    shown &= (x >= 8) & (x < SIZE[1] - 8) & (y >= 8) & (y < SIZE[0] - 8)
    wrong = (flow.float().permute(1, 2, 0) - moved).norm(dim=-1) > 1
    return float(wrong[shown].float().mean())


def test_flow_by_way_of_another_frame_is_the_sum_of_both_where_the_first_leads():
    first = torch.zeros(2, 20, 30)
    first[0, :, :15], first[1, :, 15:] = 4.5, -2.0
    ramp = torch.arange(30.0).expand(20, 30)
    second = torch.stack([0.5 * ramp, -ramp])
    through = composed(first, second)
    assert through[:, 10, 3].tolist() == pytest.approx([4.5 + 0.5 * 7.5, -7.5], abs=1e-2)
    assert through[:, 10, 20].tolist() == pytest.approx([0.5 * 20, -2.0 - 20], abs=1e-2)
    assert through[:, 10, 28].tolist() == pytest.approx([0.5 * 28, -2.0 - 28], abs=1e-2)
    beyond = composed(torch.full((2, 20, 30), 100.0), second)
    assert torch.equal(beyond, torch.tensor([100 + 14.5, 100 - 29.0])[:, None, None].expand(2, 20, 30))


def test_over_several_frames_fast_motion_is_found_by_way_of_those_in_between(fast):
    pairs = [(0, 4), (4, 0), *((t, t + 1) for t in range(5)), *((t + 1, t) for t in range(5)), (0, 2), (2, 4)]
    pairs += [(4, 2), (2, 0)]
    flows = {
        compose: FlowEstimator(dataclasses.replace(PLAIN, compose=compose), CPU).pairs(fast.frames, pairs)
        for compose in (False, True)
    }
    for row in (0, 1):
        alone, through = (missed(fast, flows[compose][row], *pairs[row]) for compose in (False, True))
        assert alone > 0.5
        assert through < 0.1


def test_flow_from_one_frame_to_all_goes_by_way_of_the_one_before_and_of_flow_over_gaps(fast):
    estimator = FlowEstimator(dataclasses.replace(PLAIN, compose=True), CPU)
    neighbours = estimator.both_ways(fast.frames, [(t, t + 1) for t in range(5)])
    far = [(0, 2), (0, 3), (0, 4)]
    with_them = estimator.both_ways(fast.frames, far, over_gaps=neighbours)
    alone = estimator.both_ways(fast.frames, far)
    assert missed(fast, alone.between(0, 4), 0, 4) > 0.5
    for begin, end in ((0, 4), (4, 0), (0, 3), (3, 0)):
        assert missed(fast, with_them.between(begin, end), begin, end) < 0.1


def test_flow_to_far_frames_goes_by_way_of_frames_that_lie_further_apart(fast):
    """No flow leads from frame 0 to the last but one, nor from halfway to the last."""
    estimator = FlowEstimator(dataclasses.replace(PLAIN, compose=True), CPU)
    over_gaps = estimator.both_ways(fast.frames, [*((t, t + 1) for t in range(5)), (0, 2), (3, 5)])
    far = estimator.both_ways(fast.frames, [(0, 3), (0, 5)], over_gaps=over_gaps)
    assert missed(fast, far.between(0, 5), 0, 5) < 0.1


@pytest.mark.parametrize("width", [4.0, 8.0, 12.0])
def test_a_pole_that_stands_still_before_a_fast_background_is_found_more_often_by_starting_from_no_motion(
    slide, width
):
    frames = slide(2, SIZE, velocity=(-30.0, 2.0), bar_px=width, bar_left_px=120.0).frames
    wrong = []
    for still in (False, True):
        flow = FlowEstimator(FlowConfig(method="dis", still=still), CPU).pairs(frames, [(0, 1)])[0]
        pole = flow[:, 8:-8, 120 : 120 + int(width)].float()
        wrong.append(float((pole.norm(dim=0) > 1).float().mean()))
    assert wrong[1] < 0.95 * wrong[0]


def test_no_motion_is_no_start_over_gaps(slide):
    frames = slide(3, SIZE, velocity=(-9.0, 2.0), bar_px=8.0, bar_left_px=120.0).frames
    flows = [
        FlowEstimator(FlowConfig(method="dis", still=still), CPU).pairs(frames, [(0, 2)])
        for still in (False, True)
    ]
    assert torch.equal(*flows)


OUT_AND_BACK = [
    *((0, 1, None), (0, 3, 1), (0, 16, 8), (0, 14, 12), (0, 24, 20), (0, 40, 32)),
    *((3, 0, 1), (24, 0, 8), (14, 0, None), (40, 0, None)),
]


@pytest.mark.parametrize(("begin", "end", "by_way_of"), OUT_AND_BACK)
def test_the_way_out_goes_by_the_last_frame_before_and_the_way_back_by_one_near_0(begin, end, by_way_of):
    pairs = {*pairs_over_gaps(49, (1, 2, 4, 8, 16)), *pairs_from(0, 49, 48, 8)}
    pairs -= {(min(begin, end), max(begin, end))}

    def known(first, second):  # each way tells its ends
        there = (min(first, second), max(first, second)) in pairs
        return torch.full((2, 4, 4), 100.0 * first + second) if there else None

    through = _through_another(begin, end, known)
    if by_way_of is None:
        assert through is None
    else:
        assert through.unique().tolist() == [100 * begin + by_way_of + 100 * by_way_of + end]


def test_a_start_that_fits_worse_is_left_alone(slide):
    """What is in between is hidden there: both frames around it are the same, the one in between is not."""
    clip = slide(3, SIZE, velocity=(1.0, 0.0))
    frames = clip.frames.clone()
    frames[1] = torch.randint(0, 255, frames[1].shape, dtype=torch.uint8, generator=torch.manual_seed(0))
    pairs = [(0, 1), (1, 2), (0, 2)]
    flow = FlowEstimator(FlowConfig(method="dis"), CPU).pairs(frames, pairs)[2]
    assert missed(clip, flow, 0, 2) < 0.05


def test_without_further_starts_a_search_at_full_size_is_plain_dis(fast):
    flow = FlowEstimator(PLAIN, CPU).pairs(fast.frames, [(0, 2)])[0]
    assert torch.equal(flow, dis_flow(fast.frames[0], fast.frames[2]).half())


def test_where_flow_is_composed_near_pairs_come_first_and_each_counts_once(fast):
    pairs = [(0, 3), (3, 0), (0, 1), (1, 3)]
    flows = torch.full((4, 2, *SIZE), torch.nan, dtype=torch.float16)
    known = []
    for done in search_flows(fast.frames, pairs, flows, FlowConfig(method="dis")):
        known.append((done, [bool(flow.isfinite().all()) for flow in flows]))
    assert [done for done, _ in known] == [1, 2, 3, 4]
    assert known[0][1][2]
    assert known[-1][1] == [True] * 4


@pytest.mark.parametrize("finest", range(4))
@pytest.mark.parametrize("size", [(16, 16), (16, 300), (300, 17), (33, 40), (64, 64), (64, 300), (100, 640)])
def test_small_frames_are_not_shrunk_to_what_dis_refuses(slide, size, finest):
    frames = slide(3, size, velocity=(0.5, 0.0)).frames
    config = FlowConfig(method="dis", search_scale=0.1, finest_scale=finest)
    flows = FlowEstimator(config, CPU).pairs(frames, [(0, 1), (1, 2), (0, 2)])
    assert flows.shape == (3, 2, *size)
    assert flows.isfinite().all()


@pytest.mark.parametrize("scale", [0.5, 0.75])
def test_a_search_at_a_smaller_size_is_refined_to_a_fraction_of_a_pixel(slide, scale):
    clip = slide(2, SIZE, velocity=(6.3, -3.4))
    config = FlowConfig(method="dis", search_scale=scale)
    flow = FlowEstimator(config, CPU).pairs(clip.frames, [(0, 1)])[0].float()
    error = (flow - torch.tensor(clip.velocity)[:, None, None]).norm(dim=0)[16:-16, 16:-16]
    assert float(error.median()) < 0.1
