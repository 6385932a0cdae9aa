"""The path search against a plain reference: every path of a tiny case, its cost added up frame by frame."""

import itertools
import math

import pytest
import torch
from t4g_tracker.tracking.paths import Candidates, choose_paths

from t4g_tracker.datatypes import FlowSequence

WORKING, FLOW = (24, 40), (12, 30)  # (H, W): flow of another size and aspect, so x and y scale differently
FRAMES, OPTIONS, POINTS, JUMP_PX = 5, 3, 4, 6.0


def random_case(seed):
    """Candidates all over the frame, some missing, and flow that differs from pixel to pixel."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([WORKING[1], WORKING[0]])
    xy = torch.rand(POINTS, FRAMES, OPTIONS, 2, generator=generator) * extent
    similarity = torch.rand(POINTS, FRAMES, OPTIONS, generator=generator)
    similarity[torch.rand(similarity.shape, generator=generator) < 0.1] = -math.inf
    similarity[..., 0] = similarity[..., 0].clamp_min(0)  # one is always there
    forward = torch.randn(FRAMES - 1, 2, *FLOW, generator=generator) * 3
    query_xy = torch.rand(POINTS, 2, generator=generator) * extent
    # half of the candidates lie near where flow takes the query point, so that following it can pay
    near = query_xy[:, None, None] + torch.randn(POINTS, FRAMES, OPTIONS, 2, generator=generator) * 4
    xy = torch.where(torch.rand(xy.shape[:3], generator=generator)[..., None] < 0.5, near, xy)
    return Candidates(xy, similarity), query_xy, FlowSequence(forward, -forward)


def carried(flow, x, y):
    """Where a flow field (2, h, w) takes a position in working pixels: bilinear, the border repeated."""
    height, width = FLOW
    across, down = width / WORKING[1], height / WORKING[0]
    column = min(max((x + 0.5) * across - 0.5, 0), width - 1)
    row = min(max((y + 0.5) * down - 0.5, 0), height - 1)
    rows = {math.floor(row), min(math.floor(row) + 1, height - 1)}
    columns = {math.floor(column), min(math.floor(column) + 1, width - 1)}
    dx = dy = 0.0
    for r, c in itertools.product(rows, columns):
        share = (1 - abs(row - r)) * (1 - abs(column - c))
        dx += share * float(flow[0, r, c])
        dy += share * float(flow[1, r, c])
    return x + dx / across, y + dy / down


def cost_of(path, point, case, query_frame, jump_cost):
    """The cost of one point's path, by the definition in the docstring of ``choose_paths``."""
    candidates, query_xy, flow = case
    places = [candidates.xy[point, t, k].tolist() for t, k in enumerate(path)]
    places[query_frame] = query_xy[point].tolist()
    cost = 0.0
    for t, k in enumerate(path):
        if t != query_frame:
            cost -= float(candidates.similarity[point, t, k])
        if t > 0:
            x, y = carried(flow.forward[t - 1], *places[t - 1])
            apart = math.hypot(places[t][0] - x, places[t][1] - y)
            cost += jump_cost * min(1.0, apart / JUMP_PX)
    return cost


def chosen_paths(case, query_frame, jump_cost):
    candidates, query_xy, flow = case
    frame = torch.full((POINTS,), query_frame)
    return choose_paths(candidates, frame, query_xy, flow, WORKING, jump_cost, JUMP_PX)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("query_frame", [0, 2, FRAMES - 1])
@pytest.mark.parametrize("jump_cost", [0.0, 0.4, 50.0])
def test_no_path_costs_less_than_the_chosen_one(seed, query_frame, jump_cost):
    case = random_case(seed)
    chosen = chosen_paths(case, query_frame, jump_cost)
    every = list(itertools.product(range(OPTIONS), repeat=FRAMES))
    for point in range(POINTS):
        costs = {path: cost_of(path, point, case, query_frame, jump_cost) for path in every}
        assert costs[tuple(chosen[point].tolist())] == pytest.approx(min(costs.values()), abs=1e-4)


def test_flow_decides_where_jumps_cost_and_similarity_alone_where_they_do_not():
    """Or the search could ignore flow, or see nothing else, and pass by chance."""
    case = random_case(0)
    free, costly = chosen_paths(case, 0, 0.0), chosen_paths(case, 0, 50.0)
    assert torch.equal(free[:, 1:], case[0].similarity.argmax(-1)[:, 1:])
    assert (free[:, 1:] != costly[:, 1:]).any(1).all()


def test_points_with_different_query_frames_are_searched_together_as_alone():
    case = random_case(1)
    candidates, query_xy, flow = case
    frames = torch.tensor([0, 2, FRAMES - 1, 1])
    together = choose_paths(candidates, frames, query_xy, flow, WORKING, 0.4, JUMP_PX)
    for point, query_frame in enumerate(frames.tolist()):
        alone = chosen_paths(case, query_frame, 0.4)[point]
        others = torch.arange(FRAMES) != query_frame
        assert torch.equal(together[point, others], alone[others])


def test_a_point_needs_no_candidate_in_its_query_frame():
    candidates, query_xy, flow = random_case(2)
    similarity = candidates.similarity.clone()
    similarity[:, 2] = -math.inf
    wanted = chosen_paths((candidates, query_xy, flow), 2, 0.4)
    found = chosen_paths((Candidates(candidates.xy, similarity), query_xy, flow), 2, 0.4)
    others = torch.arange(FRAMES) != 2
    assert torch.equal(found[:, others], wanted[:, others])
