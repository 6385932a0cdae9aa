"""Following points: the least uncertain of flows and matches, against plain references and known motion."""

import dataclasses
import itertools
import math

import pytest
import torch

from t4g_tracker.datatypes import FlowFields
from t4g_tracker.motion.fields import pairs_over_gaps
from t4g_tracker.motion.following import Matches, Motion, follow
from t4g_tracker.motion.settings import MotionConfig

STEP_COST = 0.02
MOTION = MotionConfig(step_cost=STEP_COST, jump_cost=0)
BAR = {"bar_px": 28.0, "bar_left_px": -30.0, "bar_speed_px": 7.0}  # passes a point at x=50 in frames 8 to 11


def random_fields(frame_count, gaps, seed, size, constant):
    """Flow that nearly leads back, and differs from pair to pair and, unless ``constant``, pixel to pixel."""
    generator = torch.Generator().manual_seed(seed)
    pairs = pairs_over_gaps(frame_count, gaps)
    shape = (len(pairs), 2, *((1, 1) if constant else size))
    there = torch.randn(shape, generator=generator) * 2
    back = torch.randn(shape, generator=generator) - there
    return FlowFields(torch.tensor(pairs), *(flow.expand(len(pairs), 2, *size) for flow in (there, back)))


def chains(begin, end, gaps):
    """Every way from one frame to another over the gaps, as a list of frames."""
    if begin == end:
        return [[end]]
    way = 1 if end > begin else -1
    found = []
    for gap in gaps:
        if gap <= abs(end - begin):
            found += [[begin, *rest] for rest in chains(begin + way * gap, end, gaps)]
    return found


@pytest.mark.parametrize("frame", [0, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_no_chain_of_gaps_costs_less_than_the_one_kept(frame, seed):
    """Flow is the same all over a frame, so that the cost of a step does not depend on those before it."""
    frame_count, gaps, size = 8, (1, 2, 5), (16, 24)
    fields = random_fields(frame_count, gaps, seed, size, constant=True)
    begin = torch.tensor([10.0, 7.0])
    found = follow(frame, begin[None], frame_count, [fields], size, MOTION)
    for target in range(frame_count):
        every = []
        for chain in chains(frame, target, gaps):
            xy, cost = begin, 0.0
            for here, there in itertools.pairwise(chain):
                step, back = (fields.between(*ways)[:, 0, 0] for ways in ((here, there), (there, here)))
                xy, cost = xy + step, cost + float((step + back).square().sum()) + STEP_COST
            every.append((cost, xy))
        cost, xy = min(every, key=lambda each: each[0])
        assert found.cost[0, target].item() == pytest.approx(cost, rel=1e-4, abs=1e-6)
        torch.testing.assert_close(found.xy[0, target], xy, atol=1e-3, rtol=0)


def carried(flow, x, y, size):
    """Where a flow (2, h, w) takes a position in pixels of ``size``: bilinear, the border repeated."""
    height, width = flow.shape[1:]
    across, down = width / size[1], height / size[0]
    column = min(max((x + 0.5) * across - 0.5, 0), width - 1)
    row = min(max((y + 0.5) * down - 0.5, 0), height - 1)
    dx = dy = 0.0
    for r in {math.floor(row), min(math.floor(row) + 1, height - 1)}:
        for c in {math.floor(column), min(math.floor(column) + 1, width - 1)}:
            share = (1 - abs(row - r)) * (1 - abs(column - c))
            dx += share * float(flow[0, r, c])
            dy += share * float(flow[1, r, c])
    return x + dx / across, y + dy / down


def followed_plainly(frame, xy, frame_count, fields, size, matches):
    """Positions and costs of one point, by the definition in the docstring of ``follow``."""
    place, cost = {frame: tuple(xy)}, {frame: 0.0}
    for target in [*range(frame + 1, frame_count), *range(frame - 1, -1, -1)]:
        options = []
        for flow, source in itertools.product(fields, range(frame_count)):
            between = frame <= source < target or target < source <= frame
            if between and flow.has(source, target):
                there = carried(flow.between(source, target), *place[source], size)
                back = carried(flow.between(target, source), *there, size)
                missed = math.dist(back, place[source])
                options.append((cost[source] + missed**2 + STEP_COST, there))
        options += [
            (float(matches.cost[target, k]), tuple(matches.xy[target, k].tolist()))
            for k in range(matches.xy.shape[1])
        ]
        cost[target], place[target] = min(options)
    return place, cost


@pytest.mark.parametrize("frame", [0, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_of_flows_and_matches_the_cheapest_is_kept_whatever_size_flow_has(frame, seed):
    frame_count, size, points, options = 6, (24, 40), 5, 2
    over_gaps = random_fields(frame_count, (1, 2), seed, (12, 30), constant=False)
    direct = random_fields(frame_count, (4,), seed + 10, (12, 30), constant=False)
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]])
    xy = torch.rand(points, 2, generator=generator) * extent
    cost = torch.rand(points, frame_count, options, generator=generator) * 20
    cost[cost > 12] = torch.inf
    matches = Matches(torch.rand(points, frame_count, options, 2, generator=generator) * extent, cost)
    fields = [over_gaps, direct]
    found = follow(frame, xy, frame_count, fields, size, MOTION, matches)
    for n in range(points):
        mine = Matches(matches.xy[n], matches.cost[n])
        place, costs = followed_plainly(frame, xy[n].tolist(), frame_count, fields, size, mine)
        for t in range(frame_count):
            assert found.cost[n, t].item() == pytest.approx(costs[t], rel=1e-3, abs=1e-4)
            assert found.xy[n, t].tolist() == pytest.approx(place[t], abs=1e-3)


@pytest.mark.parametrize("matched", [False, True])
def test_points_followed_in_parts_are_those_followed_together(monkeypatch, matched):
    frame_count, size, points = 6, (24, 40), 11
    fields = [random_fields(frame_count, (1, 2), 0, (12, 30), constant=False)]
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand(points, 2, generator=generator) * torch.tensor([size[1], size[0]])
    looks = torch.rand(points, generator=generator) * 9
    matches = Matches(
        xy[:, None, None] + torch.randn(points, frame_count, 2, 2, generator=generator),
        torch.rand(points, frame_count, 2, generator=generator) * 9,
        lambda rows, frame, place: looks[rows] * place[:, 0] / size[1],
    )
    found = []
    for some in (100, 4):
        monkeypatch.setattr("t4g_tracker.motion.following.POINTS_AT_ONCE", some)
        monkeypatch.setattr("t4g_tracker.motion.following.MATCHED_AT_ONCE", some)
        found.append(follow(2, xy, frame_count, fields, size, MOTION, matches if matched else None))
    torch.testing.assert_close(found[0].xy, found[1].xy, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[0].cost, found[1].cost, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("frame", "x"), [(0, 50.0), (19, 59.5)])
def test_a_point_is_found_again_behind_a_bar_by_larger_gaps_and_carried_away_by_neighbouring_flow(
    slide, frame, x
):
    clip = slide(20, velocity=(0.5, 0.0), **BAR)
    begin = torch.tensor([[x, 30.0]])
    true_x = 50 + 0.5 * torch.arange(20.0)
    end = 19 - frame

    def followed(*gaps):
        return follow(frame, begin, 20, [clip.flow_over(*gaps)], clip.size, MOTION)

    near, far = followed(1), followed(1, 2, 4, 8)
    assert (near.xy[0, end, 0] - true_x[end]).abs() > 20
    shown = torch.stack([~clip.covered(torch.tensor([true_x[t], 30.0]), t) for t in range(20)])
    assert 3 <= (~shown).sum() <= 6  # the bar does pass
    assert (far.xy[0, shown, 0] - true_x[shown]).abs().max() < 0.1
    assert far.cost[0, shown].max() < 1 < far.cost[0, ~shown].min()


def constant_motion(frame_count, size=(32, 64), velocity=(1.0, 0.0)):
    """Flow between neighbouring frames that is exact both ways."""
    there = torch.tensor(velocity).view(1, 2, 1, 1).expand(frame_count - 1, 2, *size)
    return FlowFields.of_neighbours(there, -there)


def one_match(frame_count, frame, xy, cost):
    """A match in one frame alone."""
    costs = torch.full((1, frame_count, 1), torch.inf)
    costs[0, frame] = cost
    return Matches(torch.tensor(xy).expand(1, frame_count, 1, 2), costs)


def test_a_match_that_is_cheaper_than_flow_is_taken_and_flow_goes_on_from_it():
    begin, flow = torch.tensor([[10.0, 8.0]]), constant_motion(8)
    along = 10 + torch.arange(8.0)
    for cost, taken in ((0.059, True), (0.061, False)):  # three flows cost 0.06
        matches = one_match(8, 3, [40.0, 20.0], cost)
        found = follow(0, begin, 8, [flow], (32, 64), MOTION, matches)
        from_match = torch.arange(8) >= 3 if taken else torch.zeros(8, dtype=torch.bool)
        wanted = torch.where(from_match, 40 + torch.arange(8.0) - 3, along)
        torch.testing.assert_close(found.xy[0, :, 0], wanted, atol=1e-4, rtol=0)
        expected = 0.059 + 4 * STEP_COST if taken else 7 * STEP_COST
        assert found.cost[0, 7].item() == pytest.approx(expected, abs=1e-5)


def test_the_query_point_itself_is_never_replaced_by_a_match():
    xy, matches = torch.tensor([[10.0, 8.0]]), one_match(5, 2, [3.0, 3.0], 0.0)
    found = follow(2, xy, 5, [constant_motion(5)], (32, 64), MOTION, matches)
    assert found.xy[0, 2].tolist() == [10.0, 8.0]
    assert found.cost[0, 2] == 0


def test_nothing_is_followed_beyond_its_reach():
    found = follow(4, torch.tensor([[20.0, 8.0]]), 12, [constant_motion(12)], (32, 64), MOTION, reach=3)
    assert torch.isfinite(found.cost[0]).nonzero().flatten().tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_points_with_different_query_frames_are_followed_together_as_alone():
    frame_count, size = 7, (24, 40)
    motion = Motion(
        random_fields(frame_count, (1, 3), 0, (12, 30), constant=False),
        MOTION,
        lambda frame: random_fields(frame_count, (5,), frame, (12, 30), constant=False),
    )
    generator = torch.Generator().manual_seed(0)
    frame = torch.tensor([3, 0, 6, 3, 5, 0])
    xy = torch.rand(6, 2, generator=generator) * torch.tensor([40.0, 24.0])
    together = motion.follow(frame, xy, frame_count, size)
    for n in range(6):
        alone = motion.follow(frame[n : n + 1], xy[n : n + 1], frame_count, size)
        for part in ("xy", "cost"):
            torch.testing.assert_close(getattr(together, part)[n], getattr(alone, part)[0])


def test_flow_straight_from_the_query_frame_is_asked_for_once_a_frame_and_used():
    """On the way to frame 5, neighbouring flow is exact but for one step that does not lead back."""
    flow = constant_motion(6)
    back = flow.backward.clone()
    back[3] += 5  # from frame 4 to frame 3
    asked = []

    def from_query(frame):
        asked.append(frame)
        pairs = torch.tensor([[min(frame, 5), max(frame, 5)]])[: frame != 5]
        there = torch.tensor([4.5, 0.0]).view(1, 2, 1, 1).expand(len(pairs), 2, 32, 64)
        return FlowFields(pairs, there, -there)

    motion = Motion(dataclasses.replace(flow, backward=back), MOTION, from_query)
    frame, xy = torch.tensor([1, 1, 0]), torch.tensor([[10.0, 8.0], [20.0, 9.0], [30.0, 8.0]])
    found = motion.follow(frame, xy, 6, (32, 64))
    assert sorted(asked) == [0, 1]
    assert found.xy[:, 5, 0].tolist() == pytest.approx([14.5, 24.5, 34.5])
    assert (found.cost[:, 5] == STEP_COST).all()
    without = dataclasses.replace(motion, from_query=None).follow(frame, xy, 6, (32, 64))
    assert without.xy[:, 5, 0].tolist() == pytest.approx([14.0, 24.0, 35.0])
    assert without.cost[:, 5].min() > 25


def test_looks_and_jumps_count_in_choosing_and_are_not_carried_on():
    begin, nowhere = torch.tensor([[10.0, 8.0]]), one_match(6, 3, [40.0, 20.0], 1e6)
    matches = dataclasses.replace(
        nowhere, unlikeness=lambda points, frame, xy: torch.full((len(points),), 5.0)
    )
    config = MotionConfig(step_cost=STEP_COST, jump_cost=3.0)
    found = follow(0, begin, 6, [constant_motion(6)], (32, 64), config, matches)
    torch.testing.assert_close(found.cost[0], STEP_COST * torch.arange(6.0))


@pytest.mark.parametrize(("jump_cost", "jumps"), [(0.0, True), (1.0, False)])
def test_a_point_does_not_jump_between_two_chains_of_larger_gaps(jump_cost, jumps):
    """Neighbouring flow is right but for a cycle error; flow over two frames is 4 px off and sure."""
    first = torch.arange(7)
    pairs = torch.cat([torch.stack([first, first + 1], 1), torch.stack([first[:6], first[:6] + 2], 1)])
    gap = (pairs[:, 1] - pairs[:, 0]).view(-1, 1, 1, 1)
    right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(len(pairs), 2, 32, 96)
    forward = torch.where(gap == 1, right, 6 * right)
    backward = torch.where(gap == 1, -1.3 * right, -6 * right)
    config = MotionConfig(step_cost=STEP_COST, jump_cost=jump_cost)
    fields = [FlowFields(pairs, forward, backward)]
    found = follow(0, torch.tensor([[10.0, 8.0]]), 8, fields, (32, 96), config)
    steps = found.xy[0].diff(dim=0)[:, 0]
    assert bool((steps.abs() > 3).any()) == jumps
    if not jumps:
        torch.testing.assert_close(found.xy[0, :, 0], 10 + torch.arange(8.0))
